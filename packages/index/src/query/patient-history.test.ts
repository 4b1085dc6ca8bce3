import { readFile } from 'node:fs/promises';
import { expect, test } from '@jest/globals';
import { openAuditLog } from '@meridian/shared/audit-log';
import { openSqlite } from '@meridian/shared/database';
import { PurposeOfUse } from '@meridian/shared/generated/meridian/v1/common';
import { StudyManifest } from '@meridian/shared/generated/meridian/v1/manifest';
import {
  ConsentOutlook,
  CoverageState,
  type PatientHistoryRequest,
  type PatientHistoryResponse,
} from '@meridian/shared/generated/meridian/v1/query';
import { callUnary } from '@meridian/shared/grpc';
import { parsePersonId } from '@meridian/shared/identifiers';
import { systemClock, type Clock } from '@meridian/shared/platform/clock';
import { systemRandom } from '@meridian/shared/platform/random';
import { blindPersonIds } from '@meridian/shared/voprf';
import { CompiledQuery } from 'kysely';
import { historyQuery } from './history-page.ts';
import { indexMigrations, type IndexTables } from '../tables.ts';
import { reasonOf, withIndex, type TestNode } from '../test-network.ts';

const PATIENT = Buffer.alloc(32, 1);
const SECOND_KEY = Buffer.alloc(32, 2);

function history(node: TestNode, changes: Partial<PatientHistoryRequest> = {}): Promise<PatientHistoryResponse> {
  return callUnary(node.clients.query.patientHistory.bind(node.clients.query), {
    patientKeys: [{ key: PATIENT, epoch: 'e1' }],
    purposeOfUse: PurposeOfUse.PURPOSE_OF_USE_TREAT,
    subject: 'doctor-1',
    pageToken: '',
    pageSize: 0,
    ...changes,
  });
}
const uidsOf = (response: PatientHistoryResponse): string[] =>
  response.entries.map((entry) => StudyManifest.decode(entry.manifest?.payload ?? Buffer.alloc(0)).studyInstanceUid);

test('a history lists everybody, newest first, page by page, with what a grant would meet', async () => {
  await withIndex(async ({ addNode, index }) => {
    const [a, b] = [await addNode('A'), await addNode('B')];
    const feedA = await a.feed();
    for (let seq = 1; seq <= 5; seq += 1) {
      feedA.send(
        seq,
        a.manifest({
          studyInstanceUid: `1.2.${seq}`,
          studyDate: `2026010${seq}`,
          patientKeys: [
            { key: PATIENT, epoch: 'e1' },
            { key: SECOND_KEY, epoch: 'e2' },
          ],
        }),
      );
    }
    feedA.send(6, a.manifest({ studyInstanceUid: '1.2.6', studyDate: '', patientKeys: [{ key: PATIENT, epoch: 'e1' }] }));
    await feedA.acknowledged(6);
    const feedB = await b.feed();
    feedB.send(1, b.manifest({ studyInstanceUid: '1.2.3', studyDate: '20260103', patientKeys: [{ key: PATIENT, epoch: 'e1' }] }));
    await feedB.acknowledged(1);

    const whole = await history(b);
    expect(uidsOf(whole)).toEqual(['1.2.5', '1.2.4', '1.2.3', '1.2.3', '1.2.2', '1.2.1', '1.2.6']);
    const own = whole.entries.find((entry) => entry.custodianNode === b.nodeId);
    expect(own).toMatchObject({ custodianName: 'B', consent: ConsentOutlook.CONSENT_OUTLOOK_ALLOWED });
    expect(whole.entries[0]).toMatchObject({
      custodianName: 'A',
      consent: ConsentOutlook.CONSENT_OUTLOOK_REFUSED,
      consentReason: 'NO_CONSENT',
    });

    const both = [
      { key: PATIENT, epoch: 'e1' },
      { key: SECOND_KEY, epoch: 'e2' },
    ];
    const paged: string[] = [];
    let pageToken = '';
    do {
      const page = await history(b, { patientKeys: both, pageSize: 2, pageToken });
      expect(page.entries.length).toBeLessThanOrEqual(2);
      paged.push(...uidsOf(page));
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
    expect(paged).toEqual(uidsOf(whole));

    await callUnary(b.clients.consents.recordConsent.bind(b.clients.consents), {
      statement: { compact: b.consent({ patientKey: PATIENT, provision: { studyDateFrom: '20260104' } }) },
    });
    const outlook = Object.fromEntries(
      (await history(b)).entries.map((entry) => [
        `${entry.custodianName} ${StudyManifest.decode(entry.manifest?.payload ?? Buffer.alloc(0)).studyInstanceUid}`,
        entry.consentReason || 'yes',
      ]),
    );
    expect(outlook).toEqual({
      'A 1.2.5': 'yes',
      'A 1.2.4': 'yes',
      'A 1.2.3': 'CONSENT_OUT_OF_SCOPE',
      'B 1.2.3': 'yes',
      'A 1.2.2': 'CONSENT_OUT_OF_SCOPE',
      'A 1.2.1': 'CONSENT_OUT_OF_SCOPE',
      'A 1.2.6': 'CONSENT_OUT_OF_SCOPE',
    });

    for (const [changes, reason] of [
      [{ patientKeys: [] }, 'PATIENT_KEY_INVALID'],
      [{ patientKeys: [{ key: Buffer.alloc(31), epoch: 'e1' }] }, 'PATIENT_KEY_INVALID'],
      [{ purposeOfUse: 0 }, 'PURPOSE_UNKNOWN'],
      [{ pageToken: 'x' }, 'PAGE_TOKEN_INVALID'],
      [{ subject: 'x'.repeat(200) }, 'SUBJECT_INVALID'],
    ] as const) {
      expect(await reasonOf(history(b, changes as Partial<PatientHistoryRequest>))).toBe(`INVALID_ARGUMENT ${reason}`);
    }
    const audit = await readFile(`${index.auditFolder}/audit.jsonl`, 'utf8');
    expect(audit).toContain('"type":"QUERY"');
    expect(audit).not.toContain(PATIENT.toString('hex'));
  });
});

test('coverage says who is current, stale, never heard and out', async () => {
  let ahead = 0;
  const clock: Clock = { ...systemClock, now: () => systemClock.now() + ahead };
  await withIndex(
    async ({ addNode, index }) => {
      const [a, b, c] = [await addNode('A'), await addNode('B'), await addNode('C')];
      const stateOf = async (): Promise<Record<string, CoverageState>> =>
        Object.fromEntries((await history(b)).coverage.map((node) => [node.name, node.state]));
      expect(await stateOf()).toEqual({
        A: CoverageState.COVERAGE_STATE_NEVER_HEARD,
        B: CoverageState.COVERAGE_STATE_NEVER_HEARD,
        C: CoverageState.COVERAGE_STATE_NEVER_HEARD,
      });
      const feed = await a.feed();
      const settle = async (seq: number): Promise<void> => {
        feed.send(seq, a.manifest({ studyInstanceUid: `1.2.${seq}` }));
        await feed.acknowledged(seq);
      };
      feed.heartbeat(0);
      await settle(1);
      expect((await stateOf())['A']).toBe(CoverageState.COVERAGE_STATE_CURRENT);
      feed.heartbeat(4);
      await settle(2);
      const { coverage } = await history(b);
      expect(coverage.find(({ name }) => name === 'A')).toMatchObject({ state: CoverageState.COVERAGE_STATE_STALE, pending: 4 });
      feed.heartbeat(0);
      await settle(3);
      ahead = 100_000;
      expect((await stateOf())['A']).toBe(CoverageState.COVERAGE_STATE_STALE);
      await index.revokeNode(c.nodeId);
      expect((await stateOf())['C']).toBe(CoverageState.COVERAGE_STATE_EXCLUDED);
    },
    { clock },
  );
});

test('the evaluator makes the same key for the same person, and bites at the quota', async () => {
  await withIndex(
    async ({ addNode }) => {
      const [a, b] = [await addNode('A'), await addNode('B')];
      const person = parsePersonId('11010519491231002X');
      const keyAt = async (node: TestNode): Promise<string> => {
        const { blinded, finalize } = blindPersonIds([person]);
        const { evaluatedElements, proof } = await callUnary(node.clients.evaluator.evaluate.bind(node.clients.evaluator), {
          epoch: node.joined.evaluatorEpoch,
          blindedElements: blinded,
        });
        return (finalize(evaluatedElements, proof, node.joined.evaluatorPublicKey)[0] as Buffer).toString('hex');
      };
      expect(await keyAt(a)).toBe(await keyAt(b));
      const keys = await callUnary(a.clients.evaluator.getKeys.bind(a.clients.evaluator), {});
      expect(keys.keys.find(({ epoch }) => epoch === keys.currentEpoch)?.publicKey).toEqual(a.joined.evaluatorPublicKey);
      const evaluate = a.clients.evaluator.evaluate.bind(a.clients.evaluator);
      expect(await reasonOf(callUnary(evaluate, { epoch: 'old', blindedElements: [Buffer.alloc(32)] }))).toBe(
        'NOT_FOUND KEY_EPOCH_UNKNOWN',
      );
      expect(await reasonOf(callUnary(evaluate, { epoch: 'e1', blindedElements: [Buffer.alloc(32)] }))).toBe(
        'INVALID_ARGUMENT BLINDED_ELEMENT_INVALID',
      );
      expect(await reasonOf(callUnary(evaluate, { epoch: 'e1', blindedElements: [] }))).toBe('INVALID_ARGUMENT BLINDED_ELEMENT_INVALID');
      const { blinded } = blindPersonIds([person, person, person]);
      expect(await reasonOf(callUnary(evaluate, { epoch: 'e1', blindedElements: blinded }))).toBe('RESOURCE_EXHAUSTED EVALUATION_QUOTA');
      expect(await keyAt(b)).toHaveLength(64);
    },
    { dailyEvaluations: 4 },
  );
});

test('the database and the audit log hold no person, and no row of an instance', async () => {
  await withIndex(async (network) => {
    const node = await network.addNode('A');
    const id = parsePersonId('11010519491231002X');
    const { blinded, finalize } = blindPersonIds([id]);
    const { evaluatedElements, proof } = await callUnary(node.clients.evaluator.evaluate.bind(node.clients.evaluator), {
      epoch: 'e1',
      blindedElements: blinded,
    });
    const [key] = finalize(evaluatedElements, proof, node.joined.evaluatorPublicKey);
    const feed = await node.feed();
    feed.send(1, node.manifest({ studyInstanceUid: '1.2.3', patientKeys: [{ key: key as Buffer, epoch: 'e1' }] }));
    await feed.acknowledged(1);
    const { index } = network;
    await network.restart(async () => {
      const database = await openSqlite<IndexTables>({ file: index.databasePath, migrations: indexMigrations });
      const { sql: text, parameters } = historyQuery(database.read, {
        patientKeys: [key as Buffer],
        after: { sortKey: '2', studyInstanceUid: '1', custodianNode: 'n' },
        limit: 100,
      }).compile();
      const plan = await database.read.executeQuery<{ detail: string }>(CompiledQuery.raw(`explain query plan ${text}`, [...parameters]));
      expect(plan.rows.map(({ detail }) => detail).join()).toMatch(/SEARCH study USING INDEX \S+ \(patient_key=\?\)/);
      await database.close();
      const dump = await readFile(index.databasePath, 'latin1');
      // The search would have found the person: it finds the key.
      expect(dump).toContain((key as Buffer).toString('latin1'));
      for (const planted of [id.value, '110105', '19491231', Buffer.from('王小明').toString('latin1')])
        expect(dump.includes(planted)).toBe(false);
      expect(dump).not.toContain('sop_instance_uid');
    });
    const log = await openAuditLog({ folder: network.index.auditFolder, clock: systemClock, random: systemRandom });
    for await (const record of log.entries()) expect(JSON.stringify(record)).not.toContain(id.value);
    await log.close();
  });
});
