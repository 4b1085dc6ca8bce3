import { expect, test } from '@jest/globals';
import { MeshError } from '@meridian/shared/errors';
import { silentLog } from '@meridian/shared/log';
import { systemClock, type Clock } from '@meridian/shared/platform/clock';
import { openDimse, type AeRule, type DimseServer } from './dimse-server.ts';
import type { DimseLimits } from './limits.ts';
import { encodeItem, encodePdu, PDU } from './pdu.ts';
import { FakeClock } from './testing/fake-clock.ts';
import { MemoryIngest } from './testing/memory-ingest.ts';
import { associateRequest, command, CT, dataPdu, echoCommand, EXPLICIT_LITTLE, pdv, RawPeer, RELEASE, storeCommand, wholeStream, type Propose } from './testing/raw-peer.ts';

interface Door {
  readonly server: DimseServer;
  readonly ingest: MemoryIngest;
  peer(): Promise<RawPeer>;
  /** A peer with an accepted association. */
  associated(request?: Buffer): Promise<RawPeer>;
}

async function withDoor(body: (door: Door) => Promise<void>, options: { clock?: Clock; limits?: Partial<DimseLimits>; allow?: readonly AeRule[] } = {}): Promise<void> {
  const ingest = new MemoryIngest();
  const server = await openDimse({
    config: {
      host: '127.0.0.1',
      port: 0,
      aeTitle: 'MERIDIAN',
      assigningAuthority: 'HOSPITAL-A',
      allow: options.allow ?? [],
      limits: { associationsPerAddress: 100, closeMs: 500, ...options.limits },
    },
    ingest,
    clock: options.clock ?? systemClock,
    log: silentLog,
  });
  const peers: RawPeer[] = [];
  const peer = async (): Promise<RawPeer> => {
    const opened = await RawPeer.connect(server.port);
    peers.push(opened);
    return opened;
  };
  const associated = async (request = associateRequest()): Promise<RawPeer> => {
    const opened = await peer();
    opened.send(request);
    expect((await opened.next())?.type).toBe(PDU.ASSOCIATE_AC);
    return opened;
  };
  try {
    await body({ server, ingest, peer, associated });
  } finally {
    for (const opened of peers) opened.close();
    await server.close();
  }
}

const dataSet = Buffer.from(Array.from({ length: 5000 }, (_, at) => (at * 31) % 251));

/** Waits until what should become true is true; the test's own time limit bounds it. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

test('what was on the wire reaches the ingest byte for byte, with where it came from', async () => {
  await withDoor(async ({ ingest, peer }) => {
    for (const fragmentBytes of [1, 7, 1000, 5000]) {
      const sender = await peer();
      sender.send(wholeStream(dataSet, fragmentBytes));
      const answers = [await sender.next(), await sender.next(), await sender.next()];
      expect(answers.map((pdu) => pdu?.type)).toEqual([PDU.ASSOCIATE_AC, PDU.DATA, PDU.RELEASE_RP]);
      sender.close();
    }
    expect(ingest.received.map((object) => object.bytes.equals(dataSet))).toEqual([true, true, true, true]);
    expect(ingest.received[0]?.source).toMatchObject({
      door: 'dimse',
      transferSyntaxUid: EXPLICIT_LITTLE,
      assigningAuthority: 'HOSPITAL-A',
      callingAeTitle: 'MODALITY',
      address: '127.0.0.1',
      expected: { sopClassUid: CT, sopInstanceUid: '1.2.3.4' },
    });
    const id = ingest.received[0]?.source.associationId;
    expect(ingest.events.filter((event) => event.endsWith(id ?? '?'))).toEqual([`opened ${id}`, `active ${id}`, `released ${id}`]);
  });
});

test('every truncation of a valid association leaves no association, no half object and a door that still answers', async () => {
  await withDoor(async ({ server, ingest, peer, associated }) => {
    const stream = wholeStream(dataSet, 500);
    for (let cut = 0; cut < 200; cut += 1) {
      const sender = await peer();
      sender.send(stream.subarray(0, Math.floor((stream.length * cut) / 200)));
      sender.socket.end();
      const answers = await sender.rest();
      for (const answer of answers) expect([PDU.ASSOCIATE_AC, PDU.DATA, PDU.ABORT]).toContain(answer.type);
      sender.close();
    }
    await until(() => server.associations() === 0);
    for (const object of ingest.received) expect(object.bytes).toEqual(dataSet);
    expect(ingest.begun).toBe(ingest.received.length + ingest.aborted);
    expect(ingest.aborted).toBeGreaterThan(100);
    await associated();
  });
});

test('a lying or misplaced PDU is answered by A-ABORT at its header', async () => {
  const gigabyte = Buffer.from([PDU.DATA, 0, 0x40, 0, 0, 0]);
  const beforeAssociation: readonly (readonly [string, Buffer, number])[] = [
    ['a P-DATA of 1 GiB', gigabyte, 2],
    ['a request of 1 GiB', Buffer.from([PDU.ASSOCIATE_RQ, 0, 0x40, 0, 0, 0]), 6],
    ['a request of 1 MiB and one byte', Buffer.from([PDU.ASSOCIATE_RQ, 0, 0, 0x10, 0, 1]), 6],
    ['a request of no bytes', encodePdu(PDU.ASSOCIATE_RQ, Buffer.alloc(0)), 6],
    ['a request cut short', encodePdu(PDU.ASSOCIATE_RQ, associateRequest().subarray(6, 100)), 6],
    ['a PDU type nobody knows', Buffer.from([0x99, 0, 0, 0, 0, 0]), 1],
    ['a web browser', Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'), 1],
    ['a TLS hello', Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3]), 1],
    ['a release without an association', RELEASE, 2],
    ['an answer nobody asked for', encodePdu(PDU.ASSOCIATE_AC, Buffer.alloc(68)), 2],
    ['an even context id', associateRequest({ contexts: [{ id: 2, abstractSyntaxUid: CT, transferSyntaxUids: [EXPLICIT_LITTLE] }] }), 6],
    ['one context id twice', associateRequest({ contexts: [1, 1].map((id): Propose => ({ id, abstractSyntaxUid: CT, transferSyntaxUids: [EXPLICIT_LITTLE] })) }), 6],
    ['PDUs of 8 bytes at most', associateRequest({ pduBytes: 8 }), 6],
    ['a maximum length of 2 bytes', associateRequest({ extraUserItems: [encodeItem(0x51, Buffer.alloc(2))] }), 6],
    ['a role that runs past its item', associateRequest({ extraUserItems: [encodeItem(0x54, Buffer.from([0xff, 0xff, 1, 1]))] }), 6],
  ];
  const command1 = storeCommand();
  const inAssociation: readonly (readonly [string, Buffer, number])[] = [
    ['a P-DATA of 1 GiB', gigabyte, 6],
    ['a P-DATA one byte over the limit', Buffer.from([PDU.DATA, 0, 0, 2, 0, 1]), 6],
    ['a P-DATA of no bytes', encodePdu(PDU.DATA, Buffer.alloc(0)), 6],
    ['a PDV longer than its PDU', encodePdu(PDU.DATA, Buffer.from([0, 0, 1, 0, 1, 3, 0, 0])), 6],
    ['a PDV of 4 GiB', encodePdu(PDU.DATA, Buffer.from([0xff, 0xff, 0xff, 0xff, 1, 3, 0, 0])), 6],
    ['a PDV of one byte', encodePdu(PDU.DATA, Buffer.from([0, 0, 0, 1, 1, 3])), 6],
    ['bytes left over after a PDV', encodePdu(PDU.DATA, Buffer.concat([pdv(1, 1, command1), Buffer.alloc(3)])), 6],
    ['a context that was not accepted', dataPdu(3, 3, command1), 6],
    ['a data set without a command', dataPdu(1, 2, dataSet), 5],
    ['a command inside a data set', Buffer.concat([dataPdu(1, 3, command1), dataPdu(1, 0, dataSet), dataPdu(1, 3, command1)]), 5],
    ['a second request', associateRequest(), 2],
    ['a release answer (collision)', encodePdu(PDU.RELEASE_RP, new Uint8Array(4)), 2],
    ['a release inside a message', Buffer.concat([dataPdu(1, 3, command1), dataPdu(1, 0, dataSet), RELEASE]), 2],
    ['a release of 1 MiB', Buffer.from([PDU.RELEASE_RQ, 0, 0, 0x10, 0, 0]), 6],
    ['a command whose element runs past its end', dataPdu(1, 3, Buffer.concat([command1.subarray(0, 4), Buffer.from([0xf0, 0xff, 0xff, 0xff])])), 6],
    ['a command of another group', dataPdu(1, 3, Buffer.from([8, 0, 5, 0, 0, 0, 0, 0])), 6],
    ['a command without a command field', dataPdu(1, 3, command([[0x0110, 1]])), 6],
    ['a command of 70,000 bytes', dataPdu(1, 1, Buffer.alloc(70_000)), 6],
    ['a response to nothing', dataPdu(1, 3, command([[0x0100, 0x8001], [0x0120, 1], [0x0800, 0x0101], [0x0900, 0]])), 2],
  ];
  await withDoor(async ({ server, ingest, peer, associated }) => {
    for (const [what, bytes, reason] of beforeAssociation) {
      const sender = await peer();
      sender.send(bytes);
      expect([what, await sender.abortReason()]).toEqual([what, reason]);
      sender.close();
    }
    for (const [what, bytes, reason] of inAssociation) {
      const sender = await associated();
      sender.send(bytes);
      expect([what, await sender.abortReason()]).toEqual([what, reason]);
      sender.close();
    }
    await until(() => server.associations() === 0);
    expect(ingest.received).toEqual([]);
    expect(ingest.begun).toBe(ingest.aborted);
  });
});

test('5,000 seeded mutations of a valid association end in an answer or a closed connection, and leak no object', async () => {
  await withDoor(async ({ server, ingest, peer }) => {
    const valid = wholeStream(dataSet.subarray(0, 600), 200);
    let state = 20_240_601;
    const random = (below: number): number => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
      return Math.floor((state / 4_294_967_296) * below);
    };
    for (let round = 0; round < 250; round += 1) {
      await Promise.all(
        Array.from({ length: 20 }, async () => {
          const mutated = Buffer.from(valid);
          for (let change = 0; change <= random(4); change += 1) mutated[random(mutated.length)] = random(256);
          const sender = await peer();
          sender.send(mutated.subarray(0, random(4) === 0 ? random(mutated.length) : mutated.length));
          sender.socket.end();
          for (const answer of await sender.rest()) expect(answer.type).toBeGreaterThanOrEqual(PDU.ASSOCIATE_AC);
          sender.close();
        }),
      );
    }
    await until(() => server.associations() === 0);
    expect(ingest.begun).toBe(ingest.received.length + ingest.aborted);
    expect(ingest.received.length).toBeGreaterThan(500);
  });
});

test('who is not known or asks for somebody else is rejected with the reason of the standard', async () => {
  const rejection = async (door: Door, request: Buffer): Promise<readonly number[]> => {
    const peer = await door.peer();
    peer.send(request);
    const pdu = await peer.next();
    expect(pdu?.type).toBe(PDU.ASSOCIATE_RJ);
    expect(await peer.next()).toBeUndefined();
    return [...(pdu?.body.subarray(1) ?? [])];
  };
  await withDoor(async (door) => {
    expect(await rejection(door, associateRequest({ called: 'SOMEBODY' }))).toEqual([1, 1, 7]);
    expect(await rejection(door, associateRequest({ called: '' }))).toEqual([1, 1, 7]);
    expect(await rejection(door, associateRequest({ applicationContextUid: '1.2.3' }))).toEqual([1, 1, 2]);
    expect(await rejection(door, associateRequest({ protocolVersion: 2 }))).toEqual([1, 2, 2]);
    await door.associated(associateRequest({ called: '  MERIDIAN' }));
  });
  const allow: readonly AeRule[] = [
    { aeTitle: 'CT1', address: '10.0.0.0/8', assigningAuthority: 'NOBODY' },
    { aeTitle: 'CT1', address: '127.0.0.1', assigningAuthority: 'RADIOLOGY', nationalIdIn: 'patient-id' },
  ];
  await withDoor(
    async (door) => {
      expect(await rejection(door, associateRequest({ calling: 'CT2' }))).toEqual([1, 1, 3]);
      const known = await door.associated(associateRequest({ calling: 'CT1' }));
      known.send(dataPdu(1, 3, storeCommand()), dataPdu(1, 2, dataSet));
      expect(await known.response()).toMatchObject({ status: 0 });
      expect(door.ingest.received[0]?.source).toMatchObject({ assigningAuthority: 'RADIOLOGY', nationalIdIn: 'patient-id' });
    },
    { allow },
  );
  await withDoor(
    async (door) => {
      const [first] = [await door.associated(), await door.associated()];
      expect(await rejection(door, associateRequest())).toEqual([2, 3, 2]);
      first.send(RELEASE);
      expect((await first.next())?.type).toBe(PDU.RELEASE_RP);
      await door.associated();
    },
    { limits: { associationsPerAddress: 2 } },
  );
});

test('contexts: any storage class in the first syntax proposed; queries and shutdown are refused; a role is SCU only', async () => {
  await withDoor(async ({ peer }) => {
    const uids: readonly (readonly [string, readonly string[]])[] = [
      [CT, ['1.2.840.10008.1.2.4.201', EXPLICIT_LITTLE]],
      ['1.2.840.113619.4.30', ['1.2.840.113619.5.2']],
      ['1.2.840.10008.5.1.4.1.1.999.7', [EXPLICIT_LITTLE]],
      ['1.2.840.10008.1.1', ['1.2.840.10008.1.2']],
      ['1.2.840.10008.5.1.4.1.2.2.1', [EXPLICIT_LITTLE]],
      ['1.2.276.0.7230010.3.4.1915765545.18030.917282194.0', [EXPLICIT_LITTLE]],
      [CT, []],
      ['not a uid', [EXPLICIT_LITTLE]],
    ];
    const uid = Buffer.from(CT);
    const role = encodeItem(0x54, Buffer.concat([Buffer.from([0, uid.length]), uid, Buffer.from([1, 1])]));
    const userIdentity = encodeItem(0x58, Buffer.from([1, 1, 0, 3, 0x62, 0x6f, 0x62, 0, 0]));
    const asker = await peer();
    asker.send(associateRequest({ contexts: uids.map(([abstractSyntaxUid, transferSyntaxUids], at) => ({ id: at * 2 + 1, abstractSyntaxUid, transferSyntaxUids })), extraUserItems: [role, userIdentity] }));
    const accept = await asker.next();
    expect(accept?.type).toBe(PDU.ASSOCIATE_AC);
    const body = accept?.body ?? Buffer.alloc(0);
    const results: (readonly [number | undefined, string])[] = [];
    const userItems: Record<number, string> = {};
    for (let at = 68; at < body.length; at += 4 + body.readUInt16BE(at + 2)) {
      const value = body.subarray(at + 4, at + 4 + body.readUInt16BE(at + 2));
      if (body[at] === 0x21) results.push([value[2], value[2] === 0 ? value.subarray(8).toString() : '']);
      if (body[at] === 0x50) {
        for (let sub = 0; sub < value.length; sub += 4 + value.readUInt16BE(sub + 2)) userItems[value[sub] ?? 0] = value.subarray(sub + 4, sub + 4 + value.readUInt16BE(sub + 2)).toString('hex');
      }
    }
    expect(results).toEqual([
      [0, '1.2.840.10008.1.2.4.201'], [0, '1.2.840.113619.5.2'], [0, EXPLICIT_LITTLE], [0, '1.2.840.10008.1.2'], [3, ''], [3, ''], [4, ''], [3, ''],
    ]);
    expect(userItems[0x51]).toBe('00020000');
    expect(userItems[0x54]?.endsWith('0100')).toBe(true);
    // One operation at a time; no answer to a user identity.
    expect([userItems[0x53], userItems[0x59]]).toEqual([undefined, undefined]);
  });
});

test('each answer of the store has its DIMSE status, and the association goes on', async () => {
  await withDoor(async ({ ingest, associated }) => {
    const sender = await associated(associateRequest({ contexts: [{ id: 1, abstractSyntaxUid: CT, transferSyntaxUids: [EXPLICIT_LITTLE] }, { id: 3, abstractSyntaxUid: '1.2.840.10008.1.1', transferSyntaxUids: [EXPLICIT_LITTLE] }] }));
    const outcomes: readonly (readonly ['stored' | 'duplicate' | 'quarantined' | MeshError, number])[] = [
      ['stored', 0],
      ['duplicate', 0],
      ['quarantined', 0xb000],
      [new MeshError('RESOURCE_EXHAUSTED', 'DISK_FULL', 'full'), 0xa700],
      [new MeshError('FAILED_PRECONDITION', 'DISK_LOW', 'low'), 0xa700],
      [new MeshError('INVALID_ARGUMENT', 'INSTANCE_MISMATCH', 'other'), 0xa900],
      [new MeshError('INVALID_ARGUMENT', 'HEADER_TRUNCATED', 'cut'), 0xc000],
    ];
    for (const [outcome, status] of outcomes) {
      ingest.outcome = () => outcome;
      sender.send(dataPdu(1, 3, storeCommand()), dataPdu(1, 0, dataSet), dataPdu(1, 2, Buffer.alloc(0)));
      expect(await sender.response()).toMatchObject({ status, field: 0x8001, ...(outcome instanceof MeshError ? { comment: outcome.reason } : {}) });
    }
    const begun = ingest.begun;
    sender.send(dataPdu(1, 3, storeCommand({ data: false })));
    expect(await sender.response()).toMatchObject({ status: 0xc000 });
    sender.send(dataPdu(1, 3, command([[0x0002, CT], [0x0100, 1], [0x0110, 7], [0x0800, 0]])), dataPdu(1, 2, dataSet));
    expect(await sender.response()).toMatchObject({ status: 0xc000 });
    sender.send(dataPdu(3, 3, storeCommand()), dataPdu(3, 2, dataSet));
    expect(await sender.response()).toMatchObject({ status: 0x0122 });
    expect(ingest.begun).toBe(begun);
    // A query and an N-CREATE with a data set: not ours, dropped, answered.
    sender.send(dataPdu(1, 3, command([[0x0002, CT], [0x0100, 0x20], [0x0110, 9], [0x0800, 1]])), dataPdu(1, 2, dataSet));
    expect(await sender.response()).toMatchObject({ status: 0x0211, field: 0x8020 });
    sender.send(dataPdu(1, 3, command([[0x0003, CT], [0x0100, 0x140], [0x0110, 9], [0x0800, 0x0101]])));
    expect(await sender.response()).toMatchObject({ status: 0x0211, field: 0x8140 });
    // C-CANCEL has no answer; the echo after it has.
    sender.send(dataPdu(1, 3, command([[0x0100, 0xfff], [0x0120, 9], [0x0800, 0x0101]])), dataPdu(3, 3, echoCommand()));
    expect(await sender.response()).toMatchObject({ status: 0, field: 0x8030 });
    sender.send(RELEASE);
    expect((await sender.next())?.type).toBe(PDU.RELEASE_RP);
  });
});

test('a command and its answer are cut to the size that the peer takes', async () => {
  await withDoor(async ({ associated }) => {
    const small = await associated(associateRequest({ pduBytes: 32 }));
    const echo = echoCommand();
    for (let at = 0; at < echo.length; at += 5) small.send(dataPdu(1, at + 5 >= echo.length ? 3 : 1, echo.subarray(at, at + 5)));
    const parts: Buffer[] = [];
    for (;;) {
      const pdu = await small.next();
      expect(pdu?.body.length).toBeLessThanOrEqual(32);
      parts.push(pdu?.body.subarray(6) ?? Buffer.alloc(0));
      if (((pdu?.body[5] ?? 2) & 2) !== 0) break;
    }
    const answer = Buffer.concat(parts);
    expect(answer.readUInt32LE(8)).toBe(answer.length - 12);
  });
});

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
      const deaf = await associated(associateRequest({ contexts: [{ id: 1, abstractSyntaxUid: '1.2.840.10008.1.1', transferSyntaxUids: [EXPLICIT_LITTLE] }] }));
      deaf.socket.pause();
      const many = Buffer.concat(Array.from({ length: 1000 }, () => dataPdu(1, 3, echoCommand())));
      for (let at = 0; at < 300; at += 1) deaf.send(many);
      await new Promise((resolve) => setTimeout(resolve, 300));
      expect(deaf.socket.writableLength).toBeGreaterThan(100_000);
      clock.advance(61_000);
      await until(() => server.associations() === 0);
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
  const server = await openDimse({ config: { host: '127.0.0.1', port: 0, aeTitle: 'MERIDIAN', assigningAuthority: 'A', allow: [] }, ingest, clock: systemClock, log: silentLog });
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
    openDimse({ config: { host: '127.0.0.1', port: 0, aeTitle: 'MERIDIAN', assigningAuthority: 'A', allow: [], ...config }, ingest: new MemoryIngest(), clock: systemClock, log: silentLog });
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
