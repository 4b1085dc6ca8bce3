import type { MultiaddrConnection } from '@libp2p/interface';
import type { Clock } from '@meridian/shared/platform/clock';

/** Accepted sockets whose other end has not proved its key yet. */
export interface PendingLimit {
  /** @returns false where the address has as many already: it is to be turned away. */
  begin(socket: MultiaddrConnection): boolean;
  /** The other end has proved its key, listed or not. */
  proved(socket: MultiaddrConnection): void;
}

/** Lets one address have at most `perAddress` of them at a time, each for at most `timeoutMs`. */
export function openPendingLimit(parts: { readonly clock: Clock; readonly perAddress: number; readonly timeoutMs: number }): PendingLimit {
  const byAddress = new Map<string, Map<MultiaddrConnection, { cancel(): void }>>();

  function end(socket: MultiaddrConnection): void {
    const address = addressOf(socket);
    const sockets = byAddress.get(address);
    sockets?.get(socket)?.cancel();
    sockets?.delete(socket);
    if (sockets?.size === 0) byAddress.delete(address);
  }

  return {
    begin(socket) {
      const address = addressOf(socket);
      const sockets = byAddress.get(address) ?? new Map<MultiaddrConnection, { cancel(): void }>();
      if (sockets.size >= parts.perAddress) return false;
      byAddress.set(address, sockets);
      sockets.set(
        socket,
        parts.clock.after(parts.timeoutMs, () => socket.abort(new Error('no key was proved in time'))),
      );
      socket.addEventListener('close', () => end(socket), { once: true });
      return true;
    },
    proved: end,
  };
}

function addressOf(socket: MultiaddrConnection): string {
  return socket.remoteAddr.toString().replace(/\/tcp\/.*$/, '');
}
