import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { openSqlite } from '@meridian/shared/database';
import { MeshError } from '@meridian/shared/errors';
import { ManifestStatus } from '@meridian/shared/generated/meridian/v1/manifest';
import { parseStudyInstanceUid, sha256, type NodeId, type TypedPersonId } from '@meridian/shared/identifiers';
import { silentLog } from '@meridian/shared/log';
import { openInstanceList, openManifest } from '@meridian/shared/manifest';
import { systemClock as clock } from '@meridian/shared/platform/clock';
import { systemRandom as random } from '@meridian/shared/platform/random';
import { createSigningKey, type SigningKey } from '@meridian/shared/signed-object';
import { openNodeAudit, type AuditLog } from '../audit/node-audit.ts';
import { element } from '../dicom/testing/build-dataset.ts';
import type { Federation } from '../federation/federation.ts';
import { openIndexChannel } from '../federation/index-channel.ts';
import { openTestFeed, type TestFeed } from '../federation/test-feed.ts';
import { openStore, type Store } from '../store/store.ts';
import { openAdvertise, type Advertise } from './advertise.ts';
import { feedMigrations, type FeedSchema } from './feed-tables.ts';

const nodeId = 'n-aaaaaaaaaaaaaaaa' as NodeId;
const studyUid = (study: number): string => `1.2.826.0.1.${study}`;

interface Hospital {
  readonly index: TestFeed;
  readonly store: Store;
  readonly audit: AuditLog;
  readonly signingKey: SigningKey;
  advertise: Advertise;
  /** The evaluator cannot be reached. */
  isEvaluatorDown: boolean;
  /** As after a join with new keys; takes effect at the next opening. */
  readonly newKey: (key: SigningKey) => void;
  readonly folder: string;
  readonly reopen: (faults?: { dropOutboxRow?: boolean }, meanwhile?: () => Promise<void>) => Promise<void>;
  readonly ingest: (
    study: number,
    instance?: number,
    options?: { person?: boolean; bodyPart?: string; associationId?: string },
  ) => Promise<void>;
  readonly settled: (timeoutMs?: number) => Promise<void>;
}

async function withHospital(run: (hospital: Hospital) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'meridian-advertise-'));
  const index = await openTestFeed();
  const store = await openStore({ folder, clock, random, log: silentLog, limits: { quietTimeMs: 3_600_000 } });
  const audit = await openNodeAudit({ folder, clock, random });
  let signingKey = createSigningKey();
  let channel = openIndexChannel({ address: index.address, credentials: index.credentials, clock });
  const open = (faults: { dropOutboxRow?: boolean } = {}): Promise<Advertise> => {
    const federation = {
      nodeId,
      signingKey,
      channel,
      onContact: () => () => undefined,
      patientKeys: async (ids: readonly TypedPersonId[]) => {
        if (hospital.isEvaluatorDown) throw new MeshError('UNAVAILABLE', 'PATIENT_KEY_UNAVAILABLE', 'down');
        return ids.map((id) => ({ key: sha256(id.value), epoch: '1' }));
      },
    } as unknown as Federation;
    return openAdvertise({ folder, store, federation, audit, clock, random, log: silentLog, faults });
  };
  const hospital: Hospital = {
    index,
    store,
    audit,
    signingKey,
    folder,
    isEvaluatorDown: false,
    newKey: (key) => void (signingKey = key),
    advertise: undefined as unknown as Advertise,
    reopen: async (faults, meanwhile) => {
      await hospital.advertise.close();
      await meanwhile?.();
      channel.close();
      channel = openIndexChannel({ address: index.address, credentials: index.credentials, clock });
      hospital.advertise = await open(faults);
    },
    ingest: async (study, instance = 1, options = {}) => {
      const dataset = Buffer.concat([
        element(0x00080016, 'UI', '1.2.840.10008.5.1.4.1.1.7'),
        element(0x00080018, 'UI', `${studyUid(study)}.1.${instance}`),
        element(0x00080020, 'DA', '20250601'),
        element(0x00080060, 'CS', 'CT'),
        element(0x00100010, 'PN', 'Wang^Xiaoming'),
        element(0x00100020, 'LO', `110101900307${String(100 + study).slice(-3)}`),
        element(0x00180015, 'CS', options.bodyPart ?? 'CHEST'),
        element(0x0020000d, 'UI', studyUid(study)),
        element(0x0020000e, 'UI', `${studyUid(study)}.1`),
        element(0x00200011, 'IS', '3'),
        element(0x00200013, 'IS', String(instance)),
      ]);
      const sink = store.ingest.begin({
        door: 'dimse',
        transferSyntaxUid: '1.2.840.10008.1.2.1',
        assigningAuthority: 'H',
        ...(options.associationId === undefined ? {} : { associationId: options.associationId }),
        ...(options.person === false ? {} : { nationalIdIn: 'patient-id' as const }),
      });
      sink.write(dataset);
      expect((await sink.end()).outcome).toBe('stored');
      if (options.associationId === undefined) await store.settle.now(studyUid(study));
    },
    settled: (timeoutMs = 15_000) => hospital.advertise.settle(AbortSignal.timeout(timeoutMs)),
  };
  hospital.advertise = await open();
  try {
    await run(hospital);
  } finally {
    await hospital.advertise.close();
    channel.close();
    await audit.close();
    await store.close();
    index.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

const studiesOf = (index: TestFeed): string[] =>
  index.entries.map(({ manifest }) => `${manifest.studyInstanceUid.split('.').at(-1)} v${manifest.version}`);

test('a study that has settled is advertised once, signed, with the list that it binds; a late instance makes the next version', async () => {
  await withHospital(async ({ index, store, audit, signingKey, advertise, ingest, settled }) => {
    await ingest(1);
    await ingest(2);
    await settled();
    await ingest(1, 2);
    await settled();
    expect(studiesOf(index)).toEqual(['1 v1', '2 v1', '1 v2']);
    const uid = parseStudyInstanceUid(studyUid(1));
    const current = await advertise.currentManifest(uid);
    const { signed, list } = await advertise.instanceList(uid);
    expect(openManifest(signed, [signingKey.publicKey]).digest).toEqual(current?.digest);
    expect(current?.manifest).toMatchObject({
      custodianNode: nodeId,
      version: 2n,
      status: ManifestStatus.MANIFEST_STATUS_COMPLETE,
      instanceCount: 2,
      studyDate: '20250601',
      isCopy: false,
      patientKeys: [{ epoch: '1' }],
      series: [{ modality: 'CT', instanceCount: 2, seriesNumber: 3 }],
    });
    const opened = openInstanceList(list, current!.manifest);
    expect(opened.instances.map(({ sopInstanceUid }) => sopInstanceUid)).toEqual([`${studyUid(1)}.1.1`, `${studyUid(1)}.1.2`]);
    expect((await advertise.instanceList(uid, 1)).list.length).toBeLessThan(list.length);
    await expect(advertise.instanceList(uid, 9)).rejects.toMatchObject({ reason: 'MANIFEST_ABSENT' });
    expect(await store.studies.study(uid)).toMatchObject({ state: 'advertised', version: 2 });
    const events: string[] = [];
    for await (const record of audit.entries()) events.push(`${record.type} ${record.study} ${record.detail?.['version']}`);
    expect(events).toEqual([`STORE ${studyUid(1)} 1`, `STORE ${studyUid(2)} 1`, `STORE ${studyUid(1)} 2`]);
  });
});

test('a version that closed before a late instance came is announced as unfinished, then the next one as complete', async () => {
  await withHospital(async (hospital) => {
    const { index, store, ingest } = hospital;
    hospital.isEvaluatorDown = true;
    await ingest(1);
    store.ingest.associationOpened('late');
    await ingest(1, 2, { associationId: 'late' });
    hospital.isEvaluatorDown = false;
    await hospital.settled();
    expect(index.entries.map(({ manifest }) => [manifest.version, manifest.status, manifest.instanceCount])).toEqual([
      [1n, ManifestStatus.MANIFEST_STATUS_INCOMPLETE, 2],
    ]);
    await store.settle.now(studyUid(1));
    await hospital.settled();
    expect(index.entries.map(({ manifest }) => [manifest.version, manifest.status])).toEqual([
      [1n, ManifestStatus.MANIFEST_STATUS_INCOMPLETE],
      [2n, ManifestStatus.MANIFEST_STATUS_COMPLETE],
    ]);
  });
});

test('texts of any length in images do not make a manifest that the index refuses', async () => {
  await withHospital(async ({ index, ingest, settled }) => {
    await ingest(1, 1, { bodyPart: 'CHEST'.repeat(40) });
    await ingest(2, 1, { bodyPart: '\u00e4'.repeat(40) });
    await settled();
    const texts = index.entries.map(({ manifest }) => manifest.series[0]?.bodyPartExamined ?? '');
    expect(texts[0]).toBe('CHESTCHESTCHESTC');
    expect(Buffer.byteLength(texts[1] ?? '')).toBeLessThanOrEqual(16);
  });
});

test('an entry that the index refuses for good is reported and passed over, and what follows arrives', async () => {
  await withHospital(async (hospital) => {
    const { index, ingest, audit, store } = hospital;
    index.refuses.add(studyUid(2));
    for (let study = 1; study <= 4; study += 1) await ingest(study);
    await hospital.settled();
    expect([studiesOf(index), index.passedOver]).toEqual([['1 v1', '3 v1', '4 v1'], [2]]);
    expect(hospital.advertise.status()).toMatchObject({ lastSeq: 4, acknowledgedSeq: 4, pending: 0, refused: 1 });
    const reports: unknown[] = [];
    for await (const { type, study, reason, detail } of audit.entries()) if (type === 'ADMIN') reports.push({ study, reason, detail });
    expect(reports).toEqual([
      { study: studyUid(2), reason: 'MANIFEST_MALFORMED', detail: { event: 'feed-entry-refused', version: 1, seq: 2 } },
    ]);
    expect(await store.studies.study(parseStudyInstanceUid(studyUid(2)))).toMatchObject({ state: 'settled' });
    expect(await hospital.advertise.currentManifest(parseStudyInstanceUid(studyUid(2)))).toBeUndefined();

    index.refuses.clear();
    await ingest(2, 2);
    await hospital.settled();
    expect(studiesOf(index).at(-1)).toBe('2 v2');
    await hospital.reopen();
    await hospital.settled();
    expect(hospital.advertise.status()).toMatchObject({ refused: 0, pending: 0 });
  });
});

test('nothing is lost, doubled or reordered over outages of the index, cut connections, gaps and restarts', async () => {
  await withHospital(async (hospital) => {
    const { index, ingest } = hospital;
    for (let study = 1; study <= 10; study += 1) await ingest(study);
    index.cutAfter = 4;
    await hospital.settled();
    index.stop();
    for (let study = 11; study <= 25; study += 1) await ingest(study);
    await hospital.reopen();
    for (let study = 26; study <= 30; study += 1) await ingest(study);
    expect(index.entries.length).toBe(10);
    await index.start();
    index.gapDue = true;
    await hospital.settled(30_000);
    expect(index.entries.map(({ seq }) => seq)).toEqual(Array.from({ length: 30 }, (_, place) => place + 1));
    expect(studiesOf(index)).toEqual(Array.from({ length: 30 }, (_, place) => `${place + 1} v1`));
    expect(new Set(index.entries.map(({ feedId }) => feedId)).size).toBe(1);
    expect(index.heartbeats.at(-1)).toEqual({ pending: 0, held: 30 });
    expect(hospital.advertise.status()).toMatchObject({ lastSeq: 30, acknowledgedSeq: 30, pending: 0 });
  });
});

test('a new patient waits for the evaluator and holds up those behind; an unknown person does not', async () => {
  await withHospital(async (hospital) => {
    const { index, ingest, store } = hospital;
    await ingest(1, 1, { person: false });
    await ingest(2);
    await hospital.settled();
    expect(studiesOf(index)).toEqual(['2 v1']);
    hospital.isEvaluatorDown = true;
    await ingest(3);
    await ingest(4);
    await expect(hospital.settled(700)).rejects.toBeDefined();
    expect(hospital.advertise.status()).toMatchObject({ pending: 2, waitingFor: 'PATIENT_KEY_UNAVAILABLE' });
    expect(studiesOf(index)).toEqual(['2 v1']);
    hospital.isEvaluatorDown = false;
    await hospital.settled();
    expect(studiesOf(index)).toEqual(['2 v1', '3 v1', '4 v1']);
    expect(await store.studies.study(parseStudyInstanceUid(studyUid(1)))).toMatchObject({ state: 'settled' });
  });
});

test('an index that lost its end of the feed gets it again; one that knows more gets a new feed', async () => {
  await withHospital(async (hospital) => {
    const { index, ingest } = hospital;
    await ingest(1);
    await ingest(2);
    await hospital.settled();
    index.entries.length = 1; // restored from an older backup
    await hospital.reopen();
    await ingest(3);
    await hospital.settled();
    expect(studiesOf(index)).toEqual(['1 v1', '2 v1', '3 v1']);
    const [first] = index.entries;
    index.entries.push({ ...first!, seq: 4 }); // of a node database that is gone
    await hospital.reopen();
    await ingest(4);
    await hospital.settled();
    expect(studiesOf(index).slice(4)).toEqual(['1 v1', '2 v1', '3 v1', '4 v1']);
    expect(new Set(index.entries.map(({ feedId }) => feedId)).size).toBe(2);
  });
});

test('an archive restored from an older backup is announced anew, above every version there was', async () => {
  await withHospital(async (hospital) => {
    const { index, ingest } = hospital;
    await ingest(1);
    await ingest(1, 2);
    await hospital.settled();
    await hospital.reopen({}, async () => {
      // As after a restore: the feed has worked off changes that the archive does not know.
      const database = await openSqlite<FeedSchema>({ file: join(hospital.folder, 'advertise.sqlite'), migrations: feedMigrations });
      await database.write.updateTable('feed').set({ change_seq: 100 }).execute();
      await database.close();
    });
    await ingest(2);
    await hospital.settled();
    expect(studiesOf(index)).toEqual(['1 v1', '1 v2', '1 v3', '1 v4', '2 v1']);
    expect(index.entries.at(-2)?.manifest).toMatchObject({ status: ManifestStatus.MANIFEST_STATUS_COMPLETE, instanceCount: 2 });
    await hospital.reopen();
    await hospital.settled();
    expect(index.entries).toHaveLength(5);
  });
});

test('a node that joined again with a new key signs and announces every study anew, once, in a new feed', async () => {
  await withHospital(async (hospital) => {
    const { index, ingest } = hospital;
    for (const study of [1, 2, 3]) await ingest(study);
    await ingest(2, 2);
    await hospital.settled();
    const key = createSigningKey();
    hospital.newKey(key);
    await hospital.reopen();
    await hospital.settled();
    const anew = index.entries.slice(4);
    expect(anew.map(({ seq, manifest }) => `${seq}: ${manifest.studyInstanceUid.split('.').at(-1)} v${manifest.version}`)).toEqual([
      '1: 1 v2',
      '2: 3 v2',
      '3: 2 v3',
    ]);
    expect(new Set(index.entries.map(({ feedId }) => feedId)).size).toBe(2);
    const { signed, list } = await hospital.advertise.instanceList(parseStudyInstanceUid(studyUid(2)));
    const { manifest } = openManifest(signed, [key.publicKey]);
    expect(openInstanceList(list, manifest).instances).toHaveLength(2);
    await hospital.reopen();
    await ingest(3, 2);
    await hospital.settled();
    expect(studiesOf(index).slice(7)).toEqual(['3 v3']);
  });
});

test('positive control: a planted dropped row is a study that never arrives, and nobody here notices', async () => {
  await withHospital(async (hospital) => {
    await hospital.reopen({ dropOutboxRow: true });
    for (let study = 1; study <= 5; study += 1) await hospital.ingest(study);
    await hospital.settled();
    expect(hospital.index.entries.map(({ seq }) => seq)).toEqual([1, 2, 3, 4]);
  });
});
