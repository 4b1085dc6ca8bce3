import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { openConsent, signConsent, type ConsentStatement } from '@meridian/shared/consent';
import { MeshError } from '@meridian/shared/errors';
import { ManifestStatus, type InstanceEntry, type StudyManifest } from '@meridian/shared/generated/meridian/v1/manifest';
import { ConsentOutlook, CoverageState } from '@meridian/shared/generated/meridian/v1/query';
import { parsePersonId, type NodeId } from '@meridian/shared/identifiers';
import { silentLog } from '@meridian/shared/log';
import { decodeManifest, encodeInstanceList, instanceListDigest, signManifest } from '@meridian/shared/manifest';
import { systemClock, type Clock } from '@meridian/shared/platform/clock';
import { createSigningKey } from '@meridian/shared/signed-object';
import { systemRandom } from '@meridian/shared/platform/random';
import { openTestNetwork, type TestMember, type TestNetwork } from '../peer/test-network.ts';
import { openPatients } from '../patients/patients.ts';
import { openStore, type Store } from '../store/store.ts';
import { makeInstance } from '../store/testing/data-sets.ts';
import { send } from '../store/testing/stores.ts';
import { serveTransfers, type TransferServer } from '../transfer/serve.ts';
import { makeAudit, makeConsent, STUDY_UID, type TestAudit, type TestConsent } from '../transfer/test-parts.ts';
import type { RetrieveParts } from './ports.ts';
import { openRetrieve, type Retrieve } from './retrieve.ts';

const PERSON = parsePersonId('11010519491231002X');
const IMAGES = 120;
const LOCAL_STUDY = '1.2.3';

let folder: string;
let network: TestNetwork;
let holder: TestMember;
let asker: TestMember;
let holderStore: Store;
let askerStore: Store;
let consent: TestConsent;
let server: TransferServer;
let audit: TestAudit;
let retrieve: Retrieve;
let index: { reachable: boolean; denial: string | undefined; renewedOn: ConsentStatement | undefined; grants: number };
let revoked: ((statement: ConsentStatement) => void)[];
let known: ConsentStatement[];
/** How often looking up what is known of a consent still fails. */
let faults: number;
/** What other hospitals say beside the holder. */
let rivals: unknown[];
/** One more member that the index calls current. */
let current: string | undefined;

async function fill(store: Store, patientId: string): Promise<void> {
  for (let number = 1; number <= IMAGES; number += 1) {
    await send(
      store,
      makeInstance({
        study: STUDY_UID,
        series: `${STUDY_UID}.1`,
        sop: `${STUDY_UID}.1.${number}`,
        instanceNumber: number,
        patientId,
        residentId: PERSON.value,
        pixelBytes: 200_000,
        fill: number,
      }),
      { assigningAuthority: 'HOSPITAL-1' },
    );
  }
  await store.settle.now(STUDY_UID);
}

/** The manifest as the holder would advertise it. */
async function advertised(store: Store): Promise<{ signed: ReturnType<typeof signManifest>; list: Buffer }> {
  const rows = await store.studies.instancesOf(STUDY_UID);
  const entries: InstanceEntry[] = rows.map((row) => ({
    seriesInstanceUid: row.seriesInstanceUid,
    sopInstanceUid: row.sopInstanceUid,
    sopClassUid: row.sopClassUid,
    transferSyntaxUid: row.transferSyntaxUid,
    bytes: BigInt(row.bytes),
    sha256: row.sha256,
    pixelSha256: row.pixelSha256 ?? Buffer.alloc(0),
    instanceNumber: row.instanceNumber ?? 0,
    chunkSha256: Buffer.alloc(0),
  }));
  const list = encodeInstanceList({ instances: entries });
  const signed = signManifest(
    {
      studyInstanceUid: STUDY_UID,
      custodianNode: holder.nodeId,
      version: 1n,
      status: ManifestStatus.MANIFEST_STATUS_COMPLETE,
      patientKeys: [{ key: Buffer.alloc(32, 7), epoch: '1' }],
      studyDate: '20260102',
      studyTime: '101500',
      timezoneOffset: '',
      series: [
        {
          seriesInstanceUid: `${STUDY_UID}.1`,
          modality: 'CT',
          bodyPartExamined: 'CHEST',
          instanceCount: rows.length,
          seriesNumber: 1,
          laterality: '',
        },
      ],
      instanceCount: rows.length,
      totalBytes: BigInt(rows.reduce((sum, row) => sum + row.bytes, 0)),
      instanceListSha256: instanceListDigest(list),
      issuedAtEpochMs: 1n,
      isCopy: false,
    },
    holder.signingKey,
  );
  return { signed, list };
}

async function openAsker(changes: Partial<RetrieveParts> = {}): Promise<Retrieve> {
  const { signed } = await advertised(holderStore);
  // Stands for the index: the wire to it has its own tests.
  const call = async (service: string): Promise<unknown> => {
    if (!index.reachable) throw new MeshError('UNAVAILABLE', 'INDEX_UNREACHABLE', 'away');
    if (service === 'query') {
      const other = { nodeId: holder.nodeId, name: 'Hospital 1', state: CoverageState.COVERAGE_STATE_CURRENT, asOfEpochMs: 5n, pending: 0 };
      return {
        entries: [
          {
            manifest: signed,
            custodianNode: holder.nodeId,
            custodianName: 'Hospital 1',
            receivedAtEpochMs: 9n,
            consent: index.denial === undefined ? ConsentOutlook.CONSENT_OUTLOOK_ALLOWED : ConsentOutlook.CONSENT_OUTLOOK_REFUSED,
            consentReason: index.denial ?? '',
          },
          ...rivals,
        ],
        nextPageToken: '',
        coverage: [
          other,
          { ...other, nodeId: asker.nodeId },
          { ...other, nodeId: 'n-cccccccccccccccc', name: 'Hospital 3', state: CoverageState.COVERAGE_STATE_NEVER_HEARD },
          ...(current === undefined ? [] : [{ ...other, nodeId: current }]),
        ],
        answeredAtEpochMs: 11n,
      };
    }
    if (index.denial !== undefined) throw new MeshError('PERMISSION_DENIED', index.denial as 'NO_CONSENT', 'as the index says it');
    const on = index.grants > 0 ? index.renewedOn : undefined;
    index.grants += 1;
    return {
      grant: { compact: consent.grant(on === undefined ? {} : { cst: { hash: on.hash, seq: on.seq, statement: on.compact } }) },
      expiresAtEpochMs: 0n,
      manifests: [signed],
    };
  };
  return openRetrieve({
    folder,
    hospitalName: 'Hospital 2',
    store: askerStore,
    patients: openPatients({ store: askerStore, assigningAuthority: 'HOSPITAL-2', random: systemRandom }),
    mesh: {
      federation: {
        nodeId: asker.nodeId,
        hospitalName: 'Hospital 2',
        trust: () => ({ entries: network.entries }) as never,
        entryOf: (nodeId) => network.entries.get(nodeId),
        channel: { call: call as never },
        async patientKeys() {
          if (!index.reachable) throw new MeshError('UNAVAILABLE', 'PATIENT_KEY_UNAVAILABLE', 'away');
          return [{ key: Buffer.alloc(32, 7), epoch: '1' }];
        },
      },
      consent: {
        async receive(compact) {
          const statement = [consent.consent, index.renewedOn].find((one) => one?.compact === compact)!;
          if (!known.includes(statement)) known.push(statement);
          return statement;
        },
        knownFor: async () => known,
        related: async () => {
          if ((faults -= 1) >= 0) throw new MeshError('UNAVAILABLE', 'DATABASE_BUSY', 'not now');
          return known;
        },
        onRevoked: (listener) => {
          revoked.push(listener);
          return () => undefined;
        },
      },
      peerHost: asker.host,
    },
    audit,
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
    ...changes,
  });
}

function order(
  changes: { onProgress?: (progress: { instancesVerified: number }) => void; signal?: AbortSignal } = {},
): Parameters<Retrieve['fetch']>[0] {
  return {
    personId: PERSON,
    studyInstanceUid: STUDY_UID,
    subject: 'doctor',
    purpose: 'TREAT',
    signal: changes.signal ?? new AbortController().signal,
    onProgress: changes.onProgress ?? (() => undefined),
  };
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'meridian-retrieve-'));
  network = await openTestNetwork(2);
  [holder, asker] = network.members as [TestMember, TestMember];
  const open = (name: string): Promise<Store> =>
    openStore({ folder: join(folder, name), clock: systemClock, random: systemRandom, log: silentLog });
  [holderStore, askerStore] = await Promise.all([open('holder'), open('asker')]);
  await fill(holderStore, 'L-77');
  // The person's own record here; somebody typed another birthday. That both hospitals call her L-77 means nothing.
  await send(
    askerStore,
    makeInstance({ study: LOCAL_STUDY, patientId: 'L-77', residentId: PERSON.value, birthDate: '19900308', studyDate: '20250101' }),
    { assigningAuthority: 'HOSPITAL-2' },
  );
  index = { reachable: true, denial: undefined, renewedOn: undefined, grants: 0 };
  revoked = [];
  known = [];
  faults = 0;
  rivals = [];
  current = undefined;
  audit = makeAudit();
  consent = makeConsent(network, holder, asker);
  server = await serveTransfers({
    peerHost: holder.host,
    store: holderStore,
    advertise: { instanceList: () => advertised(holderStore) },
    consent: consent.judge,
    audit: makeAudit(),
    clock: systemClock,
    log: silentLog,
  });
  retrieve = await openAsker();
});
afterEach(async () => {
  await retrieve.close();
  await server.close();
  await network.close();
  await Promise.all([holderStore.close(), askerStore.close()]);
  await rm(folder, { recursive: true, force: true });
});

const history = (): ReturnType<Retrieve['patientHistory']> =>
  retrieve.patientHistory({ personId: PERSON, purpose: 'TREAT', subject: 'doctor' });

test('a study is found elsewhere, fetched, and is then a copy under the local patient with its mismatch', async () => {
  const before = await history();
  expect(before.person).not.toContain(PERSON.value);
  expect(before.coverage).toMatchObject({ asked: 3, answered: 2, notAsked: 1, indexReachable: true });
  expect(before.studies).toMatchObject([
    {
      studyInstanceUid: STUDY_UID,
      modalities: ['CT'],
      bodyParts: ['CHEST'],
      instanceCount: IMAGES,
      held: 'no',
      consent: 'allowed',
      holders: [{ nodeId: holder.nodeId, self: false }],
    },
    { studyInstanceUid: LOCAL_STUDY, held: 'local', consent: 'own' },
  ]);

  const result = await retrieve.fetch(order());
  expect(result).toMatchObject({
    instances: IMAGES,
    resumedInstances: 0,
    digestMismatches: 0,
    holderNode: holder.nodeId,
    linkedTo: { patientId: 'L-77' },
    mismatch: [{ field: 'birthDate', local: '19900308', fetched: '19900307' }],
  });
  const copy = await askerStore.studies.study(STUDY_UID);
  expect(copy).toMatchObject({
    complete: true,
    instanceCount: IMAGES,
    copyOf: { holderNode: holder.nodeId, manifestVersion: 1 },
    linkedPatient: { patientId: 'L-77' },
  });
  const [theirs, ours] = await Promise.all(
    [holderStore, askerStore].map(async (store) =>
      (await store.studies.instancesOf(STUDY_UID)).map((row) => `${row.sopInstanceUid} ${row.sha256.toString('hex')}`).sort(),
    ),
  );
  expect(ours).toEqual(theirs);
  const row = (await askerStore.studies.instancesOf(STUDY_UID))[0]!;
  expect(
    createHash('sha256')
      .update(await askerStore.studies.readDataSet(row, 0, row.bytes))
      .digest('hex'),
  ).toBe(row.sha256.toString('hex'));

  const after = await history();
  expect(after.studies).toMatchObject([
    { held: 'copy', consent: 'allowed', holders: [{ self: true }, { self: false }], mismatch: [{ field: 'birthDate' }] },
    { held: 'local' },
  ]);
  expect(await retrieve.fetch(order())).toMatchObject({ resumedInstances: IMAGES, transferLog: { instancesAsked: 0, bytesReceived: 0 } });
  expect(audit.events.map((event) => event.type)).toEqual(['QUERY', 'RECEIVE', 'QUERY', 'RECEIVE']);
  expect(JSON.stringify(audit.events)).not.toContain(PERSON.value);
  expect((await retrieve.listTransfers()).map((view) => view.state)).toEqual(['done', 'done']);
});

test('other images under the same number are a row of their own, and come only from the hospital that was named', async () => {
  const rival = await network.add(true);
  const manifest = decodeManifest((await advertised(holderStore)).signed.payload);
  const say = (change: Partial<StudyManifest>): void => {
    rivals = [
      {
        manifest: signManifest({ ...manifest, custodianNode: rival.nodeId, version: 9n, ...change }, rival.signingKey),
        custodianNode: rival.nodeId,
        custodianName: 'Hospital 3',
        receivedAtEpochMs: 99n,
        consent: ConsentOutlook.CONSENT_OUTLOOK_ALLOWED,
        consentReason: '',
      },
    ];
  };
  const rows = async () =>
    (await history()).studies
      .filter(({ studyInstanceUid }) => studyInstanceUid === STUDY_UID)
      .map(({ differs, held, holders, instanceCount }) => ({
        differs,
        held,
        instanceCount,
        holders: holders.map(({ nodeId }) => nodeId).sort(),
      }));
  say({});
  expect(await rows()).toEqual([{ differs: undefined, held: 'no', instanceCount: IMAGES, holders: [holder.nodeId, rival.nodeId].sort() }]);
  say({ instanceListSha256: Buffer.alloc(32, 9), instanceCount: 2 });
  expect(await rows()).toEqual(
    expect.arrayContaining([
      { differs: true, held: 'no', instanceCount: IMAGES, holders: [holder.nodeId] },
      { differs: true, held: 'no', instanceCount: 2, holders: [rival.nodeId] },
    ]),
  );
  const refused = (await retrieve.fetch(order()).catch((thrown: unknown) => thrown)) as MeshError;
  expect(refused).toMatchObject({ code: 'FAILED_PRECONDITION', reason: 'HOLDERS_DIFFER' });
  expect(refused.message).toContain(rival.nodeId);
  expect((await askerStore.usage()).instances).toBe(1);

  expect(await retrieve.fetch({ ...order(), holderNode: holder.nodeId })).toMatchObject({ instances: IMAGES, holderNode: holder.nodeId });
  expect(await rows()).toEqual(
    expect.arrayContaining([
      { differs: true, held: 'copy', instanceCount: IMAGES, holders: [asker.nodeId, holder.nodeId].sort() },
      { differs: true, held: 'no', instanceCount: 2, holders: [rival.nodeId] },
    ]),
  );
  // The copy that is here is brought up to date from where it came.
  expect(await retrieve.fetch(order())).toMatchObject({ resumedInstances: IMAGES, holderNode: holder.nodeId });
});

test('what a member announced and did not provably sign is left out, and the coverage says so', async () => {
  const rival = await network.add(true);
  const manifest = {
    ...decodeManifest((await advertised(holderStore)).signed.payload),
    custodianNode: rival.nodeId,
    studyInstanceUid: '1.9.9',
  };
  const formerKey = createSigningKey();
  const say = (receivedAtEpochMs: bigint): void => {
    rivals = [
      {
        manifest: signManifest(manifest, formerKey),
        custodianNode: rival.nodeId,
        custodianName: 'Hospital 3',
        receivedAtEpochMs,
        consent: ConsentOutlook.CONSENT_OUTLOOK_ALLOWED,
        consentReason: '',
      },
    ];
  };
  const seen = async () => {
    const { studies, coverage } = await history();
    return {
      found: studies.some(({ studyInstanceUid }) => studyInstanceUid === '1.9.9'),
      state: coverage.nodes.find(({ nodeId }) => nodeId === rival.nodeId)?.state,
      answered: coverage.answered,
      notAsked: coverage.notAsked,
    };
  };
  current = rival.nodeId;
  say(500n);
  expect(await seen()).toEqual({ found: false, state: 'unverified', answered: 2, notAsked: 2 });
  // A key that was replaced vouches for what the index had taken before, and for nothing after.
  network.entries.set(rival.nodeId, {
    ...network.entries.get(rival.nodeId)!,
    formerSigningKeys: [{ publicKey: formerKey.publicKey, untilEpochMs: 1000n }],
  });
  expect(await seen()).toEqual({ found: true, state: 'current', answered: 3, notAsked: 1 });
  say(1001n);
  expect(await seen()).toMatchObject({ found: false, state: 'unverified' });
});

test('without the index the answer is what is here, and it says who was not asked', async () => {
  await retrieve.fetch(order());
  index.reachable = false;
  const view = await history();
  expect(view.coverage).toMatchObject({ asked: 2, answered: 1, notAsked: 1, indexReachable: false });
  expect(view.studies).toMatchObject([{ held: 'copy' }, { held: 'local' }]);
  await expect(retrieve.fetch(order())).rejects.toMatchObject({ code: 'UNAVAILABLE' });
});

test('without consent there is a refusal in plain words, a DENY in the log and not a byte', async () => {
  index.denial = 'NO_CONSENT';
  expect((await history()).studies).toMatchObject([{ held: 'no', consent: 'refused', consentReason: 'NO_CONSENT' }, {}]);
  const error = (await retrieve.fetch(order()).catch((thrown: unknown) => thrown)) as MeshError;
  expect(error).toMatchObject({ code: 'PERMISSION_DENIED', reason: 'NO_CONSENT' });
  expect(error.message).toContain('meridian consent record');
  expect(audit.events.at(-1)).toMatchObject({ type: 'DENY', reason: 'NO_CONSENT', study: STUDY_UID, peer: holder.nodeId });
  expect((await askerStore.usage()).instances).toBe(1);
});

test('a withdrawal ends the running fetch, locks what had arrived, and is known at the next asking', async () => {
  let withdrawn: ConsentStatement | undefined;
  const error = await retrieve
    .fetch(
      order({
        onProgress({ instancesVerified }) {
          if (instancesVerified < 20 || withdrawn !== undefined) return;
          withdrawn = consent.revoke();
          known.push(withdrawn);
          for (const listener of revoked) listener(withdrawn);
        },
      }),
    )
    .catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: 'PERMISSION_DENIED', reason: 'CONSENT_REVOKED' });
  expect(await askerStore.studies.study(STUDY_UID)).toMatchObject({ complete: false, locked: true });
  // The index has not heard of it yet and still grants.
  await expect(retrieve.fetch(order())).rejects.toMatchObject({ reason: 'CONSENT_REVOKED' });
  expect((await history()).studies).toMatchObject([{ held: 'partial' }, {}]);
});

test('a withdrawal that came while the node was down locks the copy at the next start, without the index, and if not at once then soon', async () => {
  await retrieve.fetch(order());
  await retrieve.close();
  known.push(consent.revoke());
  index.reachable = false;
  faults = 2;
  retrieve = await openAsker();
  for (let look = 0; look < 500 && (await askerStore.studies.study(STUDY_UID))?.locked !== true; look += 1) await systemClock.sleep(10);
  expect(await askerStore.studies.study(STUDY_UID)).toMatchObject({ locked: true });
});

test('a grant that is renewed on another consent puts fetch and copy on that one', async () => {
  const { hash: _hash, compact: _compact, ...claims } = consent.consent;
  const other = openConsent(
    signConsent({ ...claims, consentId: 'c-2', seq: 7, validUntilEpochMs: claims.validUntilEpochMs + 60_000 }, asker.signingKey),
    [asker.signingKey.publicKey],
  );
  index.renewedOn = other;
  // Four fifths of a grant's five minutes pass at once.
  const clock: Clock = { ...systemClock, after: (ms, callback) => systemClock.after(ms === 240_000 ? 1 : ms, callback) };
  await retrieve.close();
  retrieve = await openAsker({ clock });
  await retrieve.fetch(order());
  expect(index.grants).toBeGreaterThan(1);
  expect(await askerStore.fetched.get(STUDY_UID)).toMatchObject({
    consentHash: other.hash,
    consentId: 'c-2',
    validUntilEpochMs: other.validUntilEpochMs,
    locked: false,
  });
  known.push(consent.revoke());
  for (const listener of revoked) listener(known.at(-1)!);
  const withdrawn = openConsent(signConsent({ ...claims, consentId: 'c-2', seq: 8, status: 'revoked' }, asker.signingKey), [
    asker.signingKey.publicKey,
  ]);
  await systemClock.sleep(50);
  expect(await askerStore.studies.study(STUDY_UID)).toMatchObject({ locked: false });
  known.push(withdrawn);
  for (const listener of revoked) listener(withdrawn);
  for (let look = 0; look < 500 && (await askerStore.studies.study(STUDY_UID))?.locked !== true; look += 1) await systemClock.sleep(10);
  expect(await askerStore.studies.study(STUDY_UID)).toMatchObject({ locked: true, lockReason: 'CONSENT_REVOKED' });
  expect((await history()).studies[0]).toMatchObject({ locked: true });
});

test('a fetch that a restart interrupts goes on by itself and asks for the rest alone', async () => {
  const stopping = new AbortController();
  const before = retrieve.fetch(
    order({
      signal: stopping.signal,
      onProgress({ instancesVerified }) {
        if (instancesVerified === 30) stopping.abort(new MeshError('CANCELLED', 'NODE_STOPPING', 'stopping'));
      },
    }),
  );
  await expect(before).rejects.toMatchObject({ reason: 'NODE_STOPPING' });
  await retrieve.close();
  const held = (await askerStore.studies.study(STUDY_UID))!.instanceCount;
  expect(held).toBeGreaterThanOrEqual(30);
  retrieve = await openAsker();
  for (let look = 0; look < 1000 && (await askerStore.studies.study(STUDY_UID))?.complete !== true; look += 1) await systemClock.sleep(10);
  expect(await askerStore.studies.study(STUDY_UID)).toMatchObject({ complete: true, instanceCount: IMAGES });
  for (let look = 0; look < 200 && (await retrieve.listTransfers())[0]?.state !== 'done'; look += 1) await systemClock.sleep(10);
  expect(await retrieve.listTransfers()).toMatchObject([{ state: 'done', resumedInstances: held }]);
});

test('a holder that breaks off is asked again without the person’s doing; two askers share one fetch; a cancel ends it', async () => {
  let broken = 0;
  const seen: number[] = [];
  const first = retrieve.fetch(
    order({
      onProgress({ instancesVerified }) {
        if (instancesVerified < 40 || broken > 0) return;
        broken += 1;
        holder.host.disconnect(asker.nodeId);
      },
    }),
  );
  const second = retrieve.fetch(order({ onProgress: ({ instancesVerified }) => seen.push(instancesVerified) }));
  const [one, other] = await Promise.all([first, second]);
  expect(one).toBe(other);
  expect(one.resumedInstances).toBeGreaterThanOrEqual(40);
  expect(seen.at(-1)).toBe(IMAGES);

  await expect(retrieve.fetch({ ...order(), holderNode: asker.nodeId as NodeId })).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  const cancelled = new AbortController();
  cancelled.abort(new MeshError('CANCELLED', 'TRANSFER_CANCELLED', 'by the user'));
  await expect(retrieve.fetch(order({ signal: cancelled.signal }))).rejects.toMatchObject({ reason: 'TRANSFER_CANCELLED' });
});

test('a node that has not joined answers for itself alone', async () => {
  const { mesh: _, ...alone } = { mesh: undefined };
  const local = await openRetrieve({
    ...alone,
    folder,
    hospitalName: 'Hospital 1',
    store: holderStore,
    patients: { localPatientFor: () => Promise.reject(new Error('not used')), compareDemographics: () => [] },
    audit,
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
  });
  expect(await local.patientHistory({ personId: PERSON, purpose: 'TREAT', subject: 'doctor' })).toMatchObject({
    studies: [{ held: 'local', consent: 'own', instanceCount: IMAGES }],
    coverage: { asked: 1, answered: 1, notAsked: 0, indexReachable: false },
  });
  await expect(local.fetch(order())).rejects.toMatchObject({ reason: 'NOT_JOINED' });
  await local.close();
});
