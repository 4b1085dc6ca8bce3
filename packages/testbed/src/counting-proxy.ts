import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** A TCP proxy between two nodes that counts what passes, and can be shut. */
export interface CountingProxy {
  readonly port: number;
  /** Bytes from the target to the dialer since the proxy opened. */
  bytesToDialer(): number;
  /** Where connections go from now on. */
  aim(port: number): void;
  /** Ends what is open and refuses new connections until opened again. */
  shut(): void;
  open(): void;
  close(): Promise<void>;
}

/** Listens on a free loopback port. */
export async function openCountingProxy(): Promise<CountingProxy> {
  let target = 0;
  let isOpen = true;
  let counted = 0;
  const sockets = new Set<Socket>();
  const server = createServer((dialer) => {
    if (!isOpen || target === 0) return void dialer.destroy();
    const onward = connect({ host: '127.0.0.1', port: target, noDelay: true });
    dialer.setNoDelay(true);
    for (const [from, to] of [
      [dialer, onward],
      [onward, dialer],
    ] as const) {
      sockets.add(from);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        sockets.delete(from);
        to.destroy();
      });
      from.on('data', (chunk: Buffer) => {
        if (from === onward) counted += chunk.length;
        if (!to.write(chunk)) {
          from.pause();
          to.once('drain', () => from.resume());
        }
      });
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const endAll = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    port: (server.address() as AddressInfo).port,
    bytesToDialer: () => counted,
    aim: (port) => {
      target = port;
    },
    shut: () => {
      isOpen = false;
      endAll();
    },
    open: () => {
      isOpen = true;
    },
    close: async () => {
      isOpen = false;
      endAll();
      server.close();
      await once(server, 'close');
    },
  };
}
