import { expect, test } from '@jest/globals';
import { MeshError } from '@meridian/shared/errors';
import type { AeRule } from './dimse-server.ts';
import { encodeItem, encodePdu, PDU } from './pdu.ts';
import { dataSet, until, withDoor, type Door } from './testing/door.ts';
import {
  associateRequest,
  command,
  CT,
  dataPdu,
  echoCommand,
  EXPLICIT_LITTLE,
  pdv,
  RELEASE,
  storeCommand,
  wholeStream,
  type Propose,
} from './testing/raw-peer.ts';

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
    [
      'one context id twice',
      associateRequest({ contexts: [1, 1].map((id): Propose => ({ id, abstractSyntaxUid: CT, transferSyntaxUids: [EXPLICIT_LITTLE] })) }),
      6,
    ],
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
    [
      'a command whose element runs past its end',
      dataPdu(1, 3, Buffer.concat([command1.subarray(0, 4), Buffer.from([0xf0, 0xff, 0xff, 0xff])])),
      6,
    ],
    ['a command of another group', dataPdu(1, 3, Buffer.from([8, 0, 5, 0, 0, 0, 0, 0])), 6],
    ['a command without a command field', dataPdu(1, 3, command([[0x0110, 1]])), 6],
    ['a command of 70,000 bytes', dataPdu(1, 1, Buffer.alloc(70_000)), 6],
    [
      'a response to nothing',
      dataPdu(
        1,
        3,
        command([
          [0x0100, 0x8001],
          [0x0120, 1],
          [0x0800, 0x0101],
          [0x0900, 0],
        ]),
      ),
      2,
    ],
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
    asker.send(
      associateRequest({
        contexts: uids.map(([abstractSyntaxUid, transferSyntaxUids], at) => ({ id: at * 2 + 1, abstractSyntaxUid, transferSyntaxUids })),
        extraUserItems: [role, userIdentity],
      }),
    );
    const accept = await asker.next();
    expect(accept?.type).toBe(PDU.ASSOCIATE_AC);
    const body = accept?.body ?? Buffer.alloc(0);
    const results: (readonly [number | undefined, string])[] = [];
    const userItems: Record<number, string> = {};
    for (let at = 68; at < body.length; at += 4 + body.readUInt16BE(at + 2)) {
      const value = body.subarray(at + 4, at + 4 + body.readUInt16BE(at + 2));
      if (body[at] === 0x21) results.push([value[2], value[2] === 0 ? value.subarray(8).toString() : '']);
      if (body[at] === 0x50) {
        for (let sub = 0; sub < value.length; sub += 4 + value.readUInt16BE(sub + 2))
          userItems[value[sub] ?? 0] = value.subarray(sub + 4, sub + 4 + value.readUInt16BE(sub + 2)).toString('hex');
      }
    }
    expect(results).toEqual([
      [0, '1.2.840.10008.1.2.4.201'],
      [0, '1.2.840.113619.5.2'],
      [0, EXPLICIT_LITTLE],
      [0, '1.2.840.10008.1.2'],
      [3, ''],
      [3, ''],
      [4, ''],
      [3, ''],
    ]);
    expect(userItems[0x51]).toBe('00020000');
    expect(userItems[0x54]?.endsWith('0100')).toBe(true);
    // One operation at a time; no answer to a user identity.
    expect([userItems[0x53], userItems[0x59]]).toEqual([undefined, undefined]);
  });
});

test('each answer of the store has its DIMSE status, and the association goes on', async () => {
  await withDoor(async ({ ingest, associated }) => {
    const sender = await associated(
      associateRequest({
        contexts: [
          { id: 1, abstractSyntaxUid: CT, transferSyntaxUids: [EXPLICIT_LITTLE] },
          { id: 3, abstractSyntaxUid: '1.2.840.10008.1.1', transferSyntaxUids: [EXPLICIT_LITTLE] },
        ],
      }),
    );
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
      expect(await sender.response()).toMatchObject({
        status,
        field: 0x8001,
        ...(outcome instanceof MeshError ? { comment: outcome.reason } : {}),
      });
    }
    const begun = ingest.begun;
    sender.send(dataPdu(1, 3, storeCommand({ data: false })));
    expect(await sender.response()).toMatchObject({ status: 0xc000 });
    sender.send(
      dataPdu(
        1,
        3,
        command([
          [0x0002, CT],
          [0x0100, 1],
          [0x0110, 7],
          [0x0800, 0],
        ]),
      ),
      dataPdu(1, 2, dataSet),
    );
    expect(await sender.response()).toMatchObject({ status: 0xc000 });
    sender.send(dataPdu(3, 3, storeCommand()), dataPdu(3, 2, dataSet));
    expect(await sender.response()).toMatchObject({ status: 0x0122 });
    expect(ingest.begun).toBe(begun);
    // A query and an N-CREATE with a data set: not ours, dropped, answered.
    sender.send(
      dataPdu(
        1,
        3,
        command([
          [0x0002, CT],
          [0x0100, 0x20],
          [0x0110, 9],
          [0x0800, 1],
        ]),
      ),
      dataPdu(1, 2, dataSet),
    );
    expect(await sender.response()).toMatchObject({ status: 0x0211, field: 0x8020 });
    sender.send(
      dataPdu(
        1,
        3,
        command([
          [0x0003, CT],
          [0x0100, 0x140],
          [0x0110, 9],
          [0x0800, 0x0101],
        ]),
      ),
    );
    expect(await sender.response()).toMatchObject({ status: 0x0211, field: 0x8140 });
    // C-CANCEL has no answer; the echo after it has.
    sender.send(
      dataPdu(
        1,
        3,
        command([
          [0x0100, 0xfff],
          [0x0120, 9],
          [0x0800, 0x0101],
        ]),
      ),
      dataPdu(3, 3, echoCommand()),
    );
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
