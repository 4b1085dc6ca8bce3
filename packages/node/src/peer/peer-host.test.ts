import { connect, type Socket } from 'node:net';
import { expect, test } from '@jest/globals';
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys';
import { MeshError } from '@meridian/shared/errors';
import { NodeStatus } from '@meridian/shared/generated/meridian/v1/trust';
import { silentLog } from '@meridian/shared/log';
import { systemClock } from '@meridian/shared/platform/clock';
import { openPeerHost, type PeerHost, type PeerStream } from './peer-host.ts';
import { openTestNetwork, type TestMember } from './test-network.ts';

const ECHO = '/meridian/test-echo/1.0.0';

async function echo(stream: PeerStream): Promise<void> {
  for await (const frame of stream.messages()) if (!stream.send(frame)) await stream.drained();
}

async function reasonOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'no error',
    (error: unknown) => (error instanceof MeshError ? error.reason : String(error)),
  );
}

async function roundTrip(from: TestMember, to: TestMember, payload: Uint8Array): Promise<Uint8Array> {
  const stream = await from.host.dial(to.nodeId, ECHO);
  try {
    stream.send(payload);
    for await (const frame of stream.messages()) return Buffer.from(frame);
    throw new MeshError('UNAVAILABLE', 'PEER_GONE', 'no answer');
  } finally {
    await stream.close();
  }
}

test('listed members exchange frames of every size, and a slow reader holds the writer back', async () => {
  const network = await openTestNetwork(2);
  const [a, b] = network.members as [TestMember, TestMember];
  try {
    await b.host.handle(ECHO, echo);
    for (const size of [1, 127, 128, 16_383, 16_384, 300_000, 1_048_576])
      expect((await roundTrip(a, b, Buffer.alloc(size, size & 0xff))).length).toBe(size);

    let sentBytes = 0;
    let stopped = false;
    await b.host.handle('/meridian/test-flood/1.0.0', async (stream) => {
      for await (const hello of stream.messages()) {
        void hello;
        while (!stopped && !stream.closed.aborted) {
          const more = stream.send(Buffer.alloc(262_144));
          sentBytes += 262_144;
          if (!more) await stream.drained();
        }
        return;
      }
    });
    const stream = await a.host.dial(b.nodeId, '/meridian/test-flood/1.0.0');
    try {
      stream.send(Buffer.of(1));
      const reader = stream.messages()[Symbol.asyncIterator]();
      await reader.next();
      let last = -1;
      // Settled when two looks half a second apart see the same: the writer is waiting.
      while (last !== sentBytes) {
        last = sentBytes;
        await systemClock.sleep(500);
      }
      expect(sentBytes).toBeLessThan(32 * 1024 * 1024);
      const before = sentBytes;
      for (let frames = 0; frames < 200; frames += 1) await reader.next();
      expect(sentBytes).toBeGreaterThan(before);
      stopped = true;
    } finally {
      await stream.close();
    }
  } finally {
    await network.close();
  }
});

test('only listed, active peers are admitted, and one that leaves the list is cut at once', async () => {
  const network = await openTestNetwork(2);
  const [a, b] = network.members as [TestMember, TestMember];
  const stranger = await network.add(false);
  try {
    let served = 0;
    for (const member of network.members) {
      await member.host.handle(ECHO, async (stream) => {
        served += 1;
        await echo(stream);
      });
    }
    // An unlisted dialer knows everybody and is refused by the other side; nobody dials an unlisted one.
    expect(['PEER_UNREACHABLE', 'PEER_GONE']).toContain(await reasonOf(roundTrip(stranger, b, Buffer.of(1))));
    expect(await reasonOf(roundTrip(a, stranger, Buffer.of(1)))).toBe('PEER_NOT_LISTED');
    expect(served).toBe(0);

    expect(await roundTrip(a, b, Buffer.of(7))).toEqual(Buffer.of(7));
    const running = await a.host.dial(b.nodeId, ECHO);
    network.setStatus(a.nodeId, NodeStatus.NODE_STATUS_REVOKED);
    await new Promise((resolve) => (running.closed.aborted ? resolve(undefined) : running.closed.addEventListener('abort', resolve)));
    expect(b.host.connectedNodes()).toEqual([]);
    expect(['PEER_UNREACHABLE', 'PEER_GONE', 'PEER_NOT_LISTED']).toContain(await reasonOf(roundTrip(a, b, Buffer.of(1))));
    expect(served).toBe(2);
  } finally {
    await network.close();
  }
});

test('a peer whose key is another than the list names is not talked to, and raw noise on the port ends soon', async () => {
  const network = await openTestNetwork(2);
  const [a, b] = network.members as [TestMember, TestMember];
  const impostor = await openPeerHost({
    federation: { peerPrivateKey: new Uint8Array(32).fill(99), trust: () => undefined },
    config: { host: '127.0.0.1', port: 0 },
    clock: systemClock,
    log: silentLog,
  });
  try {
    await b.host.handle(ECHO, echo);
    const entry = network.entries.get(b.nodeId)!;
    network.entries.set(b.nodeId, { ...entry, addresses: impostor.addresses.map((address) => address.replace(/\/p2p\/.*/, '')) });
    expect(await reasonOf(roundTrip(a, b, Buffer.of(1)))).toBe('PEER_UNREACHABLE');
    network.entries.set(b.nodeId, entry);

    const port = Number(/\/tcp\/(\d+)/.exec(b.host.addresses[0]!)?.[1]);
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => undefined);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.write(Buffer.alloc(100_000, 0xff));
    socket.resume();
    await closed;
    expect(await roundTrip(a, b, Buffer.of(9))).toEqual(Buffer.of(9));
  } finally {
    await impostor.close();
    await network.close();
  }
});

test('idle sockets of a stranger leave room for members, and one peer cannot take every connection', async () => {
  const network = await openTestNetwork(2);
  const [a, b] = network.members as [TestMember, TestMember];
  const sockets = new Set<Socket>();
  const twins: PeerHost[] = [];
  let stopped = false;
  const open = (): void => {
    if (stopped) return;
    const socket = connect({ host: '127.0.0.1', port: b.host.port, localAddress: '127.0.0.2' });
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => {
      sockets.delete(socket);
      setTimeout(open, 100);
    });
  };
  try {
    await b.host.handle(ECHO, echo);
    for (let count = 0; count < 60; count += 1) open();
    await systemClock.sleep(300);
    for (let tries = 0; tries < 5; tries += 1) {
      a.host.disconnect(b.nodeId);
      expect(await roundTrip(a, b, Buffer.of(tries))).toEqual(Buffer.of(tries));
      await systemClock.sleep(200);
    }
    // Those that hold a place say nothing, and lose it.
    const held = connect({ host: '127.0.0.1', port: b.host.port, localAddress: '127.0.0.3' });
    held.on('error', () => undefined);
    held.resume();
    const since = performance.now();
    await new Promise((resolve) => held.once('close', resolve));
    expect(performance.now() - since).toBeLessThan(4_000);

    stopped = true;
    for (const socket of sockets) socket.destroy();
    const trust = () => ({
      expiresAtEpochMs: Date.now() + 3_600_000,
      entries: network.entries,
      byPeerId: (peerId: string) => [...network.entries.values()].find((entry) => entry.peerId === peerId),
    });
    for (let count = 0; count < 6; count += 1) {
      const twin = await openPeerHost({
        federation: { peerPrivateKey: a.seed, trust },
        config: { host: '127.0.0.1', port: 0 },
        clock: systemClock,
        log: silentLog,
      });
      twins.push(twin);
      await twin.dial(b.nodeId, ECHO);
    }
    const connected = (): boolean[] => twins.map((twin) => twin.connectedNodes().includes(b.nodeId));
    for (let looks = 0; looks < 100 && connected().filter(Boolean).length > 3; looks += 1) await systemClock.sleep(20);
    // The newest stay.
    expect(connected()).toEqual([false, false, false, true, true, true]);
  } finally {
    stopped = true;
    for (const socket of sockets) socket.destroy();
    await Promise.all(twins.map((twin) => twin.close()));
    await network.close();
  }
});

test('frames above the limit, a silent peer and an end within a frame have their own plain ends', async () => {
  const network = await openTestNetwork(2);
  const [a, b] = network.members as [TestMember, TestMember];
  const seen: string[] = [];
  try {
    await b.host.handle(
      ECHO,
      async (stream) => {
        seen.push(await reasonOf(echo(stream)));
      },
      { maxFrameBytes: 1000, idleTimeoutMs: 300 },
    );
    expect(await reasonOf(roundTrip(a, b, Buffer.alloc(1001)))).toBe('PEER_GONE');
    const silent = await a.host.dial(b.nodeId, ECHO);
    const answer = silent.messages()[Symbol.asyncIterator]();
    expect(await reasonOf(answer.next())).toBe('PEER_GONE');
    await silent.close();
    expect(seen).toEqual(['FRAME_TOO_LARGE', 'PEER_SILENT']);
  } finally {
    await network.close();
  }
});

test('a taken port is refused in words', async () => {
  const network = await openTestNetwork(1);
  try {
    const port = Number(/\/tcp\/(\d+)/.exec(network.members[0]!.host.addresses[0]!)?.[1]);
    await expect(
      openPeerHost({
        federation: {
          peerPrivateKey: (await generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(5))).raw.subarray(0, 32),
          trust: () => undefined,
        },
        config: { host: '127.0.0.1', port },
        clock: systemClock,
        log: silentLog,
      }),
    ).rejects.toMatchObject({ reason: 'PEER_PORT_IN_USE' });
  } finally {
    await network.close();
  }
});
