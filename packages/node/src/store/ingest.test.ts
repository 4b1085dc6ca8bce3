import { createHash } from 'node:crypto';
import { readdir, readFile, rm, truncate } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { systemDisk, type Disk } from './disk.ts';
import type { Store } from './store.ts';
import { EXPLICIT_LE, makeHeader, makeInstance } from './testing/data-sets.ts';
import { send, usingStore } from './testing/stores.ts';

const sha256 = (bytes: Buffer): Buffer => createHash('sha256').update(bytes).digest();

async function collected(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function blobs(folder: string): Promise<string[]> {
  return (await readdir(path.join(folder, 'blobs'), { recursive: true })).filter((name) => name.endsWith('.dcm'));
}

test('an instance comes back byte for byte, with its header, digests and ranges', () =>
  usingStore({}, async (store, { folder, reopen }) => {
    const small = makeInstance({ sop: '1.2.3.1.1', residentId: '11010519491231002X' });
    const large = makeInstance({ sop: '1.2.3.1.2', instanceNumber: 2, pixelBytes: 3 * 1024 * 1024 + 10 });
    expect(await send(store, small, {}, 7)).toEqual({
      outcome: 'stored',
      studyInstanceUid: '1.2.3',
      seriesInstanceUid: '1.2.3.1',
      sopInstanceUid: '1.2.3.1.1',
      sopClassUid: '1.2.840.10008.5.1.4.1.1.2',
      sha256: sha256(small),
      bytes: small.length,
    });
    expect(await send(store, large)).toMatchObject({ outcome: 'stored' });
    store = await reopen();
    const rows = await store.studies.instancesOf('1.2.3');
    expect(
      rows.map(({ instanceNumber, bytes, rows: height, columns, numberOfFrames, transferSyntaxUid }) => ({
        instanceNumber,
        bytes,
        height,
        columns,
        numberOfFrames,
        transferSyntaxUid,
      })),
    ).toEqual([
      { instanceNumber: 1, bytes: small.length, height: 32, columns: 32, numberOfFrames: 1, transferSyntaxUid: EXPLICIT_LE },
      { instanceNumber: 2, bytes: large.length, height: 32, columns: 32, numberOfFrames: 1, transferSyntaxUid: EXPLICIT_LE },
    ]);
    const [first, second] = rows;
    if (first === undefined || second === undefined) throw new Error('no rows');
    expect(await collected(store.studies.openDataSet(first))).toEqual(small);
    expect((await collected(store.studies.openDataSet(second))).equals(large)).toBe(true);
    expect(await store.studies.readDataSet(second, 1_000_000, 70_000)).toEqual(large.subarray(1_000_000, 1_070_000));
    expect(await collected(store.studies.openDataSet(second, { offset: 5, length: 9 }))).toEqual(large.subarray(5, 14));
    await expect(store.studies.readDataSet(first, 0, small.length + 1)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
    expect(first.pixelSha256).toEqual(sha256(Buffer.alloc(2048, 7)));
    expect(first.chunkSha256).toBeUndefined();
    expect(second.pixelSha256).toEqual(sha256(Buffer.alloc(3 * 1024 * 1024 + 10, 7)));
    expect(second.chunkSha256).toEqual(Buffer.concat([0, 1, 2, 3].map((n) => sha256(large.subarray(n * 1048576, (n + 1) * 1048576)))));
    // A stranger's reader finds Part 10: the preamble, DICM, and the data set as it came.
    const file = await readFile(first.path);
    expect(file.subarray(128, 132).toString()).toBe('DICM');
    expect(file.subarray(first.dataSetOffset)).toEqual(small);
    const header = await store.studies.header('1.2.3.1.2');
    expect(header['00100010']).toEqual({ vr: 'PN', Value: [{ Alphabetic: 'Wang^XiaoMing', Ideographic: '王^小明' }] });
    expect(header['7FE00010']).toMatchObject({ vr: 'OW', BulkDataURI: expect.stringContaining('length=3145738') });
    expect((await store.studies.headers(['1.2.3.1.2', '9.9', '1.2.3.1.1'])).map(({ sopInstanceUid }) => sopInstanceUid)).toEqual([
      '1.2.3.1.2',
      '1.2.3.1.1',
    ]);
    await expect(store.studies.header('9.9')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(await store.studies.study('1.2.3')).toMatchObject({
      state: 'receiving',
      version: 1,
      studyDate: '20260102',
      studyDescription: '胸部平扫',
      modalities: ['CT'],
      seriesCount: 1,
      instanceCount: 2,
      bytes: small.length + large.length,
      complete: false,
      locked: false,
      patient: {
        assigningAuthority: 'HOSPITAL',
        patientId: 'P1',
        name: { alphabetic: 'Wang^XiaoMing', ideographic: '王^小明', phonetic: '' },
        birthDate: '19900307',
        sex: 'M',
      },
      personIds: [{ type: 'cn-resident-id', issuer: '2.16.156.10011.1.3', value: '11010519491231002X' }],
    });
    expect(await store.usage()).toMatchObject({ studies: 1, instances: 2, quarantined: 0, readOnly: false });
    expect(await blobs(folder)).toHaveLength(2);
  }));

test('the same bytes again change nothing; other bytes under a known UID are kept aside and reported', () =>
  usingStore({}, async (store, { folder }) => {
    const original = makeInstance();
    await send(store, original);
    expect(await send(store, original)).toMatchObject({ outcome: 'duplicate' });
    let told = 0;
    store.changes.onChange(() => told++);
    expect(await send(store, makeInstance({ fill: 8 }))).toMatchObject({ outcome: 'quarantined' });
    expect(await send(store, makeInstance({ fill: 8 }))).toMatchObject({ outcome: 'quarantined' });
    expect(await send(store, makeInstance({ description: 'corrected' }))).toMatchObject({ outcome: 'quarantined' });
    expect(await send(store, makeInstance({ study: '1.2.4', series: '1.2.4.1' }))).toMatchObject({ outcome: 'quarantined' });
    expect(await send(store, makeInstance({ study: '1.2.4', sop: '5.5' }))).toMatchObject({ outcome: 'quarantined' });
    expect(await send(store, makeInstance({ sop: '5.6', patientId: 'P2' }))).toMatchObject({ outcome: 'quarantined' });
    const aside = await store.database.read.selectFrom('quarantine').select(['sop_instance_uid', 'reason']).orderBy('pk').execute();
    expect(aside.map(({ sop_instance_uid: sop, reason }) => `${sop} ${reason}`)).toEqual([
      '1.2.3.1.1 pixels-differ',
      '1.2.3.1.1 header-differs',
      '1.2.3.1.1 identity-differs',
      '5.5 identity-differs',
      '5.6 identity-differs',
    ]);
    expect(told).toBe(5);
    expect((await store.changes.after(0, 100)).map(({ kind, detail }) => [kind, detail['reason']])[0]).toEqual([
      'quarantined',
      'pixels-differ',
    ]);
    expect(await blobs(folder)).toHaveLength(6);
    const row = await store.studies.instanceBySop('1.2.3.1.1');
    expect(row === undefined ? undefined : await store.studies.readDataSet(row, 0, row.bytes)).toEqual(original);
    expect(await store.usage()).toMatchObject({ studies: 1, instances: 1, quarantined: 5 });
  }));

test('two senders of one UID at the same time: one is stored, equal bytes are a duplicate, others are kept aside', () =>
  usingStore({}, async (store) => {
    const outcomes = await Promise.all([makeInstance(), makeInstance(), makeInstance({ fill: 9 })].map((bytes) => send(store, bytes)));
    const kinds = outcomes.map(({ outcome }) => outcome).sort();
    expect([
      ['duplicate', 'quarantined', 'stored'],
      ['quarantined', 'quarantined', 'stored'],
    ]).toContainEqual(kinds);
    expect((await store.usage()).instances).toBe(1);
  }));

test('what is not whole, not what was announced, or given up leaves nothing', () =>
  usingStore({}, async (store, { folder }) => {
    const bytes = makeInstance();
    await expect(send(store, bytes.subarray(0, bytes.length - 5))).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      reason: 'DICOM_TRUNCATED',
    });
    await expect(send(store, Buffer.from('no DICOM at all, but long enough to look at'))).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    await expect(send(store, Buffer.alloc(0))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(send(store, bytes, { expected: { sopInstanceUid: '1.2.9' } })).rejects.toMatchObject({ reason: 'INSTANCE_MISMATCH' });
    await expect(send(store, bytes, { expected: { studyInstanceUid: '1.2.9' } })).rejects.toMatchObject({ reason: 'INSTANCE_MISMATCH' });
    await expect(send(store, bytes, { expected: { sha256: Buffer.alloc(32) } })).rejects.toMatchObject({
      code: 'DATA_LOSS',
      reason: 'DIGEST_MISMATCH',
    });
    await expect(send(store, bytes, { expected: { bytes: 3 } })).rejects.toMatchObject({ code: 'DATA_LOSS', reason: 'DIGEST_MISMATCH' });
    const sink = store.ingest.begin({ door: 'stow', transferSyntaxUid: EXPLICIT_LE, assigningAuthority: 'H' });
    sink.write(makeInstance({ pixelBytes: 2_000_000 }));
    await sink.abort();
    await expect(sink.end()).rejects.toMatchObject({ code: 'ABORTED' });
    const open = store.ingest.begin({ door: 'stow', transferSyntaxUid: EXPLICIT_LE, assigningAuthority: 'H' });
    open.write(makeInstance({ pixelBytes: 2_000_000 }).subarray(0, 1_500_000));
    await store.close();
    expect(await blobs(folder)).toEqual([]);
  }));

/** The machine's disk that notes its calls, and fails or waits where it is told. */
function watchedDisk(rules: { fail?: (call: string) => string | undefined; before?: (call: string) => Promise<void> }): {
  disk: Disk;
  calls: string[];
} {
  const calls: string[] = [];
  const watch = async <Result>(call: string, action: () => Promise<Result>): Promise<Result> => {
    await rules.before?.(call);
    const code = rules.fail?.(call);
    if (code !== undefined) throw Object.assign(new Error(code), { code });
    const result = await action();
    calls.push(call);
    return result;
  };
  return {
    calls,
    disk: {
      create: (name) => watch('create', () => systemDisk.create(name)),
      append: (file, chunks) => watch('append', () => systemDisk.append(file, chunks)),
      flush: (file) => watch('flush', () => systemDisk.flush(file)),
      close: (file) => watch('close', () => systemDisk.close(file)),
      remove: (name) => watch('remove', () => systemDisk.remove(name)),
      free: systemDisk.free,
    },
  };
}

test('the file is flushed before the row is committed, and the row is committed before the sender is told', async () => {
  let store: Store | undefined;
  const rows = async (): Promise<number> => (await store?.database.read.selectFrom('instance').select('pk').execute())?.length ?? -1;
  const { disk, calls } = watchedDisk({
    before: async (call) => {
      if (call === 'flush') calls.push(`rows before ${call}: ${await rows()}`);
    },
  });
  await usingStore({ disk }, async (opened) => {
    store = opened;
    await send(opened, makeInstance());
    // Asked on a connection of its own, which sees committed rows only.
    calls.push(`rows when told: ${await rows()}`);
  });
  expect(calls.filter((call) => call !== 'close')).toEqual(['create', 'append', 'rows before flush: 0', 'flush', 'rows when told: 1']);
});

test.each([
  ['append', 'ENOSPC', 'RESOURCE_EXHAUSTED', 'DISK_FULL'],
  ['flush', 'EIO', 'INTERNAL', 'DISK_FAILED'],
  ['create', 'EDQUOT', 'RESOURCE_EXHAUSTED', 'DISK_FULL'],
])(
  'a disk that fails at %s with %s is never acknowledged, leaves nothing, and the next object works',
  async (failing, errno, code, reason) => {
    let broken = true;
    const { disk } = watchedDisk({ fail: (call) => (broken && call === failing ? errno : undefined) });
    await usingStore({ disk }, async (store, { folder }) => {
      await expect(send(store, makeInstance({ pixelBytes: 4_000_000 }))).rejects.toMatchObject({ code, reason });
      expect(await blobs(folder)).toEqual([]);
      expect((await store.usage()).instances).toBe(0);
      broken = false;
      expect(await send(store, makeInstance())).toMatchObject({ outcome: 'stored' });
    });
  },
);

test('a sender is asked to wait while more than 8 MiB wait for the disk', async () => {
  let release: () => void = () => undefined;
  const gate = new Promise<void>((resolve) => (release = resolve));
  const { disk } = watchedDisk({ before: (call) => (call === 'append' ? gate : Promise.resolve()) });
  await usingStore({ disk }, async (store) => {
    const total = 24 * 1024 * 1024;
    const sink = store.ingest.begin({ door: 'import', transferSyntaxUid: EXPLICIT_LE, assigningAuthority: 'H' });
    sink.write(makeHeader({ pixelBytes: total }));
    let sent = 0;
    while (sink.write(Buffer.alloc(1024 * 1024))) sent++;
    expect(sent).toBeGreaterThanOrEqual(7);
    expect(sent).toBeLessThan(9);
    let drained = false;
    const wait = sink.drained().then(() => (drained = true));
    await new Promise(setImmediate);
    expect(drained).toBe(false);
    release();
    await wait;
    for (sent++; sent < 24; sent++) if (!sink.write(Buffer.alloc(1024 * 1024))) await sink.drained();
    expect(await sink.end()).toMatchObject({ outcome: 'stored' });
  });
});

test('below 5 % of free disk new objects are refused, reads go on, and it ends by itself', async () => {
  let fraction = 0.2;
  let nowMs = 0;
  const clock = {
    now: () => nowMs,
    monotonicMs: () => nowMs,
    sleep: () => Promise.reject(new Error('not used')),
    after: () => ({ cancel: () => undefined }),
  };
  const disk: Disk = { ...systemDisk, free: () => ({ fraction, bytes: fraction * 1e9 }) };
  await usingStore({ disk, clock }, async (store) => {
    await send(store, makeInstance());
    fraction = 0.04;
    nowMs += 1000;
    await expect(send(store, makeInstance({ sop: '7.7' }))).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED', reason: 'DISK_LOW' });
    expect(await store.usage()).toMatchObject({ readOnly: true, instances: 1 });
    expect(await store.studies.instancesOf('1.2.3')).toHaveLength(1);
    fraction = 0.06;
    nowMs += 1000;
    expect(await send(store, makeInstance({ sop: '7.7' }))).toMatchObject({ outcome: 'stored' });
  });
});

test('patients join by authority and PatientID only; without PatientID nobody joins', () =>
  usingStore({}, async (store) => {
    await send(store, makeInstance({ study: '1', series: '1.1', sop: '1.1.1' }));
    await send(store, makeInstance({ study: '2', series: '2.1', sop: '2.1.1', patientName: 'Other^Person' }), {
      assigningAuthority: 'ELSEWHERE',
    });
    await send(store, makeInstance({ study: '3', series: '3.1', sop: '3.1.1' }));
    await send(store, makeInstance({ study: '4', series: '4.1', sop: '4.1.1', patientId: '', patientName: 'Nobody^A' }));
    await send(store, makeInstance({ study: '5', series: '5.1', sop: '5.1.1', patientId: '', patientName: 'Nobody^B' }));
    await send(store, makeInstance({ study: '6', series: '6.1', sop: '6.1.1', issuer: 'ISSUED' }));
    const peer = { door: 'peer' as const, assigningAuthority: 'n-aaaaaaaaaaaaaaaa' };
    await send(store, makeInstance({ study: '7', series: '7.1', sop: '7.1.1', issuer: 'ISSUED' }), peer);
    await send(store, makeInstance({ study: '8', series: '8.1', sop: '8.1.1', patientId: '11010519491231002X' }), {
      nationalIdIn: 'patient-id',
    });
    const patients = new Map((await store.studies.findStudies({})).map(({ studyInstanceUid, patient }) => [studyInstanceUid, patient]));
    expect(patients.get('1')?.pk).toBe(patients.get('3')?.pk);
    expect(new Set([...patients.values()].map(({ pk }) => pk)).size).toBe(7);
    expect(patients.get('5')?.name.alphabetic).toBe('Nobody^B');
    expect(patients.get('7')?.assigningAuthority).toBe('n-aaaaaaaaaaaaaaaa/ISSUED');
    const resident = { type: 'cn-resident-id', issuer: '2.16.156.10011.1.3', value: '11010519491231002X' } as const;
    expect((await store.studies.studiesOfPerson(resident)).map(({ studyInstanceUid }) => studyInstanceUid)).toEqual(['8']);
    expect(await store.studies.patientsOfPerson(resident)).toHaveLength(1);
    expect(await store.studies.patient('HOSPITAL', 'P1')).toMatchObject({ name: { alphabetic: 'Wang^XiaoMing' } });
  }));

test('an instance whose file is gone or short is stored again when it is sent again', () =>
  usingStore({}, async (store, { folder }) => {
    const bytes = makeInstance();
    await send(store, bytes);
    const broken = async (breakIt: (file: string) => Promise<void>): Promise<void> => {
      const row = await store.studies.instanceBySop('1.2.3.1.1');
      await breakIt(row?.path ?? '');
      expect(await send(store, bytes)).toMatchObject({ outcome: 'stored' });
      const again = await store.studies.instanceBySop('1.2.3.1.1');
      if (again === undefined) throw new Error('no row');
      expect(await store.studies.readDataSet(again, 0, bytes.length)).toEqual(bytes);
      expect(await blobs(folder)).toHaveLength(1);
    };
    await broken((file) => rm(file));
    await broken((file) => truncate(file, 900));
    expect(await send(store, bytes)).toMatchObject({ outcome: 'duplicate' });
    expect(await store.studies.study('1.2.3')).toMatchObject({ instanceCount: 1, bytes: bytes.length });
  }));

test('news that a listener cannot take leaves the file of what was committed', () =>
  usingStore({}, async (store, { folder }) => {
    await send(store, makeInstance());
    let told = 0;
    store.changes.onChange(() => {
      throw new Error('listener');
    });
    store.changes.onChange(() => told++);
    expect(await send(store, makeInstance({ fill: 9 }))).toMatchObject({ outcome: 'quarantined' });
    expect(told).toBe(1);
    expect(await blobs(folder)).toHaveLength(2);
  }));

test('an object that comes byte by byte costs no more memory than its bytes', () =>
  usingStore({}, async (store) => {
    const data = makeInstance({ pixelBytes: 2_400_000 });
    const sink = store.ingest.begin({ door: 'dimse', transferSyntaxUid: EXPLICIT_LE, assigningAuthority: 'HOSPITAL' });
    // As they are cut out of the socket's buffers: 7 bytes on the wire for each byte of the data set.
    let wire = Buffer.alloc(0);
    let at = 0;
    const before = process.memoryUsage();
    let peak = 0;
    for (const byte of data) {
      if (at + 7 > wire.length) {
        wire = Buffer.allocUnsafeSlow(65_536);
        at = 0;
        await new Promise((resolve) => setImmediate(resolve));
        const { heapUsed, arrayBuffers } = process.memoryUsage();
        peak = Math.max(peak, heapUsed + arrayBuffers - before.heapUsed - before.arrayBuffers);
      }
      wire[at + 6] = byte;
      if (!sink.write(wire.subarray(at + 6, at + 7))) await sink.drained();
      at += 7;
    }
    expect(await sink.end()).toMatchObject({ outcome: 'stored', bytes: data.length, sha256: sha256(data) });
    expect(peak).toBeLessThan(64 * 1024 * 1024);
  }));
