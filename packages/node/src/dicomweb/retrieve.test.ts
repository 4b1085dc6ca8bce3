import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { deflateRawSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import sharp from 'sharp';
import { testNeeding } from '@meridian/shared/testing/needs';
import type { DicomJson } from '../dicom/json.ts';
import { part10Prefix } from '../dicom/part10.ts';
import { TAG } from '../dicom/tags.ts';
import { datasetOf, readFile, sample } from '../dicom/testing/sample-files.ts';
import type { ReadEvent } from './parts.ts';
import { ask, itemsOf, openArchive, retrieveAddress, store, stow, type Answer, type Archive } from './testing/open-archive.ts';
import { instanceFile } from './testing/instance-file.ts';

const STUDY = '1.2.30';
const SERIES = '1.2.30.1';
const first = `/studies/${STUDY}/series/${SERIES}/instances/${SERIES}.1`;
const file = (number: number, bulkBytes?: number): Buffer =>
  instanceFile(
    { study: STUDY, series: SERIES, instance: `${SERIES}.${number}` },
    { instanceNumber: number, pixel: number, ...(bulkBytes === undefined ? {} : { bulkBytes }) },
  );
const files = [file(1, 100_000), file(2), file(3)];
const reads: Omit<ReadEvent, 'request'>[] = [];
let archive: Archive;

beforeAll(async () => {
  archive = await openArchive({
    onRead: async ({ request: _request, ...event }) => void reads.push(event),
  });
  await store(archive, files);
});
afterAll(() => archive.close());

const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
const reasonOf = (answer: Answer): [number, string] => [answer.status, answer.json<{ reason: string }>().reason];
const get = (address: string, accept?: string, headers: Record<string, string> = {}): Promise<Answer> =>
  ask(archive, address, { headers: { ...(accept === undefined ? {} : { accept }), ...headers } });

test('a study, a series and an instance come as stored, in parts or bare', async () => {
  for (const [address, count] of [
    [`/studies/${STUDY}`, 3],
    [`/studies/${STUDY}/series/${SERIES}`, 3],
    [first, 1],
  ] as const) {
    for (const accept of [
      undefined,
      '*/*',
      'multipart/related; type="application/dicom"',
      'multipart/related; type=application/dicom; transfer-syntax=*',
      'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.1',
    ]) {
      const answer = await get(address, accept);
      expect([accept, answer.status, answer.headers['content-type']]).toEqual([
        accept,
        200,
        expect.stringMatching(/^multipart\/related; type="application\/dicom"; boundary=/),
      ]);
      const parts = await answer.parts();
      expect(parts.map((part) => part.headers.get('content-type'))).toEqual(
        Array(count).fill('application/dicom; transfer-syntax=1.2.840.10008.1.2.1'),
      );
      expect(parts.map((part) => digest(datasetOf(part.body).dataset))).toEqual(
        files.slice(0, count).map((each) => digest(datasetOf(each).dataset)),
      );
    }
  }
  const bare = await get(first, 'application/dicom');
  expect([bare.headers['content-type'], bare.body.equals(files[0] as Buffer)]).toEqual([
    'application/dicom; transfer-syntax=1.2.840.10008.1.2.1',
    true,
  ]);
  expect(bare.headers).toMatchObject({ 'cache-control': 'private, no-cache', 'x-content-type-options': 'nosniff' });
  expect(reads.at(-1)).toEqual({ kind: 'export', transaction: 'retrieve', studyInstanceUid: STUDY, instances: 1 });
});

test('HEAD tells the same without the body, and a link may say what it accepts', async () => {
  const head = await ask(archive, first, { method: 'HEAD', headers: { accept: 'application/dicom' } });
  const whole = await get(`${first}?accept=application/dicom`, 'text/html');
  expect([head.status, head.body.length, head.headers['content-length']]).toEqual([200, 0, String(whole.body.length)]);
  expect([whole.status, digest(whole.body), head.headers.etag]).toEqual([200, digest(files[0] as Buffer), whole.headers.etag]);
  expect((await ask(archive, `/studies/${STUDY}`, { method: 'HEAD' })).status).toBe(200);
  expect((await get('/studies?accept=application/dicom%2Bjson', 'text/html')).status).toBe(200);
});

test('what cannot be given is refused in a plain sentence', async () => {
  expect(reasonOf(await get(first, 'application/dicom; transfer-syntax=1.2.840.10008.1.2.4.90'))).toEqual([
    406,
    'TRANSFER_SYNTAX_NOT_AVAILABLE',
  ]);
  expect(reasonOf(await get(first, 'image/png'))).toEqual([406, 'NOT_ACCEPTABLE']);
  expect(reasonOf(await get(`/studies/${STUDY}`, 'application/dicom'))).toEqual([406, 'NOT_ACCEPTABLE']);
  expect(
    (
      await get(
        first,
        'image/png;q=1, application/dicom; transfer-syntax=1.2.840.10008.1.2.4.90; q=0.9, multipart/related; type="application/dicom"; q=0.1',
      )
    ).status,
  ).toBe(200);
  expect(reasonOf(await get('/studies/9.9.9'))).toEqual([404, 'STUDY_UNKNOWN']);
  expect(reasonOf(await get(`/studies/${STUDY}/series/9.9`))).toEqual([404, 'INSTANCES_UNKNOWN']);
  expect(reasonOf(await get(`/studies/${STUDY}/series/${SERIES}/instances/..%2f..%2fetc%2fpasswd`))).toEqual([400, 'UID_INVALID']);
  expect(reasonOf(await get('/nothing'))).toEqual([404, 'ADDRESS_UNKNOWN']);
});

test('an answer that the client holds is not sent again', async () => {
  expect((await get(first)).headers.etag).toBe(`"${digest(datasetOf(files[0] as Buffer).dataset)}"`);
  for (const address of [first, `${first}/metadata`, `${first}/frames/1`, `${first}/rendered`, `/studies/${STUDY}`]) {
    const answer = await get(address);
    const etag = String(answer.headers.etag);
    const again = await get(address, undefined, { 'if-none-match': `"x", W/${etag}` });
    expect([address, again.status, again.body.length]).toEqual([address, 304, 0]);
    expect((await get(address, undefined, { 'if-none-match': '"other"' })).status).toBe(200);
  }
});

test('metadata is the header, with addresses for what is long; those addresses work', async () => {
  const answer = await get(`/studies/${STUDY}/metadata`, 'application/dicom+json');
  const datasets = answer.json<DicomJson[]>();
  expect([answer.headers['content-type'], datasets.length]).toEqual(['application/dicom+json', 3]);
  const [dataset] = datasets as [DicomJson];
  const held = readFile(files[0] as Buffer).dataset;
  expect(dataset[TAG.PatientName]).toEqual({ vr: 'PN', Value: [{ Alphabetic: 'Wang^Xiaoming', Ideographic: '王^小明' }] });
  expect(Object.keys(dataset)).toEqual([...Object.keys(held), '00083002'].sort());
  expect(dataset['00083002']?.Value).toEqual(['1.2.840.10008.1.2.1']);

  const bulk = new URL(String(dataset['00291001']?.BulkDataURI)).pathname.replace('/dicomweb', '');
  const multipart = await get(bulk, 'multipart/related; type="application/octet-stream"');
  expect((await multipart.parts()).map((part) => digest(part.body))).toEqual([digest(Buffer.alloc(100_000, 7))]);
  expect((await get(bulk, 'application/octet-stream')).body.equals(Buffer.alloc(100_000, 7))).toBe(true);
  expect(reasonOf(await get(`${first}/bulkdata/0-100`))).toEqual([404, 'BULK_DATA_UNKNOWN']);
  const pixels = new URL(String(dataset[TAG.PixelData]?.BulkDataURI)).pathname.replace('/dicomweb', '');
  expect((await (await get(pixels)).parts())[0]?.body).toEqual(Buffer.alloc(128, 1));
  expect(reasonOf(await get(`${first}/metadata`, 'application/dicom+xml'))).toEqual([406, 'NOT_ACCEPTABLE']);
});

test('frames come as stored, and a picture of one as JPEG', async () => {
  const frame = await get(`${first}/frames/1`, 'multipart/related; type="application/octet-stream"');
  const [part] = await frame.parts();
  expect([part?.headers.get('content-type'), part?.body]).toEqual([
    'application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1',
    Buffer.alloc(128, 1),
  ]);
  expect((await get(`${first}/frames/1`, 'application/octet-stream')).body).toEqual(Buffer.alloc(128, 1));
  expect(reasonOf(await get(`${first}/frames/2`))).toEqual([404, 'FRAME_ABSENT']);
  for (const list of ['0', 'a', '1,,2', '-1', '1'.repeat(20)])
    expect([list, ...reasonOf(await get(`${first}/frames/${list}`))]).toEqual([list, 400, 'FRAME_LIST_INVALID']);

  const picture = await get(`${first}/rendered?window=1,10,linear&quality=100&viewport=32,32`);
  expect(picture.headers['content-type']).toBe('image/jpeg');
  expect(await sharp(picture.body).metadata()).toMatchObject({ format: 'jpeg', width: 32, height: 16 });
  expect(
    await sharp(picture.body)
      .raw()
      .toBuffer()
      .then((bytes) => bytes[0]),
  ).toBe(Math.round((0.5 / 9 + 0.5) * 255));
  for (const address of [
    `/studies/${STUDY}/thumbnail`,
    `/studies/${STUDY}/series/${SERIES}/thumbnail`,
    `${first}/thumbnail`,
    `${first}/frames/1/rendered`,
  ]) {
    expect([address, (await get(address, 'image/*')).status]).toEqual([address, 200]);
  }
  for (const query of [
    'window=1',
    'window=1,0',
    'window=a,b',
    'window=1,2,cubic',
    'viewport=0,1',
    'viewport=1',
    'viewport=9999,1',
    'quality=0',
    'quality=x',
  ]) {
    expect([query, ...reasonOf(await get(`${first}/rendered?${query}`))]).toEqual([query, 400, 'QUERY_VALUE_INVALID']);
  }
  expect(reasonOf(await get(`${first}/rendered`, 'image/gif'))).toEqual([406, 'NOT_ACCEPTABLE']);
});

testNeeding('shared data', 'compressed frames keep their syntax; a client that wants them decoded is told', async () => {
  const name = 'CT/dicomParser__CT0012.not_fragmented_bot_jpeg_ls.80.dcm';
  const address = retrieveAddress(await store(archive, [sample(name)]));
  for (const accept of [
    undefined,
    'multipart/related; type="image/jls"',
    'multipart/related; type=application/octet-stream; transfer-syntax=*',
    'multipart/related; type="*/*"',
    'multipart/related; type="image/jpeg"; q=0.9, multipart/related; type="image/jls"; q=0.1',
  ]) {
    const parts = await (await get(`${address}/frames/1,2`, accept)).parts();
    expect([accept, parts.map((part) => [part.headers.get('content-type'), part.body.readUInt16BE(0)])]).toEqual([
      accept,
      Array(2).fill(['image/jls; transfer-syntax=1.2.840.10008.1.2.4.80', 0xffd8]),
    ]);
  }
  expect(reasonOf(await get(`${address}/frames/1`, 'multipart/related; type="application/octet-stream"'))).toEqual([
    406,
    'TRANSFER_SYNTAX_NOT_AVAILABLE',
  ]);
  expect((await get(`${address}/frames/2/rendered`)).status).toBe(200);
  expect(reasonOf(await get(`${address}/frames/3/rendered`))).toEqual([404, 'FRAME_ABSENT']);
});

test('an unaudited read is refused', async () => {
  const strict = await openArchive({ onRead: async () => Promise.reject(new Error('disk full')) });
  try {
    await stow(strict, [files[0] as Buffer]);
    for (const address of [first, `${first}/metadata`, `${first}/rendered`, `${first}/frames/1`])
      expect((await ask(strict, address)).status).toBe(500);
  } finally {
    await strict.close();
  }
});

test('a copy that cannot be rewritten for its local id is an answer of its own, not a file that breaks off', async () => {
  const archive = await openArchive({
    coercionFor: () => ({ replace: { patientId: '本院-7' }, modifyingSystem: 'meridian', at: '20260102030405' }),
  });
  try {
    await stow(archive, [Buffer.from((files[0] as Buffer).toString('latin1').replace('ISO_IR 192', 'ISO_IR 100'), 'latin1')]);
    for (const accept of ['application/dicom', 'multipart/related; type="application/dicom"']) {
      const answer = await ask(archive, first, { headers: { accept } });
      expect([answer.status, answer.body.toString()]).toEqual([400, expect.stringContaining('DICOM_TEXT_NOT_ENCODABLE')]);
    }
  } finally {
    await archive.close();
  }
});

test('many who ask for a deflated object take turns in memory, and each gives it back', async () => {
  const coerced = await openArchive({
    coercionFor: () => ({ replace: { patientId: 'LOCAL-7' }, modifyingSystem: 'meridian', at: '20260102030405' }),
  });
  try {
    const transferSyntaxUid = '1.2.840.10008.1.2.1.99';
    const prefix = part10Prefix({ sopClassUid: '1.2.840.10008.5.1.4.1.1.7', sopInstanceUid: `${SERIES}.1`, transferSyntaxUid });
    await store(coerced, [Buffer.concat([prefix, deflateRawSync(datasetOf(files[0] as Buffer).dataset)])]);
    const addresses = Array.from({ length: 4 }, () => [`${first}/frames/1`, `${first}/rendered`, first, `/studies/${STUDY}`]).flat();
    const answers = await Promise.all(addresses.map((address) => ask(coerced, address)));
    expect(answers.map(({ status }) => status)).toEqual(addresses.map(() => 200));
  } finally {
    await coerced.close();
  }
}, 20_000);

test('a locked copy is refused everywhere, and a linked one is served under the local id with Original Attributes', async () => {
  const coerced = await openArchive({
    coercionFor: () => ({
      replace: { patientId: 'LOCAL-7', issuerOfPatientId: 'HOSPITAL C' },
      modifyingSystem: 'meridian',
      sourceOfPreviousValues: 'HOSPITAL A',
      at: '20260102030405+0800',
    }),
  });
  try {
    await stow(coerced, files);
    const [metadata] = (await ask(coerced, `${first}/metadata`)).json<DicomJson[]>() as [DicomJson];
    expect([metadata[TAG.PatientID]?.Value, metadata[TAG.IssuerOfPatientID]?.Value]).toEqual([['LOCAL-7'], ['HOSPITAL C']]);
    const [original] = itemsOf(metadata, TAG.OriginalAttributesSequence);
    expect(itemsOf(original ?? {}, TAG.ModifiedAttributesSequence)[0]?.[TAG.PatientID]?.Value).toEqual(['P-1']);

    const back = await ask(coerced, first, { headers: { accept: 'application/dicom' } });
    const dataset = readFile(back.body).dataset;
    expect(dataset[TAG.PatientID]?.Value).toEqual(['LOCAL-7']);
    expect(dataset[TAG.OriginalAttributesSequence]?.Value?.length).toBe(1);
    expect(back.body.subarray(-128)).toEqual(Buffer.alloc(128, 1));
    expect(back.headers.etag).not.toBe((await get(first)).headers.etag);

    for (const address of [
      `/studies?includefield=PatientName`,
      `/series`,
      `/studies/${STUDY}/series?includefield=PatientName`,
      `/studies/${STUDY}/instances?includefield=all`,
    ]) {
      const [row] = (await ask(coerced, address)).json<DicomJson[]>() as [DicomJson];
      expect([address, row[TAG.PatientID]?.Value, row[TAG.OriginalAttributesSequence]?.vr]).toEqual([address, ['LOCAL-7'], 'SQ']);
    }
  } finally {
    await coerced.close();
  }
  const real = await openArchive();
  try {
    await stow(real, files);
    const held = real.store;
    const locked = {
      ...held,
      studies: {
        ...held.studies,
        study: async (uid: string) => {
          const row = await held.studies.study(uid);
          return row === undefined ? undefined : { ...row, locked: true, lockReason: 'CONSENT_EXPIRED' as const };
        },
      },
    };
    const door = await openArchive({ store: locked });
    try {
      for (const address of [
        first,
        `/studies/${STUDY}`,
        `${first}/metadata`,
        `${first}/frames/1`,
        `${first}/rendered`,
        `${first}/thumbnail`,
        `${first}/bulkdata/7FE00010`,
        `/studies/${STUDY}/series`,
      ]) {
        expect([address, ...reasonOf(await ask(door, address))]).toEqual([address, 403, 'COPY_LOCKED']);
      }
      expect((await ask(door, first)).json()).toMatchObject({ detail: expect.stringContaining('has run out') as unknown });
      expect((await ask(door, '/instances')).json()).toEqual([]);
    } finally {
      await door.close();
    }
  } finally {
    await real.close();
  }
});

test('a large study streams: memory stays flat while a slow client reads, and a client that leaves frees its files', async () => {
  const big = await openArchive();
  try {
    const uid = '1.2.31';
    // 60 instances of 1 MiB.
    for (let from = 1; from <= 60; from += 10) {
      const batch = Array.from({ length: 10 }, (_, index) =>
        instanceFile({ study: uid, series: `${uid}.1`, instance: `${uid}.1.${from + index}` }, { pixels: Buffer.alloc(1024 * 1024, from) }),
      );
      await store(big, batch);
    }
    const before = process.memoryUsage().arrayBuffers;
    let whilePaused = 0;
    const total = await new Promise<number>((resolve, reject) => {
      httpRequest({ host: '127.0.0.1', port: big.http.port, path: `/dicomweb/studies/${uid}` }, (response) => {
        let bytes = 0;
        response.once('data', () => {
          // Without back-pressure the whole study would now gather in memory.
          response.pause();
          setTimeout(() => {
            whilePaused = process.memoryUsage().arrayBuffers - before;
            response.resume();
          }, 500);
        });
        response
          .on('data', (chunk: Buffer) => (bytes += chunk.length))
          .on('end', () => resolve(bytes))
          .on('error', reject);
      })
        .on('error', reject)
        .end();
    });
    expect(total).toBeGreaterThan(60 * 1024 * 1024);
    expect(whilePaused).toBeLessThan(20 * 1024 * 1024);
    await new Promise<void>((resolve) => {
      const request = httpRequest({ host: '127.0.0.1', port: big.http.port, path: `/dicomweb/studies/${uid}` }, (response) => {
        response
          .once('data', () => response.destroy())
          .on('close', () => resolve())
          .on('error', () => undefined);
      });
      request.on('error', () => undefined).end();
    });
    expect((await ask(big, `/studies/${uid}/series`)).status).toBe(200);
  } finally {
    await big.close();
  }
}, 60_000);

testNeeding('dcmtk', 'dcmtk reads what WADO-RS gives, coerced headers too', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'meridian-wado-'));
  const coerced = await openArchive({
    coercionFor: () => ({ replace: { patientId: 'LOCAL-7' }, modifyingSystem: 'meridian', at: '20260102030405' }),
  });
  try {
    await stow(coerced, files);
    const target = path.join(folder, 'back.dcm');
    writeFileSync(target, (await ask(coerced, first, { headers: { accept: 'application/dicom' } })).body);
    const dump = execFileSync('dcmdump', ['+P', '0010,0020', target]).toString();
    expect(dump).toContain('[LOCAL-7]');
    expect(dump).toContain('[P-1]');
    execFileSync('dcmftest', [target]);
  } finally {
    await coerced.close();
    rmSync(folder, { recursive: true });
  }
});
