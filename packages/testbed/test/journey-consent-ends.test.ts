import { DatabaseSync } from 'node:sqlite';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { JoinedRooms } from '@meridian/node/node';
import { makeInstance } from '@meridian/node/store/testing/data-sets';
import type { ConsentStatement } from '@meridian/shared/consent';
import { parsePersonId } from '@meridian/shared/identifiers';
import { systemClock } from '@meridian/shared/platform/clock';
import { writeDataSet, utf8 } from '../src/data/data-set-writer.ts';
import { madeUpResidentId } from '../src/data/person-ids.ts';
import { uidFrom } from '../src/data/studies.ts';
import { ProblemAnswer } from '../src/hospital-client.ts';
import { type Network, openNetwork } from '../src/network.ts';
import { until } from './hostile-parts.ts';

const PLAN = [
  { key: 'm', name: 'Hospital M', assigningAuthority: 'MHIS', aeTitle: 'HOSPITAL_M' },
  { key: 'c', name: 'Hospital C', assigningAuthority: 'CHIS', aeTitle: 'HOSPITAL_C' },
] as const;
type Key = 'm' | 'c';

let folder = '';
let network: Network<Key>;
let people = 0;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'meridian-consent-ends-'));
  network = await openNetwork({ folder, hospitals: PLAN, logLevel: 'fatal', quietTimeMs: 300, releasedQuietTimeMs: 100 });
}, 60_000);

afterAll(async () => {
  await network?.close();
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

const rooms = (key: Key): JoinedRooms => network.hospital(key).node.joined!;
const client = (key: Key) => network.hospital(key).client;
const uid = (study: string): string => uidFrom('ends', study);
const somebody = (): string => madeUpResidentId('19661203', 100 + 2 * (people += 1));

async function hold(key: Key, dataSet: Buffer, settled = true): Promise<void> {
  const authority = PLAN.find((plan) => plan.key === key)!.assigningAuthority;
  const sink = network
    .hospital(key)
    .node.store.ingest.begin({ door: 'stow', transferSyntaxUid: '1.2.840.10008.1.2.1', assigningAuthority: authority });
  if (!sink.write(Buffer.from(dataSet))) await sink.drained();
  expect(await sink.end()).toMatchObject({ outcome: 'stored' });
  if (settled) await network.settle();
}

/** One CT image of a person at M. */
const imageOf = (study: string, residentId: string): Buffer =>
  makeInstance({ study: uid(study), series: uid(`${study} series`), sop: uid(`${study} image`), patientId: `M-${study}`, residentId });

/** An image whose patient is known by the national id and by a regional number. */
function imageOfTwoIds(study: string, residentId: string, regional: string): Buffer {
  const other = writeDataSet(
    [
      [
        0x00101002,
        'SQ',
        [
          [
            [0x00100020, 'LO', residentId],
            [0x00100021, 'LO', '2.16.156.10011.1.3'],
          ],
          [
            [0x00100020, 'LO', regional],
            [0x00100021, 'LO', 'REGION'],
          ],
        ],
      ],
    ],
    utf8,
  );
  const dataSet = makeInstance({ study: uid(study), series: uid(`${study} series`), sop: uid(`${study} image`), patientId: `M-${study}` });
  const at = dataSet.indexOf(Buffer.from([0x18, 0x00, 0x15, 0x00]));
  return Buffer.concat([dataSet.subarray(0, at), other, dataSet.subarray(at)]);
}

const fetchTo = (key: Key, residentId: string, study: string): Promise<string> =>
  client(key)
    .fetchStudy({ personId: residentId, studyInstanceUid: uid(study) })
    .then(
      ({ state }) => state,
      (thrown: ProblemAnswer) => thrown.reason,
    );

const read = (key: Key, study: string): Promise<string> =>
  client(key)
    .bytes(`/dicomweb/studies/${uid(study)}`, 'multipart/related; type="application/dicom"; transfer-syntax=*')
    .then(
      () => 'read',
      (thrown: ProblemAnswer) => `${thrown.reason}: ${thrown.message}`,
    );

const seen = async (key: Key, residentId: string, study: string) =>
  (await client(key).history(residentId)).studies.find(({ studyInstanceUid }) => studyInstanceUid === uid(study));

test('a denial of the holder ends what it is sending at once', async () => {
  const person = somebody();
  for (let number = 1; number <= 40; number += 1) {
    await hold(
      'm',
      makeInstance({
        study: uid('denied'),
        series: uid('denied series'),
        sop: uid(`denied ${number}`),
        instanceNumber: number,
        fill: number,
        patientId: 'M-denied',
        residentId: person,
        pixelBytes: 1_000_000,
      }),
      number === 40,
    );
  }
  await client('c').recordConsent({ personId: person });
  const denial = { kind: 'node', value: rooms('c').federation.nodeId } as const;
  const fetched = fetchTo('c', person, 'denied');
  await until(() => rooms('m').transfers.running().length > 0, 'the transfer to begin');
  await rooms('m').consent.deny({ ...denial, reason: 'privacy officer' });
  expect(rooms('m').transfers.running()).toEqual([]);
  expect(await fetched).toBe('DENIED_BY_HOLDER');
  await rooms('m').consent.undeny(denial);
  expect(await fetchTo('c', person, 'denied')).toBe('done');
});

test('a copy may not be read after its consent has run out; a new consent lets it be fetched again', async () => {
  const person = somebody();
  await hold('m', imageOf('expires', person));
  await client('c').recordConsent({ personId: person, validForMs: 6_000 });
  expect(await fetchTo('c', person, 'expires')).toBe('done');
  expect(await read('c', 'expires')).toBe('read');
  await until(async () => (await read('c', 'expires')) !== 'read', 'the end of the consent', 15_000);
  expect(await read('c', 'expires')).toMatch(/^COPY_LOCKED: .* has run out/);
  expect(await seen('c', person, 'expires')).toMatchObject({
    held: 'copy',
    locked: true,
    consent: 'refused',
    consentReason: 'CONSENT_EXPIRED',
  });
  await client('c').recordConsent({ personId: person });
  expect(await seen('c', person, 'expires')).toMatchObject({ held: 'copy', locked: true, consent: 'allowed' });
  expect(await fetchTo('c', person, 'expires')).toBe('done');
  expect(await read('c', 'expires')).toBe('read');
  const exports: number[] = [];
  for await (const { type, study, instances } of network.hospital('c').node.audit.entries())
    if (type === 'EXPORT' && study === uid('expires')) exports.push(instances ?? 0);
  expect(exports).toEqual([1]);
});

test('a copy whose consent was revoked in the instant before its node died is locked after the start, without the index', async () => {
  const person = somebody();
  await hold('m', imageOfTwoIds('died', person, '778'));
  const { consentId } = await client('m').recordConsent({ personId: person, grantee: 'any-treating' });
  await network.settle();
  expect(await fetchTo('c', person, 'died')).toBe('done');
  await network.hospital('c').node.close();
  await client('m').revokeConsent({ consentId });
  const { consent, federation } = rooms('m');
  const known = await consent.knownFor(await federation.patientKeys([parsePersonId(person)]));
  keepWithoutActing(
    join(folder, 'c', 'consent.sqlite'),
    known.find(({ status }) => status === 'revoked')!,
  );
  await network.stopIndex();
  await network.hospital('c').restart();
  await until(async () => (await read('c', 'died')) !== 'read', 'the lock', 10_000);
  expect(await read('c', 'died')).toMatch(/^COPY_LOCKED: .*withdrawn/);
  await network.startIndex();
  await until(
    () => rooms('c').federation.channel.state().state === 'connected' && rooms('m').federation.channel.state().state === 'connected',
    'both to be back',
  );
});

test('who refused under one id has refused under the other', async () => {
  const person = somebody();
  await hold('m', imageOfTwoIds('refused', person, '779'));
  const provision = { grantee: { kind: 'any-treating' as const }, purposes: ['TREAT' as const] };
  await rooms('m').consent.record({ personId: parsePersonId(person), provision, validForMs: 3_600_000, clerk: 'clerk', status: 'refused' });
  await network.settle();
  await client('c').recordConsent({ personId: 'mrn:REGION:779' });
  expect(await seen('c', 'mrn:REGION:779', 'refused')).toMatchObject({ consent: 'refused', consentReason: 'CONSENT_REFUSED' });
  expect(await fetchTo('c', 'mrn:REGION:779', 'refused')).toBe('CONSENT_REFUSED');
});

test('a member that sends recalls which nobody signed leaves no trace and stops nobody', async () => {
  const forged = { type: '', payload: Buffer.alloc(0), signature: Buffer.alloc(0), keyId: 'x'.repeat(20_000), algorithm: 0 as const };
  const to = rooms('c').federation.nodeId;
  const person = somebody();
  const [recalls, histories] = await Promise.all([
    Promise.allSettled(Array.from({ length: 6 }, () => rooms('m').mesh.deliverRecall(to, forged))),
    Promise.allSettled(Array.from({ length: 6 }, () => client('c').history(person))),
  ]);
  expect(recalls.map((recall) => (recall.status === 'rejected' ? (recall.reason as { reason: string }).reason : 'taken'))).toEqual(
    Array(6).fill('SIGNATURE_INVALID'),
  );
  expect(histories.every(({ status }) => status === 'fulfilled')).toBe(true);
  for await (const { type } of network.hospital('c').node.audit.entries()) expect(type).not.toBe('RECALL');
});

/** What stands in the database of a node that died between the row and the lock. */
function keepWithoutActing(file: string, statement: ConsentStatement): void {
  const database = new DatabaseSync(file);
  database
    .prepare(
      'INSERT INTO consent_statement (hash, compact, writer, seq, consent_id, status, received_epoch_ms) VALUES (?, ?, ?, ?, ?, ?, ?)',
    )
    .run(statement.hash, statement.compact, statement.writer, statement.seq, statement.consentId, statement.status, systemClock.now());
  for (const { key, epoch } of statement.patientKeys)
    database.prepare('INSERT OR IGNORE INTO consent_patient VALUES (?, ?, ?)').run(key, epoch, statement.hash);
  database.close();
}
