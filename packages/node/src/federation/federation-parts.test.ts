import { chmod, mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { openSqlite } from '@meridian/shared/database';
import { SignedObject } from '@meridian/shared/generated/meridian/v1/common';
import { TrustEntry, TrustList } from '@meridian/shared/generated/meridian/v1/trust';
import { parsePersonId, type NodeId } from '@meridian/shared/identifiers';
import { silentLog } from '@meridian/shared/log';
import { systemClock as clock } from '@meridian/shared/platform/clock';
import { systemRandom as random } from '@meridian/shared/platform/random';
import { createSigningKey, keyIdOf } from '@meridian/shared/signed-object';
import { buildTrustList, signDelta } from '@meridian/shared/trust-list';
import { makeDataFolder } from './data-folder.ts';
import { federationMigrations, type FederationDatabase, type FederationSchema } from './federation-tables.ts';
import { identityFolder, isEnrolled, readIdentity, replaceCredential, writeIdentity } from './identity-files.ts';
import { openIndexChannel } from './index-channel.ts';
import { joinFederation } from './join.ts';
import { openPatientKeys } from './patient-keys.ts';
import { openPushSubscription } from './push-subscription.ts';
import { openTestIndex } from './test-index.ts';
import { openTrustStore, type MemberKeyChange } from './trust-store.ts';

const nodeId = 'n-aaaaaaaaaaaaaaaa' as NodeId;
const root = createSigningKey();
const entry = (name: string, nodeStatus: 1 | 2 | 3 = 1): TrustEntry =>
  TrustEntry.fromPartial({
    nodeId: `n-${name.repeat(16)}`,
    name,
    peerId: `peer-${name}`,
    signingPublicKey: Buffer.alloc(32, 1),
    status: nodeStatus,
    segment: name < 'c' ? 'east' : 'west',
  });
const listOf = (seq: number, entries: TrustEntry[], options: { nowEpochMs?: number; key?: typeof root } = {}): TrustList =>
  buildTrustList({
    entries,
    seq,
    nowEpochMs: options.nowEpochMs ?? clock.now(),
    key: options.key ?? root,
    indexSigningKeys: [root.publicKey],
  });

async function inFolder(run: (folder: string, open: () => Promise<FederationDatabase>) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'meridian-federation-'));
  try {
    await run(folder, () =>
      openSqlite<FederationSchema>({ file: join(folder, 'federation.sqlite'), migrations: federationMigrations, readers: 1 }),
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function until(condition: () => boolean): Promise<void> {
  for (const end = clock.monotonicMs() + 10_000; !condition(); await clock.sleep(20))
    if (clock.monotonicMs() > end) throw new Error('condition not met within 10 s');
}

test('a data folder is shut to other accounts, made here or found open', async () => {
  await inFolder(async (folder) => {
    const found = join(folder, 'found');
    await mkdir(found);
    await chmod(found, 0o755);
    for (const path of [found, join(folder, 'made', 'here')]) {
      await makeDataFolder(path);
      expect((await stat(path)).mode & 0o777).toBe(0o700);
    }
  });
});

test('the trust list is kept as it was signed, verified at every load, and never goes back', async () => {
  await inFolder(async (_folder, openDatabase) => {
    const first = Buffer.from(TrustList.encode(listOf(1, [entry('a'), entry('c')])).finish());
    const open = async (database: FederationDatabase) =>
      openTrustStore({ database, first, rootKeys: [root.publicKey], clock, log: silentLog });
    let database = await openDatabase();
    let trust = await open(database);
    const seen: number[] = [];
    trust.onChange(({ seq }) => seen.push(seq));
    expect(trust.view().seq).toBe(1);

    const second = listOf(2, [entry('a', 3), entry('b'), entry('c')]);
    const delta = signDelta({ fromSeq: 1, toSeq: 2, changed: [entry('a', 3), entry('b')], removed: [], key: root });
    expect(await trust.offer({ head: second.head, deltas: [delta] })).toBe(true);
    expect(await trust.offer({ head: second.head, deltas: [delta] })).toBe(false);
    expect(trust.view().byPeerId('peer-a')?.status).toBe(3);
    const third = listOf(3, [entry('c')]);
    await expect(trust.offer({ head: listOf(1, [entry('a')]).head, segments: [] })).rejects.toMatchObject({
      reason: 'TRUST_LIST_ROLLBACK',
    });
    await expect(trust.offer({ head: listOf(9, [], { key: createSigningKey() }).head })).rejects.toMatchObject({
      reason: 'SIGNATURE_INVALID',
    });
    await expect(trust.offer({ head: listOf(4, [entry('a')]).head, segments: third.segments })).rejects.toMatchObject({
      reason: 'TRUST_LIST_ROOT_MISMATCH',
    });
    await expect(trust.offer({ head: third.head, deltas: [] })).rejects.toMatchObject({ reason: 'TRUST_LIST_DELTA_GAP' });
    expect(await trust.offer({ head: third.head, segments: third.segments })).toBe(true);
    expect(seen).toEqual([2, 3]);

    await database.close();
    database = await openDatabase();
    trust = await open(database);
    expect(trust.view()).toMatchObject({ seq: 3, head: third.head, segments: third.segments });
    await expect(trust.offer(second)).rejects.toMatchObject({ reason: 'TRUST_LIST_ROLLBACK' });

    await database.write
      .updateTable('trust_part')
      .set({ signed: Buffer.from(SignedObject.encode(second.head as SignedObject).finish()) })
      .where('name', '=', '')
      .execute();
    await expect(open(database)).rejects.toMatchObject({ reason: 'TRUST_LIST_ROOT_MISMATCH' });
    await database.close();
  });
});

test('a member whose keys change in the list is told of, and the list is taken all the same', async () => {
  await inFolder(async (_folder, openDatabase) => {
    const changes: MemberKeyChange[] = [];
    const database = await openDatabase();
    const first = Buffer.from(TrustList.encode(listOf(1, [entry('a'), entry('b'), entry('c')])).finish());
    const trust = await openTrustStore({
      database,
      first,
      rootKeys: [root.publicKey],
      clock,
      log: silentLog,
      onMemberKeyChanged: (change) => changes.push(change),
    });
    const other = createSigningKey().publicKey;
    // A newcomer, a suspension and a new address are no change of keys.
    await trust.offer(
      listOf(2, [
        { ...entry('a', 2), addresses: ['/ip4/10.0.0.1/tcp/9'] },
        { ...entry('b'), signingPublicKey: other },
        { ...entry('c'), peerId: 'peer-other' },
        entry('d'),
      ]),
    );
    expect(changes).toEqual([
      { nodeId: 'n-bbbbbbbbbbbbbbbb', seq: 2, changed: 'signing-key', keyId: keyIdOf(other), formerKeyId: keyIdOf(Buffer.alloc(32, 1)) },
      {
        nodeId: 'n-cccccccccccccccc',
        seq: 2,
        changed: 'peer-id',
        keyId: keyIdOf(Buffer.alloc(32, 1)),
        formerKeyId: keyIdOf(Buffer.alloc(32, 1)),
      },
    ]);
    expect(
      trust
        .view()
        .entries.get('n-bbbbbbbbbbbbbbbb' as NodeId)
        ?.signingPublicKey.equals(other),
    ).toBe(true);
    await database.close();
  });
});

test('a head signed by a later index key loads by the chain of heads that named it; without the chain it does not', async () => {
  await inFolder(async (_folder, openDatabase) => {
    const [second, third] = [createSigningKey(), createSigningKey()];
    const signed = (seq: number, key: typeof root, named: readonly (typeof root)[]): TrustList =>
      buildTrustList({
        entries: [entry('a')],
        seq,
        nowEpochMs: clock.now() + seq,
        key,
        indexSigningKeys: named.map(({ publicKey }) => publicKey),
      });
    const first = Buffer.from(TrustList.encode(signed(1, root, [root])).finish());
    const open = async (database: FederationDatabase) =>
      openTrustStore({ database, first, rootKeys: [root.publicKey], clock, log: silentLog });
    let database = await openDatabase();
    let trust = await open(database);
    for (const news of [signed(2, root, [root, second]), signed(3, second, [second]), signed(4, second, [second, third])])
      expect(await trust.offer(news)).toBe(true);
    await database.close();
    database = await openDatabase();
    trust = await open(database);
    expect(await trust.offer(signed(5, third, [third]))).toBe(true);
    await database.close();
    database = await openDatabase();
    trust = await open(database);
    expect(trust.view()).toMatchObject({ seq: 5, indexSigningKeys: [Buffer.from(third.publicKey)] });
    await database.write.deleteFrom('trust_part').where('name', 'like', '!%').execute();
    await expect(open(database)).rejects.toMatchObject({ reason: 'SIGNATURE_INVALID' });
    await database.close();
  });
});

test('a list that has run out still loads, so that a newer one can be asked for', async () => {
  await inFolder(async (_folder, openDatabase) => {
    const old = listOf(1, [entry('a')], { nowEpochMs: clock.now() - 25 * 3_600_000 });
    const database = await openDatabase();
    const trust = await openTrustStore({
      database,
      first: TrustList.encode(old).finish(),
      rootKeys: [root.publicKey],
      clock,
      log: silentLog,
    });
    expect(trust.view().expiresAtEpochMs).toBeLessThan(clock.now());
    expect(await trust.offer(listOf(1, [entry('a')]))).toBe(true);
    expect(trust.view().expiresAtEpochMs).toBeGreaterThan(clock.now());
    await database.close();
  });
});

test('patient keys are asked once, kept without the id, and known offline; a false proof is refused; a rotation is followed', async () => {
  await inFolder(async (_folder, openDatabase) => {
    const index = await openTestIndex();
    const database = await openDatabase();
    const channel = openIndexChannel({ address: index.address, credentials: index.credentials, clock });
    const keys = openPatientKeys({
      channel,
      database,
      secret: Buffer.alloc(32, 9),
      first: { epoch: '1', publicKey: Buffer.from(index.key.publicKey) },
      clock,
      random,
    });
    try {
      const ids = Array.from({ length: 20 }, (_, number) => parsePersonId(`1101019003071${String(10 + number)}`));
      const first = await keys.patientKeys(ids);
      expect(new Set(first.map(({ key }) => key.toString('hex'))).size).toBe(20);
      expect(first.every(({ key, epoch }) => key.length === 32 && epoch === '1')).toBe(true);
      expect(await keys.patientKeys([...ids].reverse())).toEqual([...first].reverse());
      const [twice, again] = await keys.patientKeys([ids[0]!, ids[0]!]);
      expect(twice).toEqual(again);
      expect(index.evaluated).toBe(20);
      expect(await keys.patientKeys([])).toEqual([]);
      expect(channel.state().state).toBe('connected');

      const dump = JSON.stringify(await database.read.selectFrom('patient_key').selectAll().execute());
      expect(dump).not.toContain('11010119');

      index.stop();
      expect(await keys.patientKeys(ids)).toEqual(first);
      await expect(keys.patientKeys([ids[0]!, parsePersonId('110101900308199')])).rejects.toMatchObject({
        code: 'UNAVAILABLE',
        reason: 'PATIENT_KEY_UNAVAILABLE',
      });
      expect(channel.state().state).toBe('unreachable');

      await index.start();
      index.cheats = true;
      await clock.sleep(600); // the channel's own back-off
      await expect(keys.patientKeys([parsePersonId('110101900308199')])).rejects.toMatchObject({ reason: 'EVALUATION_PROOF_INVALID' });
      index.cheats = false;
      index.epoch = '2';
      const rotated = await keys.patientKeys([parsePersonId('110101900308199')]);
      expect(rotated[0]?.epoch).toBe('2');
      expect((await keys.patientKeys(ids.slice(0, 1)))[0]).toMatchObject({ epoch: '2' });
      expect((await keys.knownPatientKeys(ids.slice(0, 2))).map(({ epoch }) => epoch).toSorted()).toEqual(['1', '1', '2']);
    } finally {
      channel.close();
      await database.close();
      index.stop();
    }
  });
});

test('push events come in order over lost connections; the cursor moves only after the listeners', async () => {
  await inFolder(async (_folder, openDatabase) => {
    const index = await openTestIndex();
    const database = await openDatabase();
    const channel = openIndexChannel({ address: index.address, credentials: index.credentials, clock });
    const seen: string[] = [];
    let connections = 0;
    let failOn = 'c2';
    let isReady = false;
    const open = () =>
      openPushSubscription({
        channel,
        database,
        clock,
        random,
        log: silentLog,
        trustListSeq: () => 7,
        onConnected: async () => void (connections += 1),
        workerReady: async () => {
          while (!isReady) await clock.sleep(5);
        },
        listeners: () => [
          async (event) => {
            if (event.cursor === failOn) {
              failOn = '';
              throw new Error('the disk is full');
            }
            seen.push(event.cursor);
          },
        ],
      });
    let push = open();
    try {
      index.push({ cursor: 'c1' });
      index.push({ cursor: 'c2' });
      index.push({ cursor: '', event: { $case: 'keepAlive', value: { atEpochMs: 0n } } });
      await until(() => connections === 1);
      await clock.sleep(100);
      expect(seen).toEqual([]);
      isReady = true;
      await until(() => seen.includes('c2'));
      expect(seen.filter((cursor) => cursor !== '')).toEqual(['c1', 'c2']);
      expect(index.subscriptions.at(-1)).toMatchObject({ afterCursor: 'c1', trustListSeq: 7n });
      index.stop();
      await until(() => channel.state().state === 'unreachable');
      await push.close();
      push = open();
      await index.start();
      index.push({ cursor: 'c3' });
      await until(() => seen.includes('c3'));
      expect(seen.filter((cursor) => cursor !== '')).toEqual(['c1', 'c2', 'c3']);
      expect(connections).toBeGreaterThanOrEqual(3);
    } finally {
      await push.close();
      channel.close();
      await database.close();
      index.stop();
    }
  });
});

test('an identity is written whole or not at all, readable by its owner alone, and refused where it is damaged', async () => {
  await inFolder(async (folder) => {
    const [signing, peer] = [createSigningKey(), createSigningKey()];
    const credential = {
      privateKeyPem: '-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n',
      certificateChainPem: '-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n',
    };
    const enrolment = {
      nodeId,
      hospitalName: 'Renji',
      indexAddress: 'h:1',
      doorAddress: 'h:2',
      indexSigningPublicKey: 'aa',
      evaluatorEpoch: '1',
      evaluatorPublicKey: 'bb',
    };
    expect(isEnrolled(folder)).toBe(false);
    await writeIdentity(folder, {
      enrolment,
      caCertificatePem: 'ca',
      signingKey: signing,
      peerKeyPem: peer.toPem(),
      cacheSecret: random.bytes(32),
      credential,
      firstTrustList: Buffer.from('x'),
    });
    expect(isEnrolled(folder)).toBe(true);
    const identity = await readIdentity(folder);
    expect(identity).toMatchObject({ enrolment, credential });
    expect(identity.signingKey.publicKey).toEqual(signing.publicKey);
    expect(identity.peerSeed).toHaveLength(32);
    for (const name of await readdir(identityFolder(folder)))
      expect((await stat(join(identityFolder(folder), name))).mode & 0o777).toBe(0o600);
    await replaceCredential(folder, { ...credential, privateKeyPem: credential.privateKeyPem.replace('AA', 'BB') });
    expect((await readIdentity(folder)).credential.privateKeyPem).toContain('BB');
    await expect(joinFederation({ link: 'https://h:1#x', folder })).rejects.toMatchObject({
      code: 'ALREADY_EXISTS',
      reason: 'NODE_ALREADY_JOINED',
    });
    await writeFile(join(identityFolder(folder), 'peer-key.pem'), 'torn');
    await expect(readIdentity(folder)).rejects.toMatchObject({
      reason: 'IDENTITY_UNREADABLE',
      message: expect.stringContaining('peer-key.pem'),
    });
  });
});
