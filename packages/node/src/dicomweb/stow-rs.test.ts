import { readFileSync } from 'node:fs';
import { request as httpRequest, type ClientRequest } from 'node:http';
import { connect } from 'node:net';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { testNeeding } from '@meridian/shared/testing/needs';
import { firstNumber, firstString, type DicomJson } from '../dicom/json.ts';
import { TAG } from '../dicom/tags.ts';
import { part10Prefix } from '../dicom/part10.ts';
import { datasetOf, samples } from '../dicom/testing/sample-files.ts';
import { manualClock } from '../store/testing/stores.ts';
import { ask, itemsOf, openArchive, retrieveAddress, stow, stowBody, STOW_TYPE, type Archive } from './testing/open-archive.ts';
import { instanceFile, type InstanceUids } from './testing/instance-file.ts';

let archive: Archive;
beforeAll(async () => {
  archive = await openArchive();
});
afterAll(() => archive.close());

const uids = (number: number, study = '1.2.3'): InstanceUids => ({ study, series: `${study}.1`, instance: `${study}.1.${number}` });
const referenced = (dataset: DicomJson): (string | undefined)[] =>
  itemsOf(dataset, TAG.ReferencedSOPSequence).map((item) => firstString(item, TAG.ReferencedSOPInstanceUID));
const failures = (dataset: DicomJson, tag: string = TAG.FailedSOPSequence): number[] =>
  itemsOf(dataset, tag).map((item) => firstNumber(item, TAG.FailureReason) ?? 0);
const OTHER_FAILURES = '0008119A';

test('each part is answered by itself: stored, refused or kept aside', async () => {
  const good = await stow(archive, [instanceFile(uids(1)), instanceFile(uids(2))]);
  expect([good.status, good.headers['content-type']]).toEqual([200, 'application/dicom+json']);
  expect(referenced(good.json())).toEqual(['1.2.3.1.1', '1.2.3.1.2']);
  expect(good.json<DicomJson>()[TAG.RetrieveURL]?.Value).toEqual([`${archive.http.address}/dicomweb/studies/1.2.3`]);

  const again = await stow(archive, [instanceFile(uids(1))]);
  expect([again.status, referenced(again.json())]).toEqual([200, ['1.2.3.1.1']]);

  const broken = instanceFile(uids(3));
  const mixed = await stow(archive, [
    instanceFile(uids(4)),
    broken.subarray(0, broken.length - 3),
    Buffer.from('no dicom at all'),
    instanceFile(uids(5)),
  ]);
  expect(mixed.status).toBe(202);
  expect(referenced(mixed.json())).toEqual(['1.2.3.1.4', '1.2.3.1.5']);
  expect(failures(mixed.json())).toEqual([0xc000]);
  expect(failures(mixed.json(), OTHER_FAILURES)).toEqual([0xc000]);
  expect(mixed.headers['warning']).toMatch(/DICOM_TRUNCATED.*DICOM_NOT_PART10/s);

  const collision = await stow(archive, [instanceFile(uids(1), { pixel: 9 })]);
  expect([collision.status, collision.headers['warning']]).toEqual([202, expect.stringContaining('INSTANCE_KEPT_ASIDE')]);
  expect(itemsOf(collision.json(), TAG.ReferencedSOPSequence)[0]?.['00081196']?.Value).toEqual([0xb000]);

  const none = await stow(archive, [Buffer.from('x'), Buffer.alloc(0)]);
  expect([none.status, failures(none.json(), OTHER_FAILURES)]).toEqual([409, [0xc000, 0xc000]]);
});

test('a request holds its study open until it ends', async () => {
  const clock = manualClock();
  const slow = await openArchive({ storeClock: clock });
  try {
    let request: ClientRequest | undefined;
    const answered = new Promise<number>((resolve, reject) => {
      request = httpRequest(
        { host: '127.0.0.1', port: slow.http.port, path: '/dicomweb/studies', method: 'POST', headers: { 'content-type': STOW_TYPE } },
        (response) => {
          response.resume().on('end', () => resolve(response.statusCode ?? 0));
        },
      ).on('error', reject);
    });
    const [first, second] = [instanceFile(uids(1, '1.2.9')), instanceFile(uids(2, '1.2.9'))];
    const [opening, ...rest] = stowBody([second]);
    for (const piece of [...stowBody([first]).slice(0, -1), opening ?? '']) request?.write(piece);
    while (!slow.store.settle.arriving().includes('1.2.9')) await new Promise((resolve) => setTimeout(resolve, 5));
    clock.advance(120_000);
    await slow.store.settle.idle();
    for (const piece of rest) request?.write(piece);
    request?.end();
    expect(await answered).toBe(200);
    clock.advance(70_000);
    await slow.store.settle.idle();
    expect((await slow.store.changes.after(0, 10)).map(({ kind, version }) => `${kind} ${version}`)).toEqual(['study-settled 1']);
  } finally {
    await slow.close();
  }
});

test('a study named in the address must be the study of every instance', async () => {
  const answer = await stow(archive, [instanceFile(uids(1, '1.2.4')), instanceFile(uids(1, '1.2.5'))], '/studies/1.2.4');
  expect([answer.status, referenced(answer.json()), failures(answer.json())]).toEqual([202, ['1.2.4.1.1'], [0xa900]]);
  for (const study of ['..%2F..%2Fetc', 'a.b', '1'.repeat(65), '1.2%00x', "1.2'--"]) {
    const trick = await stow(archive, [instanceFile(uids(1))], `/studies/${study}`);
    expect([study, trick.status, trick.json<{ reason: string }>().reason]).toEqual([study, 400, 'UID_INVALID']);
  }
});

test('bodies of all shapes that senders write are read, others are refused with a reason', async () => {
  const file = instanceFile(uids(1, '1.2.6'));
  const post = (headers: Record<string, string>, body: Buffer[]): Promise<{ status: number; reason?: string }> =>
    ask(archive, '/studies', { method: 'POST', headers, body }).then((answer) => ({
      status: answer.status,
      ...(answer.status >= 400 && String(answer.headers['content-type']).includes('problem')
        ? { reason: answer.json<{ reason: string }>().reason }
        : {}),
    }));
  expect(await post({ 'content-type': 'application/dicom' }, [file])).toEqual({ status: 200 });
  for (const type of [
    'multipart/related;type=application/dicom;boundary="BOUNDARY"',
    'Multipart/Related; boundary=BOUNDARY',
    'multipart/related; type="application/dicom"; boundary=BOUNDARY; start="<a>"',
  ]) {
    expect([type, await post({ 'content-type': type }, stowBody([file]))]).toEqual([type, { status: 200 }]);
  }
  expect(await post({ 'content-type': STOW_TYPE }, stowBody([file], ''))).toEqual({ status: 200 });
  expect(await post({ 'content-type': STOW_TYPE }, [Buffer.from('hello\r\n'), ...stowBody([file]), Buffer.from('epilogue')])).toEqual({
    status: 200,
  });
  // The boundary inside the pixels, but not at the start of a line.
  expect(
    await post(
      { 'content-type': STOW_TYPE },
      stowBody([instanceFile(uids(2, '1.2.6'), { pixels: Buffer.from('x--BOUNDARY--\r\nx--BOUNDARY\r\n') })]),
    ),
  ).toEqual({ status: 200 });

  expect(await post({ 'content-type': 'text/plain' }, [file])).toEqual({ status: 415, reason: 'MEDIA_TYPE_UNSUPPORTED' });
  expect(await post({ 'content-type': 'multipart/related; type="application/dicom+json"; boundary=BOUNDARY' }, stowBody([file]))).toEqual({
    status: 415,
    reason: 'MEDIA_TYPE_UNSUPPORTED',
  });
  expect(await post({ 'content-type': 'multipart/related; type="application/dicom"' }, stowBody([file]))).toEqual({
    status: 400,
    reason: 'MULTIPART_NO_BOUNDARY',
  });
  expect(await post({ 'content-type': STOW_TYPE }, [Buffer.from('--BOUNDARY--')])).toEqual({ status: 400, reason: 'STOW_EMPTY' });
  expect(await post({ 'content-type': STOW_TYPE, accept: 'application/dicom+xml' }, stowBody([file]))).toEqual({
    status: 406,
    reason: 'NOT_ACCEPTABLE',
  });
  expect((await post({ 'content-type': STOW_TYPE }, [Buffer.from('--OTHER\r\n\r\n'), file])).status).toBe(409);
});

test('a request that breaks off or never ends keeps what was whole and nothing else', async () => {
  const whole = instanceFile(uids(1, '1.2.7'));
  const endlessHeader = await ask(archive, '/studies', {
    method: 'POST',
    headers: { 'content-type': STOW_TYPE },
    body: [
      ...stowBody([whole]).slice(0, -1),
      Buffer.from('\r\n--BOUNDARY\r\n'),
      ...Array.from({ length: 100 }, () => Buffer.from(`X-Pad: ${'y'.repeat(1_000)}\r\n`)),
    ],
  });
  expect([endlessHeader.status, referenced(endlessHeader.json()), failures(endlessHeader.json(), OTHER_FAILURES)]).toEqual([
    202,
    ['1.2.7.1.1'],
    [0xc000],
  ]);

  // No closing boundary: the last part is not known to be whole.
  const open = await ask(archive, '/studies', {
    method: 'POST',
    headers: { 'content-type': STOW_TYPE },
    body: stowBody([instanceFile(uids(2, '1.2.7')), instanceFile(uids(3, '1.2.7'))]).slice(0, -1),
  });
  expect([open.status, referenced(open.json()), failures(open.json())]).toEqual([202, ['1.2.7.1.2'], [0xc000]]);

  // Content-Length says more than is sent.
  const body = Buffer.concat(stowBody([instanceFile(uids(4, '1.2.7')), instanceFile(uids(5, '1.2.7'))]).slice(0, -1));
  await new Promise<void>((resolve) => {
    const socket = connect(archive.http.port, '127.0.0.1', () => {
      socket.write(
        `POST /dicomweb/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: ${STOW_TYPE}\r\nContent-Length: ${body.length + 100_000}\r\n\r\n`,
      );
      socket.write(body, () => setTimeout(() => socket.destroy(), 50));
    });
    socket.on('close', () => resolve());
  });
  // Content-Length says less: the rest is no part of the request.
  const less = await new Promise<string>((resolve) => {
    let got = '';
    const socket = connect(archive.http.port, '127.0.0.1', () => {
      socket.write(`POST /dicomweb/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: ${STOW_TYPE}\r\nContent-Length: 100\r\n\r\n`);
      socket.write(body);
    });
    socket
      .setEncoding('latin1')
      .on('data', (text: string) => (got += text))
      .on('close', () => resolve(got))
      .on('error', () => undefined);
  });
  expect(less).toMatch(/^HTTP\/1\.1 4(00|09) /);
  await archive.store.idle();
  const held = (await archive.store.studies.instancesOf('1.2.7')).map((row) => row.sopInstanceUid);
  expect(held.filter((uid) => ['1.2.7.1.3', '1.2.7.1.5'].includes(uid))).toEqual([]);
});

test('10,000 tiny parts are answered one by one', async () => {
  const body = Buffer.concat(stowBody(Array.from({ length: 10_000 }, () => Buffer.from('x'))));
  const answer = await ask(archive, '/studies', { method: 'POST', headers: { 'content-type': STOW_TYPE }, body });
  expect([answer.status, failures(answer.json(), OTHER_FAILURES).length]).toEqual([409, 10_000]);
});

testNeeding(
  'shared data',
  'every readable file of the collection is stored and comes back byte for byte',
  async () => {
    const fresh = await openArchive();
    try {
      const seen = new Set<string>();
      let stored = 0;
      for (const each of samples()) {
        const file = readFileSync(each.file);
        const answer = await stow(fresh, [file]);
        if (answer.status !== 200) continue;
        const address = retrieveAddress(answer.json());
        if (seen.has(address)) continue;
        seen.add(address);
        stored += 1;
        const back = await ask(fresh, address, { headers: { accept: 'application/dicom; transfer-syntax=*' } });
        const sent = datasetOf(file);
        const got = datasetOf(back.body);
        expect([each.name, back.status, got.transferSyntaxUid, got.dataset.equals(sent.dataset)]).toEqual([
          each.name,
          200,
          sent.transferSyntaxUid,
          true,
        ]);
      }
      expect(stored).toBeGreaterThan(200);
    } finally {
      await fresh.close();
    }
  },
  120_000,
);

test('the prefix is ours and the same each time', () => {
  expect(
    part10Prefix({ sopClassUid: '1.2', sopInstanceUid: '1.3', transferSyntaxUid: '1.2.840.10008.1.2.1' }).subarray(128, 132).toString(),
  ).toBe('DICM');
});
