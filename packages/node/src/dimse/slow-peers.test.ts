import { expect, test } from '@jest/globals';
import { silentLog } from '@meridian/shared/log';
import { systemClock } from '@meridian/shared/platform/clock';
import { openDimse, type AeRule, type DimseServer } from './dimse-server.ts';
import { encodeItem, PDU } from './pdu.ts';
import { dataSet, until, withDoor } from './testing/door.ts';
import { FakeClock } from './testing/fake-clock.ts';
import { MemoryIngest } from './testing/memory-ingest.ts';
import { associateRequest, dataPdu, echoCommand, EXPLICIT_LITTLE, RawPeer, RELEASE, storeCommand } from './testing/raw-peer.ts';

test('a store that is full stops the socket; nothing piles up here', async () => {
  await withDoor(async ({ ingest, associated }) => {
    ingest.fullAfterBytes = 100_000;
    const sender = await associated();
    const block = Buffer.alloc(100_000, 5);
    sender.send(dataPdu(1, 3, storeCommand()));
    for (let at = 0; at < 300; at += 1) sender.send(dataPdu(1, at === 299 ? 2 : 0, block));
    await until(() => sender.socket.writableLength > 0 && ingest.begun === 1);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(sender.socket.writableLength).toBeGreaterThan(1_000_000);
    expect(ingest.bytesWhileFull).toBeLessThan(300_000);
    ingest.drain();
    expect(await sender.response()).toMatchObject({ status: 0 });
    expect(ingest.received[0]?.bytes.length).toBe(30_000_000);
  });
});

test('a hasty peer: requests and a release sent before the answer are served in order; a half-closed sender gets its answer', async () => {
  await withDoor(async ({ ingest, associated, server }) => {
    let open = (): void => undefined;
    ingest.gate = new Promise((resolve) => (open = resolve));
    const hasty = await associated();
    for (let at = 0; at < 50; at += 1) hasty.send(dataPdu(1, 3, storeCommand({ messageId: at })), dataPdu(1, 2, dataSet));
    hasty.send(RELEASE);
    hasty.socket.end();
    await until(() => ingest.begun === 1);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(ingest.begun).toBe(1);
    open();
    const answers = await hasty.rest();
    expect(answers.map((pdu) => pdu.type)).toEqual([...Array.from({ length: 50 }, () => PDU.DATA), PDU.RELEASE_RP]);
    expect(ingest.received.length).toBe(50);
    await until(() => server.associations() === 0);
    expect(ingest.events.at(-1)).toMatch(/^released/);
  });
});

test('a peer that sends and never reads its answers is stopped', async () => {
  const clock = new FakeClock();
  await withDoor(
    async ({ server, associated }) => {
      const deaf = await associated(
        associateRequest({ contexts: [{ id: 1, abstractSyntaxUid: '1.2.840.10008.1.1', transferSyntaxUids: [EXPLICIT_LITTLE] }] }),
      );
      deaf.socket.pause();
      const many = Buffer.concat(Array.from({ length: 1000 }, () => dataPdu(1, 3, echoCommand())));
      for (let at = 0; at < 300; at += 1) deaf.send(many);
      await new Promise((resolve) => setTimeout(resolve, 300));
      expect(deaf.socket.writableLength).toBeGreaterThan(100_000);
      // A slow machine reaches the wait for the peer later: time goes on until it has.
      await until(() => {
        clock.advance(61_000);
        return server.associations() === 0;
      });
    },
    { clock },
  );
});

test('slow peers: each wait of the protocol has an end', async () => {
  const clock = new FakeClock();
  await withDoor(
    async ({ server, ingest, peer, associated }) => {
      // A request of 5,000 bytes, one byte a second: ARTIM counts from the connection, not from the last byte.
      const loris = await peer();
      const long = associateRequest({ extraUserItems: [encodeItem(0x58, Buffer.alloc(5000))] });
      let closed = false;
      loris.socket.once('close', () => (closed = true));
      for (let second = 0; second < 31 && !closed; second += 1) {
        loris.send(long.subarray(second, second + 1));
        await new Promise((resolve) => setTimeout(resolve, 2));
        clock.advance(1000);
      }
      expect(await loris.rest()).toEqual([]);

      // A PDU begun and not ended, one byte a second; and a message whose next PDU does not come.
      const trickle = await associated();
      const stuck = await associated();
      stuck.send(dataPdu(1, 3, storeCommand()), dataPdu(1, 0, dataSet));
      trickle.send(dataPdu(1, 3, storeCommand()));
      await until(() => ingest.begun === 2);
      const pdu = dataPdu(1, 2, Buffer.alloc(5000));
      for (let second = 0; second < 70; second += 1) {
        trickle.send(pdu.subarray(second, second + 1));
        await new Promise((resolve) => setTimeout(resolve, 2));
        clock.advance(1000);
      }
      expect(await trickle.abortReason()).toBe(0);
      expect(await stuck.abortReason()).toBe(0);
      await until(() => ingest.aborted === 2);

      // Idle is not slow: an association may rest for hours, and a slow disk is not the peer's fault.
      const idle = await associated();
      clock.advance(3_600_000);
      idle.send(dataPdu(1, 3, storeCommand()));
      let open = (): void => undefined;
      ingest.gate = new Promise((resolve) => (open = resolve));
      idle.send(dataPdu(1, 2, dataSet));
      await until(() => ingest.begun === 3);
      await new Promise((resolve) => setTimeout(resolve, 20));
      clock.advance(600_000);
      open();
      expect(await idle.response()).toMatchObject({ status: 0 });
      idle.send(RELEASE);
      expect((await idle.next())?.type).toBe(PDU.RELEASE_RP);
      // A peer that does not close after its release is closed.
      clock.advance(31_000);
      expect(await idle.next()).toBeUndefined();
      expect(server.associations()).toBe(0);
    },
    { clock },
  );
});

test('a flood of silent connections leaves room for a real sender', async () => {
  await withDoor(
    async ({ peer, associated, server }) => {
      const silent = await Promise.all(Array.from({ length: 500 }, () => peer()));
      for (const connection of silent) connection.send(Buffer.of(1));
      const sender = await associated();
      sender.send(dataPdu(1, 3, storeCommand()), dataPdu(1, 2, dataSet));
      expect(await sender.response()).toMatchObject({ status: 0 });
      expect(server.associations()).toBe(1);
      await until(() => silent.filter((connection) => !connection.socket.destroyed && connection.socket.readable).length <= 20);
    },
    { limits: { waitingConnections: 20 } },
  );
});

test('closing the door lets an object on its way finish, then aborts', async () => {
  const ingest = new MemoryIngest();
  const server = await openDimse({
    config: { host: '127.0.0.1', port: 0, aeTitle: 'MERIDIAN', assigningAuthority: 'A', allow: [] },
    ingest,
    clock: systemClock,
    log: silentLog,
  });
  const [busy, idle] = [await RawPeer.connect(server.port), await RawPeer.connect(server.port)];
  try {
    for (const peer of [busy, idle]) {
      peer.send(associateRequest());
      await peer.next();
    }
    busy.send(dataPdu(1, 3, storeCommand()), dataPdu(1, 0, dataSet));
    await until(() => ingest.begun === 1);
    const closed = server.close();
    expect(await idle.next()).toMatchObject({ type: PDU.ABORT });
    idle.close();
    busy.send(dataPdu(1, 2, dataSet));
    expect(await busy.response()).toMatchObject({ status: 0 });
    expect(await busy.next()).toMatchObject({ type: PDU.ABORT });
    busy.close();
    await closed;
    expect(ingest.received.length).toBe(1);
  } finally {
    busy.close();
    idle.close();
    await server.close();
  }
});

test('the door opens beyond this machine only with a list of who may come, and says so plainly', async () => {
  const open = (config: { host?: string; port?: number; aeTitle?: string; allow?: readonly AeRule[] }): Promise<DimseServer> =>
    openDimse({
      config: { host: '127.0.0.1', port: 0, aeTitle: 'MERIDIAN', assigningAuthority: 'A', allow: [], ...config },
      ingest: new MemoryIngest(),
      clock: systemClock,
      log: silentLog,
    });
  await expect(open({ host: '0.0.0.0' })).rejects.toMatchObject({ reason: 'DIMSE_ALLOW_LIST_MISSING' });
  await expect(open({ host: '::' })).rejects.toMatchObject({ reason: 'DIMSE_ALLOW_LIST_MISSING' });
  await expect(open({ aeTitle: 'LONGER THAN SIXTEEN' })).rejects.toMatchObject({ reason: 'AE_TITLE_INVALID' });
  await expect(open({ allow: [{ address: 'ct.hospital', assigningAuthority: 'A' }] })).rejects.toMatchObject({ reason: 'AE_RULE_ADDRESS' });
  const server = await open({ host: '0.0.0.0', allow: [{ address: '127.0.0.1', assigningAuthority: 'A' }] });
  try {
    await expect(open({ port: server.port })).rejects.toMatchObject({ reason: 'PORT_IN_USE' });
  } finally {
    await server.close();
  }
});
