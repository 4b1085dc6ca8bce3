import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { JoinedRooms } from '@meridian/node/node';
import type { StudyRow } from '@meridian/node/store/rows';
import { decodeStep, encodeStep } from '@meridian/node/transfer/codec';
import { TRANSFER_PROTOCOL } from '@meridian/node/transfer/limits';
import { PurposeOfUse } from '@meridian/shared/generated/meridian/v1/common';
import { parsePersonId } from '@meridian/shared/identifiers';
import { findInDatabase } from '../src/database-dump.ts';
import { madeUpResidentId } from '../src/data/person-ids.ts';
import type { Person } from '../src/data/studies.ts';
import type { HistoryStudy, Transfer } from '../src/hospital-client.ts';
import { openModality } from '../src/modality.ts';
import { type Hospital, type Network, openNetwork } from '../src/network.ts';
import {
  assertReturned,
  type Image,
  image,
  keepLog,
  leaks,
  leaksIn,
  Ledger,
  postJson,
  send,
  study,
  until,
  wordsOf,
} from './hostile-parts.ts';

const MIB = 1024 * 1024;
const SUN: Person & { residentId: string } = {
  name: 'Sun^Shuzhen=孙^淑珍',
  birthDate: '19510306',
  sex: 'F',
  residentId: madeUpResidentId('19510306', 226),
};
/** The same resident id, registered by another hospital with what it heard. */
const MISHEARD: Person = { name: 'Sun^Shuzheng=孙^树正', birthDate: '19510603', sex: 'M', residentId: SUN.residentId };
const ZHOU: Person & { residentId: string } = {
  name: 'Zhou^Dawei=周^大伟',
  birthDate: '19790914',
  sex: 'M',
  residentId: madeUpResidentId('19790914', 771),
};
const FOREIGNER: Person = { name: 'Okonkwo^Adaeze', birthDate: '19930121', sex: 'F' };
const SHARED_ID = 'ST-40017-X';
const PLAN = [
  { key: 'a', name: 'Hospital A', assigningAuthority: 'AAA', aeTitle: 'HOSPITAL_A' },
  { key: 'b', name: 'Hospital B', assigningAuthority: 'BBB', aeTitle: 'HOSPITAL_B' },
  { key: 'c', name: 'Hospital C', assigningAuthority: 'CCC', aeTitle: 'HOSPITAL_C' },
] as const;
const WORDS = [SUN, MISHEARD, ZHOU, FOREIGNER].flatMap((person) => wordsOf(person, SHARED_ID, 'ST-40018-Y'));

const log = keepLog('node');
const ledger = new Ledger();
const LARGE = study({ study: 'large', count: 40, person: ZHOU, patientId: SHARED_ID, pixelBytes: 2 * MIB });
const LARGE_TOO = study({ study: 'large too', count: 40, person: ZHOU, patientId: SHARED_ID, pixelBytes: 2 * MIB });
let folder = '';
let network: Network<'a' | 'b' | 'c'>;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'meridian-states-'));
  network = await openNetwork({
    folder,
    hospitals: PLAN,
    quietTimeMs: 400,
    releasedQuietTimeMs: 200,
    parts: { log: log.log },
    indexLog: log.log,
  });
}, 60_000);

afterAll(async () => {
  await network?.close();
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

const rooms = (key: 'a' | 'b' | 'c'): JoinedRooms => network.hospital(key).node.joined!;
const rowOf = async (hospital: Hospital, uid: string): Promise<StudyRow | undefined> => hospital.node.store.studies.study(uid);

async function studyAt(hospital: Hospital, person: { residentId: string }, uid: string): Promise<HistoryStudy | undefined> {
  return (await hospital.client.history(person.residentId)).studies.find((one) => one.studyInstanceUid === uid);
}

function remoteVersion(one: HistoryStudy | undefined): number | undefined {
  return (one?.holders as readonly { self: boolean; version: number }[] | undefined)?.find((holder) => !holder.self)?.version;
}

async function transferOf(hospital: Hospital, uid: string): Promise<Transfer | undefined> {
  const response = await fetch(`${hospital.url}/api/v1/transfers`);
  const { transfers } = (await response.json()) as { transfers: readonly Transfer[] };
  // The newest first.
  return transfers.find((one) => one.studyInstanceUid === uid);
}

test('a study is not complete while an association that carries it is open; a late instance makes a new version at the index', async () => {
  const [a, c] = [network.hospital('a'), network.hospital('c')];
  const images = study({ study: 'slow', count: 3, person: SUN, patientId: SHARED_ID });
  const uid = images[0]!.studyInstanceUid;
  const modality = await openModality({
    host: '127.0.0.1',
    port: a.dimsePort,
    callingAeTitle: 'CT1',
    calledAeTitle: a.aeTitle,
    storage: images,
  });
  // A second association that comes and goes with a part of the same study closes nothing.
  expect(await modality.store(images[0]!)).toBe(0);
  expect(await send(a, [images[1]!])).toEqual([0]);
  for (let looks = 0; looks < 12; looks += 1) {
    await new Promise((wait) => setTimeout(wait, 150));
    const row = await rowOf(a, uid);
    expect([row?.state, row?.complete]).toEqual(['receiving', false]);
  }
  expect(await studyAt(c, SUN, uid)).toBeUndefined();
  expect(await modality.store(images[2]!)).toBe(0);
  await modality.release();
  for (const one of images) ledger.add(a, one);
  await network.settle();
  expect(await rowOf(a, uid)).toMatchObject({ state: 'advertised', complete: true, version: 1 });
  const first = await studyAt(c, SUN, uid);
  expect([first?.instanceCount, remoteVersion(first)]).toEqual([3, 1]);

  await ledger.send(a, [image({ study: 'slow', number: 4, person: SUN, patientId: SHARED_ID })]);
  await network.settle();
  expect((await rowOf(a, uid))?.version).toBe(2);
  const second = await studyAt(c, SUN, uid);
  expect([second?.instanceCount, remoteVersion(second)]).toEqual([4, 2]);
  // The same again is nothing new.
  expect(await send(a, images)).toEqual([0, 0, 0]);
  await network.settle();
  expect(remoteVersion(await studyAt(c, SUN, uid))).toBe(2);
}, 60_000);

test('the study of a person without national id stays local, and equal local ids never join', async () => {
  const [a, b, c] = [network.hospital('a'), network.hospital('b'), network.hospital('c')];
  const alone = study({ study: 'without national id', count: 2, person: FOREIGNER, patientId: SHARED_ID });
  const uid = alone[0]!.studyInstanceUid;
  await ledger.send(b, alone);
  await ledger.send(c, study({ study: 'same id at C', count: 2, person: ZHOU, patientId: SHARED_ID }));
  await network.settle();
  expect((await rowOf(b, uid))?.complete).toBe(true);
  expect(findInDatabase(network.index.databasePath, [uid])).toEqual([]);
  const advertised = image({ study: 'slow', person: SUN, patientId: SHARED_ID }).studyInstanceUid;
  expect(findInDatabase(network.index.databasePath, [advertised]).length).toBeGreaterThan(0);

  const names = async (hospital: Hospital): Promise<string> =>
    JSON.stringify(await hospital.client.searchStudies(`?PatientID=${SHARED_ID}`));
  expect(await names(a)).toMatch(/淑珍/);
  expect(await names(a)).not.toMatch(/大伟|Okonkwo/);
  expect(await names(b)).not.toMatch(/大伟|淑珍/);
  expect(await names(c)).not.toMatch(/淑珍|Okonkwo/);
  for (const hospital of [a, b, c]) {
    const hers = (await hospital.client.history(SUN.residentId)).studies.map((one) => one.studyInstanceUid);
    const his = (await hospital.client.history(ZHOU.residentId)).studies.map((one) => one.studyInstanceUid);
    expect(hers).toEqual([advertised]);
    expect(his).toEqual([image({ study: 'same id at C', person: ZHOU, patientId: SHARED_ID }).studyInstanceUid]);
    expect([...hers, ...his]).not.toContain(uid);
  }
  // A local id is no person id, whatever it looks like.
  expect((await a.client.history(`mrn:AAA:${SHARED_ID}`)).studies.every((one) => one.holders.every((holder) => holder.self))).toBe(true);
  expect((await c.client.history(`mrn:AAA:${SHARED_ID}`)).studies).toEqual([]);
});

test('a fetched study is served under the local id and never under the one it came with; a mismatch shows before it is opened', async () => {
  const [a, c] = [network.hospital('a'), network.hospital('c')];
  const uid = image({ study: 'slow', person: SUN, patientId: SHARED_ID }).studyInstanceUid;
  await ledger.send(c, study({ study: 'misheard', count: 1, person: MISHEARD, patientId: 'ST-40018-Y' }));
  await network.settle();
  await c.client.recordConsent({ personId: SUN.residentId });
  await c.client.fetchStudy({ personId: SUN.residentId, studyInstanceUid: uid });
  const copy = await studyAt(c, SUN, uid);
  expect(copy?.held).toBe('copy');
  expect(copy?.mismatch).toEqual(
    expect.arrayContaining([
      { field: 'sex', local: 'M', fetched: 'F' },
      { field: 'birthDate', local: '19510603', fetched: '19510306' },
      expect.objectContaining({ field: 'name' }),
    ]),
  );
  expect(
    (await studyAt(c, SUN, image({ study: 'misheard', person: MISHEARD, patientId: 'x' }).studyInstanceUid))?.mismatch,
  ).toBeUndefined();
  const under = async (patientId: string): Promise<string[]> =>
    (await c.client.searchStudies(`?PatientID=${patientId}`)).map((row) => String(row['0020000D']?.Value?.[0]));
  expect(await under('ST-40018-Y')).toContain(uid);
  expect(await under(SHARED_ID)).not.toContain(uid);
  const metadata = JSON.parse(
    (await c.client.bytes(`/dicomweb/studies/${uid}/metadata`, 'application/dicom+json')).body.toString(),
  ) as Record<string, { Value?: unknown[] }>[];
  for (const one of metadata) {
    expect(one['00100020']?.Value).toEqual(['ST-40018-Y']);
    expect(JSON.stringify(one['04000561'])).toContain(SHARED_ID);
  }
  // At its own hospital it is still as it was sent.
  await assertReturned(a, image({ study: 'slow', number: 1, person: SUN, patientId: SHARED_ID }));
}, 60_000);

test('a copy that is not amended yet is brought up to date by asking again, and what is here does not travel', async () => {
  const [a, c] = [network.hospital('a'), network.hospital('c')];
  const fifth = image({ study: 'slow', number: 5, person: SUN, patientId: SHARED_ID });
  await ledger.send(a, [fifth]);
  await network.settle();
  const done = await c.client.fetchStudy({ personId: SUN.residentId, studyInstanceUid: fifth.studyInstanceUid });
  expect(done.resumedInstances).toBe(4);
  expect(await c.client.instancesOf(fifth.studyInstanceUid)).toHaveLength(5);
}, 30_000);

async function startCopy(hospital: Hospital, uid: string): Promise<void> {
  const answer = await postJson(hospital, '/api/v1/transfers', { personId: ZHOU.residentId, studyInstanceUid: uid });
  expect(answer.status).toBe(202);
}

async function untilUnderWay(hospital: Hospital, uid: string): Promise<void> {
  await until(async () => ((await transferOf(hospital, uid))?.progress?.instancesVerified ?? 0) >= 3, 'the first images of the copy');
}

const sopsHeld = async (hospital: Hospital, uid: string): Promise<string[]> =>
  (await hospital.node.store.studies.instancesOf(uid)).map((row) => row.sopInstanceUid);

test('a node that is restarted in the middle of a fetch goes on by itself, where it was', async () => {
  const [b, c] = [network.hospital('b'), network.hospital('c')];
  await ledger.send(b, LARGE);
  await network.settle();
  await c.client.recordConsent({ personId: ZHOU.residentId });
  const uid = LARGE[0]!.studyInstanceUid;
  await startCopy(c, uid);
  await untilUnderWay(c, uid);
  await c.restart();
  await until(async () => (await transferOf(c, uid))?.state === 'done', 'the copy is whole');
  const done = await transferOf(c, uid);
  expect(done?.resumedInstances).toBeGreaterThanOrEqual(3);
  expect(done?.resumedInstances).toBeLessThan(LARGE.length);
  expect(done?.digestMismatches).toBe(0);
  const held = await sopsHeld(c, uid);
  expect(held.toSorted()).toEqual(LARGE.map((one) => one.sopInstanceUid).toSorted());
  expect((await rowOf(c, uid))?.complete).toBe(true);
}, 120_000);

test('the holder too may be restarted in the middle of a fetch', async () => {
  const [b, c] = [network.hospital('b'), network.hospital('c')];
  const images = study({ study: 'large holder', count: 30, person: ZHOU, patientId: SHARED_ID, pixelBytes: 2 * MIB });
  await ledger.send(b, images);
  await network.settle();
  const uid = images[0]!.studyInstanceUid;
  await startCopy(c, uid);
  await untilUnderWay(c, uid);
  await b.restart();
  await until(async () => (await transferOf(c, uid))?.state === 'done', 'the copy is whole');
  expect(await sopsHeld(c, uid)).toHaveLength(images.length);
  expect((await transferOf(c, uid))?.digestMismatches).toBe(0);
}, 120_000);

test('a revocation at any hospital stops a running transfer within ten seconds, with not a byte after it', async () => {
  const [b, c] = [network.hospital('b'), network.hospital('c')];
  await ledger.send(b, LARGE_TOO);
  await network.settle();
  const uid = LARGE_TOO[0]!.studyInstanceUid;
  const { federation, peerHost } = rooms('c');
  const { grant } = await federation.channel.call('grants', 'issueGrant', {
    patientKeys: await federation.patientKeys([parsePersonId(ZHOU.residentId)]),
    holderNode: rooms('b').federation.nodeId,
    studyInstanceUids: [uid],
    purposeOfUse: PurposeOfUse.PURPOSE_OF_USE_TREAT,
    subject: 'local-operator',
    role: 'viewer',
  });
  // An asker that reads slowly, so that bytes are in flight for as long as it takes.
  const stream = await peerHost.dial(rooms('b').federation.nodeId, TRANSFER_PROTOCOL, AbortSignal.timeout(10_000));
  let closeReason = '';
  let dataBytes = 0;
  let framesAfterClose = 0;
  let revoked: Promise<unknown> | undefined;
  let revokedAtMs = 0;
  let bytesAtRevocation = 0;
  let runningAtRevocation = 0;
  let stoppedAfterMs = Number.POSITIVE_INFINITY;
  let asked = 0;
  const ask = (): void => {
    const one = LARGE_TOO[asked % LARGE_TOO.length]!;
    asked += 1;
    stream.send(encodeStep({ $case: 'get', value: { requestId: asked, sopInstanceUid: one.sopInstanceUid, offset: 0n, length: 0n } }));
  };
  stream.send(encodeStep({ $case: 'hello', value: { grant: { compact: grant!.compact }, studyInstanceUid: uid, codings: ['identity'] } }));
  for await (const frame of stream.messages()) {
    const step = decodeStep(frame);
    if (closeReason !== '') framesAfterClose += 1;
    if (step?.$case === 'close') {
      closeReason = step.value.reason;
      stoppedAfterMs = performance.now() - revokedAtMs;
    }
    if (step?.$case === 'accept') for (let ahead = 0; ahead < 6; ahead += 1) ask();
    if (step?.$case !== 'data') continue;
    dataBytes += step.value.bytes.length;
    if (step.value.last && asked < LARGE_TOO.length) ask();
    await new Promise((wait) => setTimeout(wait, 5));
    if (revoked === undefined && dataBytes > 3 * MIB) {
      runningAtRevocation = rooms('b').transfers.running().length;
      revokedAtMs = performance.now();
      bytesAtRevocation = dataBytes;
      // A third hospital, which neither holds the study nor asked for it.
      revoked = network.hospital('a').client.revokeConsent({ personId: ZHOU.residentId });
    }
  }
  await revoked;
  expect(closeReason).toBe('CONSENT_REVOKED');
  expect(stoppedAfterMs).toBeLessThan(10_000);
  expect(framesAfterClose).toBe(0);
  expect(bytesAtRevocation).toBeGreaterThan(3 * MIB);
  expect(runningAtRevocation).toBe(1);
  expect(dataBytes).toBeLessThan(LARGE_TOO.length * 2 * MIB);
  expect(rooms('b').transfers.running()).toEqual([]);
  expect(log.lines.some((line) => line.includes('"event":"transfer.ended"') && line.includes('CONSENT_REVOKED'))).toBe(true);
  stream.abort('done');
  await until(
    () =>
      readFileSync(join(folder, 'b/audit/audit.jsonl'), 'utf8')
        .split('\n')
        .some((line) => line.includes('"RELEASE"') && line.includes(uid) && line.includes('CONSENT_REVOKED')),
    'the end of the release in the audit log',
    10_000,
  );
  // Neither the grant, which is still in its time, nor a new one opens it again.
  const again = await peerHost.dial(rooms('b').federation.nodeId, TRANSFER_PROTOCOL, AbortSignal.timeout(10_000));
  again.send(encodeStep({ $case: 'hello', value: { grant: { compact: grant!.compact }, studyInstanceUid: uid, codings: ['identity'] } }));
  const answers: string[] = [];
  for await (const frame of again.messages()) {
    const step = decodeStep(frame);
    answers.push(step?.$case === 'close' ? step.value.reason : (step?.$case ?? ''));
  }
  expect(answers).toEqual(['CONSENT_REVOKED']);
  await expect(c.client.fetchStudy({ personId: ZHOU.residentId, studyInstanceUid: uid })).rejects.toMatchObject({
    reason: 'CONSENT_REVOKED',
  });
}, 60_000);

test('a copy that was running when consent was withdrawn ends by itself, and what had arrived is locked', async () => {
  const [a, c] = [network.hospital('a'), network.hospital('c')];
  const uid = LARGE_TOO[0]!.studyInstanceUid;
  await c.client.recordConsent({ personId: ZHOU.residentId });
  await startCopy(c, uid);
  await untilUnderWay(c, uid);
  const revokedAtMs = performance.now();
  await a.client.revokeConsent({ personId: ZHOU.residentId });
  await until(async () => ((await transferOf(c, uid))?.state ?? 'running') !== 'running', 'the copy ends', 10_000);
  expect(performance.now() - revokedAtMs).toBeLessThan(10_000);
  expect(await transferOf(c, uid)).toMatchObject({ state: 'failed', failure: { code: 'PERMISSION_DENIED', reason: 'CONSENT_REVOKED' } });
  const held = await sopsHeld(c, uid);
  expect(held.length).toBeGreaterThanOrEqual(3);
  expect(held.length).toBeLessThan(LARGE_TOO.length);
  await until(async () => (await rowOf(c, uid))?.locked === true, 'the lock', 10_000);
  const one = LARGE_TOO.find((each) => held.includes(each.sopInstanceUid))!;
  for (const [path, accept] of pathsOf(one))
    await expect(c.client.bytes(path, accept)).rejects.toMatchObject({ status: 403, reason: 'COPY_LOCKED' });
  await new Promise((wait) => setTimeout(wait, 500));
  expect(await sopsHeld(c, uid)).toHaveLength(held.length);
  // The earlier copies under the withdrawn consent are locked too; the sender's own archive is untouched.
  await expect(c.client.bytes(`/dicomweb/studies/${LARGE[0]!.studyInstanceUid}/metadata`, 'application/dicom+json')).rejects.toMatchObject({
    reason: 'COPY_LOCKED',
  });
  // A restart unlocks nothing and starts nothing.
  await c.restart();
  await expect(c.client.bytes(`/dicomweb/studies/${uid}/metadata`, 'application/dicom+json')).rejects.toMatchObject({
    reason: 'COPY_LOCKED',
  });
  await new Promise((wait) => setTimeout(wait, 500));
  expect(await sopsHeld(c, uid)).toHaveLength(held.length);
}, 60_000);

function pathsOf(one: Image): readonly (readonly [string, string])[] {
  const instance = `/dicomweb/studies/${one.studyInstanceUid}/series/${one.seriesInstanceUid}/instances/${one.sopInstanceUid}`;
  return [
    [instance, 'multipart/related; type="application/dicom"; transfer-syntax=*'],
    [`/dicomweb/studies/${one.studyInstanceUid}`, 'multipart/related; type="application/dicom"; transfer-syntax=*'],
    [`${instance}/metadata`, 'application/dicom+json'],
    [`${instance}/frames/1`, 'multipart/related; type="application/octet-stream"; transfer-syntax=*'],
    [`${instance}/rendered`, 'image/jpeg'],
    [`${instance}/thumbnail`, 'image/jpeg'],
    [`/dicomweb/studies/${one.studyInstanceUid}/thumbnail`, 'image/jpeg'],
  ];
}

test('after all of it nothing that was accepted is lost, and no line of any log tells of a patient', async () => {
  expect(await ledger.assertNothingLost()).toBeGreaterThan(110);
  expect(leaks(log.lines, WORDS)).toEqual([]);
  expect(
    leaksIn([...PLAN.map(({ key }) => join(folder, key, 'audit/audit.jsonl')), join(folder, 'index/audit/audit.jsonl')], WORDS),
  ).toEqual([]);
}, 60_000);
