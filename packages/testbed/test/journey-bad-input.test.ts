import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateRawSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { part10Prefix } from '@meridian/node/dicom/part10';
import { PDU } from '@meridian/node/dimse/pdu';
import { associateRequest, command, CT, dataPdu, RawPeer } from '@meridian/node/dimse/testing/raw-peer';
import { madeUpResidentId } from '../src/data/person-ids.ts';
import type { Person } from '../src/data/studies.ts';
import { type Network, openNetwork } from '../src/network.ts';
import {
  type Image,
  image,
  keepLog,
  leaks,
  leaksIn,
  Ledger,
  postJson,
  request,
  send,
  storeRaw,
  study,
  until,
  wordsOf,
} from './hostile-parts.ts';

const CHEN: Person & { residentId: string } = {
  name: 'Chen^Yulan=陈^玉兰',
  birthDate: '19620817',
  sex: 'F',
  residentId: madeUpResidentId('19620817', 544),
};
const PATIENT_ID = 'HP-70331-Q';
const NOBODY = madeUpResidentId('19330102', 222);
const WORDS = [...wordsOf(CHEN, PATIENT_ID), Buffer.from(NOBODY)];
const DEFLATED = '1.2.840.10008.1.2.1.99';

const log = keepLog('node');
const ledger = new Ledger();
let folder = '';
let network: Network<'a' | 'd'>;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'meridian-hostile-'));
  network = await openNetwork({
    folder,
    hospitals: [
      { key: 'a', name: 'Hospital A', assigningAuthority: 'AAA', aeTitle: 'HOSPITAL_A' },
      { key: 'd', name: 'Hospital D', assigningAuthority: 'DDD', aeTitle: 'HOSPITAL_D' },
    ],
    parts: { log: log.log },
    indexLog: log.log,
  });
  await ledger.send(network.hospital('a'), study({ study: 'before', count: 3, person: CHEN, patientId: PATIENT_ID }));
}, 60_000);

afterAll(async () => {
  await network?.close();
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

const whole = (number: number): Image => image({ study: 'damaged', number, person: CHEN, patientId: PATIENT_ID });

/** Damaged objects, and the reason that tells the sender what is wrong. */
function damaged(): readonly { readonly what: string; readonly reason: string; readonly object: Image }[] {
  const truncated = whole(1);
  const liar = whole(2);
  const lie = Buffer.from(liar.dataSet);
  lie.writeUInt32LE(0x7ffffff0, lie.length - 2048 - 4);
  const nested = whole(3);
  const level = Buffer.concat([
    Buffer.from([0x40, 0x00, 0x75, 0x02]),
    Buffer.from('SQ\0\0'),
    Buffer.from([0xff, 0xff, 0xff, 0xff]),
    Buffer.from([0xfe, 0xff, 0x00, 0xe0, 0xff, 0xff, 0xff, 0xff]),
  ]);
  const beforePixels = nested.dataSet.subarray(0, nested.dataSet.length - 2048 - 12);
  const bomb = whole(4);
  const head = bomb.dataSet.subarray(0, bomb.dataSet.length - 2048 - 12);
  const pixels = Buffer.alloc(12 + 128 * 1024 * 1024);
  bomb.dataSet.copy(pixels, 0, head.length, head.length + 12);
  pixels.writeUInt32LE(pixels.length - 12, 8);
  return [
    {
      what: 'a truncated file',
      reason: 'DICOM_TRUNCATED',
      object: { ...truncated, dataSet: truncated.dataSet.subarray(0, truncated.dataSet.length - 1000) },
    },
    {
      what: 'a file cut within an element',
      reason: 'DICOM_TRUNCATED',
      object: { ...truncated, dataSet: truncated.dataSet.subarray(0, 301) },
    },
    { what: 'a lying length', reason: 'DICOM_LENGTH_LIE', object: { ...liar, dataSet: lie } },
    {
      what: '50,000 nested sequences',
      reason: 'DICOM_TOO_DEEP',
      object: { ...nested, dataSet: Buffer.concat([beforePixels, ...Array.from({ length: 50_000 }, () => level)]) },
    },
    {
      what: 'a deflate bomb',
      reason: 'DICOM_DEFLATE_BOMB',
      object: { ...bomb, transferSyntaxUid: DEFLATED, dataSet: deflateRawSync(Buffer.concat([head, pixels])) },
    },
  ];
}

test('a damaged object is refused by C-STORE and by STOW-RS with the reason, in bounded memory, and logged without the patient', async () => {
  const a = network.hospital('a');
  const objects = damaged();
  log.news();
  for (const { what, reason, object } of objects) {
    const heldBefore = process.memoryUsage().rss;
    const answer = await storeRaw(a, object);
    expect({ what, ...answer }).toEqual({ what, status: 0xc000, comment: reason });
    expect(process.memoryUsage().rss - heldBefore).toBeLessThan(200 * 1024 * 1024);
    const told = log.news();
    expect(told.filter((line) => line.includes('"event":"c-store-refused"') && line.includes(`"reason":"${reason}"`))).toHaveLength(1);

    const stow = await request(`${a.url}/dicomweb/studies`, {
      method: 'POST',
      headers: { 'content-type': 'application/dicom', accept: 'application/dicom+json' },
      body: Buffer.concat([part10Prefix(object), object.dataSet]),
    });
    expect({ what, status: stow.status }).toEqual({ what, status: 409 });
    expect(JSON.stringify(stow.body)).toContain(String(0xc000));
    expect(stow.headers.get('warning')).toContain(reason);
    expect(log.news().some((line) => line.includes('"event":"stow-answered"') && line.includes(reason))).toBe(true);
  }
  expect(await a.client.instancesOf(objects[0]?.object.studyInstanceUid ?? '')).toEqual([]);
});

test('one bad part of a STOW request costs the others nothing', async () => {
  const a = network.hospital('a');
  const good = [
    image({ study: 'mixed', number: 1, person: CHEN, patientId: PATIENT_ID }),
    image({ study: 'mixed', number: 3, person: CHEN, patientId: PATIENT_ID }),
  ];
  const bad = image({ study: 'mixed', number: 2, person: CHEN, patientId: PATIENT_ID });
  const part = (one: Image, dataSet: Buffer): Buffer =>
    Buffer.concat([Buffer.from('--cut\r\nContent-Type: application/dicom\r\n\r\n'), part10Prefix(one), dataSet, Buffer.from('\r\n')]);
  const body = Buffer.concat([
    part(good[0]!, good[0]!.dataSet),
    part(bad, bad.dataSet.subarray(0, 900)),
    part(good[1]!, good[1]!.dataSet),
    Buffer.from('--cut--\r\n'),
  ]);
  const answer = await request(`${a.url}/dicomweb/studies`, {
    method: 'POST',
    headers: { 'content-type': 'multipart/related; type="application/dicom"; boundary=cut', accept: 'application/dicom+json' },
    body,
  });
  expect(answer.status).toBe(202);
  for (const one of good) ledger.add(a, one);
  expect((await a.client.instancesOf(bad.studyInstanceUid)).toSorted()).toEqual(good.map((one) => one.sopInstanceUid).toSorted());
});

test('a sender that dies within an object leaves nothing of it, and what the association had stored stays', async () => {
  const a = network.hospital('a');
  const first = image({ study: 'power cut', number: 1, person: CHEN, patientId: PATIENT_ID });
  const second = image({ study: 'power cut', number: 2, person: CHEN, patientId: PATIENT_ID, pixelBytes: 1024 * 1024 });
  const peer = await RawPeer.connect(a.dimsePort);
  peer.send(associateRequest({ called: a.aeTitle }));
  expect((await peer.next())?.type).toBe(PDU.ASSOCIATE_AC);
  const storeOf = (one: Image): Buffer =>
    dataPdu(
      1,
      3,
      command([
        [0x0002, CT],
        [0x0100, 1],
        [0x0110, 1],
        [0x0700, 0],
        [0x0800, 0],
        [0x1000, one.sopInstanceUid],
      ]),
    );
  peer.send(storeOf(first), dataPdu(1, 2, first.dataSet));
  expect((await peer.response()).status).toBe(0);
  ledger.add(a, first);
  log.news();
  peer.send(storeOf(second), dataPdu(1, 0, second.dataSet.subarray(0, 100_000)));
  peer.close();
  await until(
    () => log.lines.some((line) => line.includes('"event":"association-ended"') && line.includes('"how"')),
    'the end of the association in the log',
  );
  expect(await a.client.instancesOf(first.studyInstanceUid)).toEqual([first.sopInstanceUid]);
});

test('a PDU of 1 GiB is answered by A-ABORT at its header, and a wrong AE title by a rejection that says which', async () => {
  const a = network.hospital('a');
  log.news();
  for (const inAssociation of [false, true]) {
    const peer = await RawPeer.connect(a.dimsePort);
    if (inAssociation) {
      peer.send(associateRequest({ called: a.aeTitle }));
      await peer.next();
    }
    peer.send(Buffer.from([inAssociation ? PDU.DATA : PDU.ASSOCIATE_RQ, 0, 0x40, 0, 0, 0]));
    // Invalid PDU parameter value (PS3.8 9.3.8).
    expect(await peer.abortReason()).toBe(6);
    peer.close();
  }
  expect(log.news().filter((line) => line.includes('"event":"association-aborted"'))).toHaveLength(2);
  const stranger = await RawPeer.connect(a.dimsePort);
  stranger.send(associateRequest({ called: 'SOMEBODY_ELSE' }));
  const answer = await stranger.next();
  // Rejected permanent, by the service user, called AE title not recognised (PS3.8 9.3.4).
  expect([answer?.type, answer?.body[1], answer?.body[2], answer?.body[3]]).toEqual([PDU.ASSOCIATE_RJ, 1, 1, 7]);
  stranger.close();
  expect(log.news().filter((line) => line.includes('"event":"association-rejected"'))).toHaveLength(1);
});

test('the same SOP Instance UID with other bytes is kept aside with 0xB000 and listed; a duplicate is Success', async () => {
  const a = network.hospital('a');
  const first = image({ study: 'collision', person: CHEN, patientId: PATIENT_ID, fill: 1 });
  await ledger.send(a, [first]);
  const storage = async (): Promise<unknown> => (await a.client.node()).storage;
  const before = await storage();
  expect(await send(a, [first])).toEqual([0]);
  expect(await storage()).toMatchObject({ instances: (before as { instances: number }).instances });
  log.news();
  const other = image({ study: 'collision', person: CHEN, patientId: PATIENT_ID, fill: 2 });
  expect(await send(a, [other])).toEqual([0xb000]);
  expect(log.news().some((line) => line.includes('"event":"instance-quarantined"') && line.includes(first.sopInstanceUid))).toBe(true);
  // Under another study, it is still the same UID.
  const elsewhere = {
    ...image({ study: 'collision elsewhere', person: CHEN, patientId: PATIENT_ID, sopInstanceUid: first.sopInstanceUid }),
  };
  expect(await send(a, [elsewhere])).toEqual([0xb000]);
  const { body } = await request(`${a.url}/api/v1/quarantine`);
  const rows = body['quarantined'] as { sopInstanceUid: string; reason: string; bytes: number }[];
  expect(rows.filter((row) => row.sopInstanceUid === first.sopInstanceUid)).toHaveLength(2);
  expect(leaks([JSON.stringify(body)], WORDS)).toEqual([]);
  const stow = await request(`${a.url}/dicomweb/studies`, {
    method: 'POST',
    headers: { 'content-type': 'application/dicom' },
    body: Buffer.concat([part10Prefix(other), other.dataSet]),
  });
  expect(stow.status).toBe(202);
  expect(JSON.stringify(stow.body)).toContain(String(0xb000));
});

test('a mistyped or unknown person id is answered with what is wrong with it, and an unknown person by an empty list', async () => {
  const a = network.hospital('a');
  const last = CHEN.residentId.at(-1);
  const mistyped = `${CHEN.residentId.slice(0, 17)}${last === '1' ? '2' : '1'}`;
  log.news();
  for (const path of ['/api/v1/history', '/api/v1/consents/list', '/api/v1/consents/revoke', '/api/v1/transfers', '/api/v1/consents']) {
    const rest = path.endsWith('transfers')
      ? { studyInstanceUid: '1.2.3' }
      : path.endsWith('consents')
        ? { grantee: { kind: 'this-hospital' }, validForMs: 60_000, clerk: 'clerk' }
        : {};
    for (const [personId, reason] of [
      [mistyped, 'PERSON_ID_CHECK_DIGIT'],
      ['Chen Yulan', 'PERSON_ID_UNKNOWN_FORM'],
      ['999999196213451234', 'PERSON_ID_UNKNOWN_FORM'],
    ] as const) {
      const answer = await postJson(a, path, { personId, ...rest });
      expect({ path, status: answer.status, type: answer.contentType, reason: answer.body['reason'] }).toEqual({
        path,
        status: 400,
        type: 'application/problem+json; charset=utf-8',
        reason,
      });
      expect(JSON.stringify(answer.body)).not.toContain(personId);
      expect(log.news().some((line) => line.includes('"event":"http-refused"') && line.includes(reason))).toBe(true);
    }
  }
  const history = await a.client.history(NOBODY);
  expect(history.studies).toEqual([]);
  expect(history.coverage).toMatchObject({ indexReachable: true, notAsked: 0 });
  await expect(a.client.fetchStudy({ personId: NOBODY, studyInstanceUid: '1.2.3.4' })).rejects.toMatchObject({ reason: 'STUDY_UNKNOWN' });
  await expect(a.client.revokeConsent({ personId: NOBODY })).rejects.toMatchObject({ status: 404, reason: 'CONSENT_UNKNOWN' });
  expect(leaks(log.lines, [Buffer.from(mistyped), Buffer.from('Chen Yulan')])).toEqual([]);
});

test('a page of another origin and a foreign host name are refused', async () => {
  const a = network.hospital('a');
  log.news();
  for (const origin of ['https://evil.example', 'null', a.url.replace('127.0.0.1', 'localhost'), network.hospital('d').url]) {
    const answer = await postJson(a, '/api/v1/history', { personId: CHEN.residentId }, { origin });
    expect([answer.status, answer.contentType, answer.body['reason']]).toEqual([
      403,
      'application/problem+json; charset=utf-8',
      'ORIGIN_NOT_ALLOWED',
    ]);
  }
  expect((await postJson(a, '/api/v1/history', { personId: CHEN.residentId }, { origin: a.url })).status).toBe(200);
  expect((await postJson(a, '/dicomweb/studies', {}, { origin: 'https://evil.example' })).status).toBe(403);
  const { port } = new URL(a.url);
  for (const host of ['evil.example', `evil.example:${port}`, `127.0.0.1.evil.example:${port}`, `user@127.0.0.1:${port}`]) {
    for (const path of ['/', '/api/v1/node', '/dicomweb/studies']) {
      const answer = await getWithHost(Number(port), path, host);
      expect({ host, path, status: answer.status, reason: (JSON.parse(answer.body) as { reason: string }).reason }).toEqual({
        host,
        path,
        status: 403,
        reason: 'HOST_NOT_ALLOWED',
      });
    }
  }
  expect((await getWithHost(Number(port), '/api/v1/node', '')).status).toBeGreaterThanOrEqual(400);
  const told = log.news();
  expect(told.filter((line) => line.includes('ORIGIN_NOT_ALLOWED')).length).toBeGreaterThanOrEqual(5);
  expect(told.filter((line) => line.includes('HOST_NOT_ALLOWED')).length).toBeGreaterThanOrEqual(9);
});

function getWithHost(port: number, path: string, host: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const asked = httpRequest({ host: '127.0.0.1', port, path, headers: { host }, setHost: false }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => (body += text));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
    });
    asked.on('error', reject);
    asked.end();
  });
}

test('after all of it nothing that was accepted is lost, and no line of any log tells of a patient', async () => {
  for (const { key } of network.hospitals) await network.hospital(key).restart();
  expect(await ledger.assertNothingLost()).toBeGreaterThanOrEqual(7);
  expect(leaks(log.lines, WORDS)).toEqual([]);
  expect(
    leaksIn(
      ['a', 'd'].map((key) => join(folder, key, 'audit/audit.jsonl')),
      WORDS,
    ),
  ).toEqual([]);
  expect(log.lines.length).toBeGreaterThan(100);
  // The same search finds what it must.
  writeFileSync(join(folder, 'planted'), `{"msg":"${CHEN.name}"}\n`);
  expect(leaksIn([join(folder, 'planted')], WORDS)).toHaveLength(1);
}, 60_000);
