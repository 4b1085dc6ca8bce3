import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { loadNodeConfig } from '@meridian/node/config';
import { part10Prefix } from '@meridian/node/dicom/part10';
import { type MeridianNode, openNode } from '@meridian/node/node';
import { has, testNeeding } from '@meridian/shared/testing/needs';
import { madeUpResidentId } from '../src/data/person-ids.ts';
import type { Person } from '../src/data/studies.ts';
import { hospitalClient, type Transfer } from '../src/hospital-client.ts';
import { type Network, openNetwork } from '../src/network.ts';
import { type Image, image, keepLog, leaks, leaksIn, Ledger, postJson, request, storeRaw, study, until, wordsOf } from './hostile-parts.ts';

const MIB = 1024 * 1024;
const CHEN: Person & { residentId: string } = {
  name: 'Chen^Yulan=陈^玉兰',
  birthDate: '19620817',
  sex: 'F',
  residentId: madeUpResidentId('19620817', 544),
};
const PATIENT_ID = 'HP-70331-Q';
const WORDS = wordsOf(CHEN, PATIENT_ID);

const log = keepLog('node');
const ledger = new Ledger();
let folder = '';
/** D stands on a small disk of its own. */
let network: Network<'a' | 'd'>;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'meridian-full-'));
  mkdirSync(join(folder, 'd'));
  if (has('root')) mount('size=48m');
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
  if (has('root')) spawnSync('umount', [join(folder, 'd')]);
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

function mount(options: string): void {
  const done = spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', join(folder, 'd')]);
  if (done.status !== 0) throw new Error(`mount: ${done.stderr.toString()}`);
}

testNeeding(
  'root',
  'a full disk refuses in words at every door, loses nothing that was accepted, and goes on when there is room',
  async () => {
    const d = network.hospital('d');
    const images = Array.from({ length: 60 }, (_, at) =>
      image({ study: 'full disk', number: at + 1, person: CHEN, patientId: PATIENT_ID, pixelBytes: 1024 * 1024 }),
    );
    log.news();
    const refused: Image[] = [];
    for (const one of images) {
      const { status, comment } = await storeRaw(d, one);
      if (status === 0) ledger.add(d, one);
      else {
        expect([status, comment]).toEqual([0xa700, expect.stringMatching(/^DISK_(FULL|LOW)$/)]);
        refused.push(one);
      }
      if (refused.length > 6) break;
    }
    expect(refused.length).toBeGreaterThan(6);
    expect(log.news().some((line) => line.includes('"event":"c-store-refused"') && /DISK_(FULL|LOW)/.test(line))).toBe(true);
    await ledger.assertNothingLost();

    fillUp(join(folder, 'd', 'filler'));
    const small = image({ study: 'full disk', number: 100, person: CHEN, patientId: PATIENT_ID });
    const stow = await request(`${d.url}/dicomweb/studies`, {
      method: 'POST',
      headers: { 'content-type': 'application/dicom' },
      body: Buffer.concat([part10Prefix(small), small.dataSet]),
    });
    expect(stow.status).toBe(409);
    expect(JSON.stringify(stow.body)).toContain(String(0xa700));
    expect(stow.headers.get('warning')).toMatch(/DISK_(FULL|LOW)/);
    await untilAuditIsFull(d);
    const consent = await postJson(d, '/api/v1/consents', {
      personId: CHEN.residentId,
      grantee: { kind: 'this-hospital' },
      validForMs: 60_000,
      clerk: 'clerk',
    });
    expect([consent.status, consent.contentType]).toEqual([expect.any(Number), 'application/problem+json; charset=utf-8']);
    expect(consent.status).toBeGreaterThanOrEqual(429);
    await ledger.assertNothingLost();

    rmSync(join(folder, 'd', 'filler'));
    mount('remount,size=200m');
    await until(async () => (await storeRaw(d, small)).status === 0, 'the node takes objects again');
    ledger.add(d, small);
    for (const one of refused) {
      expect((await storeRaw(d, one)).status).toBe(0);
      ledger.add(d, one);
    }
    await until(async () => (await postJson(d, '/api/v1/history', { personId: CHEN.residentId })).status === 200, 'histories again');
    await network.settle();
    await d.restart();
    await network.settle();
    const { studies } = await network.hospital('a').client.history(CHEN.residentId);
    expect(studies.find((one) => one.studyInstanceUid === small.studyInstanceUid)?.instanceCount).toBe(
      (await d.client.instancesOf(small.studyInstanceUid)).length,
    );
  },
  120_000,
);

/** What cannot be logged is not shown: the last page of the log takes a few entries more, then none. */
async function untilAuditIsFull(hospital: Parameters<typeof postJson>[0]): Promise<void> {
  for (let asked = 0; asked < 60; asked += 1) {
    const history = await postJson(hospital, '/api/v1/history', { personId: CHEN.residentId });
    if (history.status === 200) continue;
    expect([history.status, history.contentType, history.body['reason']]).toEqual([
      429,
      'application/problem+json; charset=utf-8',
      expect.stringMatching(/^(AUDIT_UNWRITABLE|DISK_FULL)$/),
    ]);
    return;
  }
  throw new Error('the audit log never was full');
}

function fillUp(file: string): void {
  // Whole first, then in small pieces, until not a byte is left.
  spawnSync('dd', ['if=/dev/zero', `of=${file}`, 'bs=64k']);
  spawnSync('dd', ['if=/dev/zero', `of=${file}`, 'bs=1', 'count=8192', `seek=${statSync(file).size}`]);
}

async function lastTransfer(hospital: { readonly url: string }, uid: string): Promise<Transfer | undefined> {
  const { body } = await request(`${hospital.url}/api/v1/transfers`);
  // The newest first.
  return (body['transfers'] as Transfer[]).find((one) => one.studyInstanceUid === uid);
}

testNeeding(
  'root',
  'a copy that meets a full disk says so, keeps what has arrived and is made whole when there is room',
  async () => {
    const [a, d] = [network.hospital('a'), network.hospital('d')];
    const images = study({ study: 'larger than the room', count: 24, person: CHEN, patientId: PATIENT_ID, pixelBytes: 2 * MIB });
    const uid = images[0]!.studyInstanceUid;
    await ledger.send(a, images);
    await network.settle();
    await d.client.recordConsent({ personId: CHEN.residentId });
    const filler = join(folder, 'd', 'filler');
    fillUp(filler);
    truncateSync(filler, statSync(filler).size - 20 * MIB);
    log.news();
    await expect(d.client.fetchStudy({ personId: CHEN.residentId, studyInstanceUid: uid })).rejects.toMatchObject({
      reason: expect.stringMatching(/^(DISK_FULL|DISK_LOW|AUDIT_UNWRITABLE)$/),
    });
    const arrived = (await d.node.store.studies.instancesOf(uid)).length;
    expect(arrived).toBeGreaterThan(0);
    expect(arrived).toBeLessThan(images.length);
    expect(log.news().some((line) => /DISK_(FULL|LOW)|AUDIT_UNWRITABLE/.test(line))).toBe(true);
    rmSync(filler);
    if ((await lastTransfer(d, uid))?.state === 'failed') {
      const done = await d.client.fetchStudy({ personId: CHEN.residentId, studyInstanceUid: uid });
      expect(done.resumedInstances).toBeGreaterThanOrEqual(arrived);
    }
    await until(async () => (await lastTransfer(d, uid))?.state === 'done', 'the copy is whole', 60_000);
    expect((await d.node.store.studies.study(uid))?.complete).toBe(true);
    expect(await d.node.store.studies.instancesOf(uid)).toHaveLength(images.length);
  },
  120_000,
);

testNeeding(
  'root',
  'a holder that cannot write its audit log releases not a byte',
  async () => {
    const [a, d] = [network.hospital('a'), network.hospital('d')];
    const images = study({ study: 'held by the full one', count: 2, person: CHEN, patientId: PATIENT_ID });
    const uid = images[0]!.studyInstanceUid;
    await ledger.send(d, images);
    await network.settle();
    await a.client.recordConsent({ personId: CHEN.residentId });
    await network.settle();
    await until(
      async () => (await a.client.history(CHEN.residentId)).studies.find((one) => one.studyInstanceUid === uid)?.consent === 'allowed',
      'the consent at the index',
    );
    fillUp(join(folder, 'd', 'filler'));
    await untilAuditIsFull(d);
    log.news();
    const releases = (): number =>
      readFileSync(join(folder, 'd/audit/audit.jsonl'), 'utf8')
        .split('\n')
        .filter((line) => line.includes('"RELEASE"') && line.includes(uid)).length;
    await postJson(a, '/api/v1/transfers', { personId: CHEN.residentId, studyInstanceUid: uid });
    await until(
      () =>
        log.lines.some(
          (line) => /"event":"transfer\.(refused|ended)"/.test(line) && line.includes(uid) && /DISK_FULL|AUDIT_UNWRITABLE/.test(line),
        ),
      'the refusal in the log',
    );
    await new Promise((wait) => setTimeout(wait, 500));
    expect(await a.node.store.studies.instancesOf(uid)).toEqual([]);
    expect(releases()).toBe(0);
    rmSync(join(folder, 'd', 'filler'));
    if ((await lastTransfer(a, uid))?.state === 'failed') await a.client.fetchStudy({ personId: CHEN.residentId, studyInstanceUid: uid });
    await until(async () => (await lastTransfer(a, uid))?.state === 'done', 'the copy is whole', 60_000);
    expect(releases()).toBeGreaterThan(0);
  },
  120_000,
);

test('a disk below its reserve takes nothing new, says so, and stays readable', async () => {
  const data = join(folder, 'reserve');
  const defaults = loadNodeConfig({ folder: data, env: {} });
  const config = { ...defaults, dimse: { ...defaults.dimse, port: 0, aeTitle: 'RESERVE' }, http: { host: '127.0.0.1', port: 0 } };
  const kept = image({ study: 'reserve', number: 1, person: CHEN, patientId: PATIENT_ID });
  const late = image({ study: 'reserve', number: 2, person: CHEN, patientId: PATIENT_ID });
  const doorOf = (node: MeridianNode): Parameters<typeof storeRaw>[0] => ({ dimsePort: node.dimsePort, aeTitle: 'RESERVE' });
  const roomy = await openNode({ ...config, minimumFreeDisk: 0 }, { log: log.log });
  try {
    expect(await storeRaw(doorOf(roomy), kept)).toMatchObject({ status: 0 });
  } finally {
    await roomy.close();
  }
  const tight = await openNode({ ...config, minimumFreeDisk: 1 }, { log: log.log });
  try {
    log.news();
    expect(await storeRaw(doorOf(tight), late)).toEqual({ status: 0xa700, comment: 'DISK_LOW' });
    expect((await request(`${tight.apiUrl}/node`)).body['limitsReached']).toEqual(['disk-nearly-full']);
    expect(log.news().some((line) => line.includes('"event":"c-store-refused"') && line.includes('DISK_LOW'))).toBe(true);
    expect(await hospitalClient(tight.pageUrl).instancesOf(kept.studyInstanceUid)).toEqual([kept.sopInstanceUid]);
  } finally {
    await tight.close();
  }
}, 30_000);

test('after all of it nothing that was accepted is lost, and no line of any log tells of a patient', async () => {
  for (const { key } of network.hospitals) await network.hospital(key).restart();
  expect(await ledger.assertNothingLost()).toBeGreaterThanOrEqual(has('root') ? 45 : 3);
  expect(leaks(log.lines, WORDS)).toEqual([]);
  expect(
    leaksIn(
      ['a', 'd'].map((key) => join(folder, key, 'audit/audit.jsonl')),
      WORDS,
    ),
  ).toEqual([]);
}, 60_000);
