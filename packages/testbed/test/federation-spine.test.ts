import { X509Certificate } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { initIndex, openIndex, type MeridianIndex } from '@meridian/index/index-server';
import { openAdvertise, type Advertise } from '@meridian/node/advertise/advertise';
import { openNodeAudit, type AuditLog } from '@meridian/node/audit/node-audit';
import { openConsent, type Consent } from '@meridian/node/consent/consent';
import { openFederation, type Federation } from '@meridian/node/federation/federation';
import { joinFederation } from '@meridian/node/federation/join';
import { openStore, type Store } from '@meridian/node/store/store';
import { NodeStatus } from '@meridian/shared/generated/meridian/v1/trust';
import { readGrant } from '@meridian/shared/grant';
import { signConsent } from '@meridian/shared/consent';
import { PurposeOfUse } from '@meridian/shared/generated/meridian/v1/common';
import { CoverageState } from '@meridian/shared/generated/meridian/v1/query';
import { parsePersonId, parseStudyInstanceUid, type NodeId } from '@meridian/shared/identifiers';
import { silentLog } from '@meridian/shared/log';
import { decodeManifest, openManifest } from '@meridian/shared/manifest';
import { systemClock as clock } from '@meridian/shared/platform/clock';
import { systemRandom as random } from '@meridian/shared/platform/random';
import { uidElement, textElement } from './federation-data-set.ts';

/** The federation rooms of one hospital, without its doors. */
interface Member {
  readonly nodeId: NodeId;
  readonly folder: string;
  readonly store: Store;
  readonly audit: AuditLog;
  readonly federation: Federation;
  readonly advertise: Advertise;
  readonly consent: Consent;
  close(): Promise<void>;
}

interface Mesh {
  index: MeridianIndex;
  readonly folder: string;
  stopIndex(): Promise<void>;
  startIndex(): Promise<void>;
  member(name: string): Promise<Member>;
  reopen(member: Member, meanwhile?: () => Promise<void>): Promise<Member>;
}

async function withMesh(run: (mesh: Mesh) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'meridian-mesh-'));
  const indexFolder = join(folder, 'index');
  await initIndex({ folder: indexFolder, name: 'Test index', host: '127.0.0.1' });
  const start = (): Promise<MeridianIndex> => openIndex({ folder: indexFolder, ports: { join: 0, grpc: 0 } });
  const open = new Set<Member>();
  const mesh: Mesh = {
    index: await start(),
    folder,
    stopIndex: () => mesh.index.close(),
    startIndex: async () => void (mesh.index = await start()),
    member: async (name) => {
      const { joinLink } = await mesh.index.addHospital({ name });
      const data = join(folder, name);
      await joinFederation({ link: joinLink, folder: data });
      return remember(await openMember(data));
    },
    reopen: async (member, meanwhile) => {
      open.delete(member);
      await member.close();
      await meanwhile?.();
      return remember(await openMember(member.folder));
    },
  };
  const remember = (member: Member): Member => {
    open.add(member);
    return member;
  };
  try {
    await run(mesh);
  } finally {
    for (const member of open) await member.close();
    await mesh.index.close();
    await rm(folder, { recursive: true, force: true });
  }
}

async function openMember(folder: string): Promise<Member> {
  const parts = { folder, clock, random, log: silentLog };
  const audit = await openNodeAudit(parts);
  const federation = await openFederation({ ...parts, audit });
  if (federation === undefined) throw new Error('not joined');
  const store = await openStore({ ...parts, limits: { quietTimeMs: 3_600_000 } });
  const advertise = await openAdvertise({ ...parts, store, federation, audit });
  const consent = await openConsent({ ...parts, store, federation, audit });
  federation.onPush(consent.pushed);
  return {
    nodeId: federation.nodeId,
    folder,
    store,
    audit,
    federation,
    advertise,
    consent,
    close: async () => {
      await consent.close();
      await advertise.close();
      await store.close();
      await federation.close();
      await audit.close();
    },
  };
}

const studyUid = (study: number) => parseStudyInstanceUid(`1.2.826.0.2.${study}`);
const personOf = (study: number): string => `110101900307${String(100 + (study % 10)).slice(-3)}`;

async function ingest({ store }: Member, study: number): Promise<void> {
  const dataset = Buffer.concat([
    uidElement(0x0008, 0x0016, '1.2.840.10008.5.1.4.1.1.7'),
    uidElement(0x0008, 0x0018, `${studyUid(study)}.1.1`),
    textElement(0x0008, 0x0020, 'DA', '20250601'),
    textElement(0x0008, 0x0060, 'CS', 'CT'),
    textElement(0x0010, 0x0010, 'PN', 'Wang^Xiaoming'),
    textElement(0x0010, 0x0020, 'LO', personOf(study)),
    uidElement(0x0020, 0x000d, studyUid(study)),
    uidElement(0x0020, 0x000e, `${studyUid(study)}.1`),
  ]);
  const sink = store.ingest.begin({
    door: 'dimse',
    transferSyntaxUid: '1.2.840.10008.1.2.1',
    assigningAuthority: 'H',
    nationalIdIn: 'patient-id',
  });
  sink.write(dataset);
  await sink.end();
  await store.settle.now(studyUid(study));
}

async function until(condition: () => boolean | Promise<boolean>, what: string, limitMs = 20_000): Promise<number> {
  const begin = clock.monotonicMs();
  while (!(await condition())) {
    if (clock.monotonicMs() - begin > limitMs) throw new Error(`${what}: not within ${limitMs} ms`);
    await clock.sleep(25);
  }
  return clock.monotonicMs() - begin;
}

/** The history of a person as the index tells it to a member. */
async function history({ federation }: Member, person: string) {
  const patientKeys = await federation.patientKeys([parsePersonId(person)]);
  const answer = await federation.channel.call('query', 'patientHistory', {
    patientKeys,
    purposeOfUse: PurposeOfUse.PURPOSE_OF_USE_TREAT,
    subject: 'dr',
    pageToken: '',
    pageSize: 100,
  });
  return { coverage: answer.coverage, studies: answer.entries.map(({ manifest }) => decodeManifest(manifest?.payload ?? Buffer.alloc(0))) };
}

const forAnybody = {
  provision: { grantee: { kind: 'any-treating' as const }, purposes: ['TREAT' as const] },
  validForMs: 3_600_000,
  clerk: 'clerk-1',
};

test('a hospital joins once, by a good link to the right index, and nothing is left of a failed try', async () => {
  await withMesh(async ({ index, folder }) => {
    const { joinLink } = await index.addHospital({ name: 'Renji' });
    const data = join(folder, 'renji');
    const joining = (link: string, to = data) => joinFederation({ link, folder: to });
    await expect(joining('https://nowhere')).rejects.toMatchObject({ reason: 'JOIN_LINK_INVALID' });
    await expect(joining(joinLink.replace(/[0-9a-f]{64}$/, '0'.repeat(64)))).rejects.toMatchObject({
      code: 'UNAUTHENTICATED',
      reason: 'CA_PIN_MISMATCH',
    });
    await expect(joining(joinLink.replace(/#.{26}/, `#${'A'.repeat(26)}`))).rejects.toMatchObject({
      code: 'UNAUTHENTICATED',
      reason: 'JOIN_CODE_UNKNOWN',
    });
    await expect(joining(joinLink.replace(/:\d+#/, ':1#'))).rejects.toMatchObject({ code: 'UNAVAILABLE', reason: 'INDEX_UNREACHABLE' });
    expect(await openFederation({ folder: data, clock, random, log: silentLog })).toBeUndefined();
    const joined = await joining(joinLink);
    expect(joined.hospitalName).toBe('Renji');
    await expect(joining(joinLink)).rejects.toMatchObject({ reason: 'NODE_ALREADY_JOINED' });
    await expect(joining(joinLink, join(folder, 'other'))).rejects.toMatchObject({ code: 'UNAUTHENTICATED', reason: 'JOIN_CODE_USED' });
    const federation = await openFederation({ folder: data, clock, random, log: silentLog });
    try {
      expect(federation?.entryOf(joined.nodeId)).toMatchObject({ name: 'Renji', status: NodeStatus.NODE_STATUS_ACTIVE });
      await federation?.updateAddresses(['/ip4/127.0.0.1/tcp/4001']);
      await until(() => federation?.entryOf(joined.nodeId)?.addresses[0] === '/ip4/127.0.0.1/tcp/4001', 'the trust list with the address');
    } finally {
      await federation?.close();
    }
  });
});

test('fifty studies arrive once and in order, over outages of the index and restarts of the node', async () => {
  await withMesh(async (mesh) => {
    let member = await mesh.member('Renji');
    for (let study = 1; study <= 10; study += 1) await ingest(member, study);
    await member.advertise.settle(AbortSignal.timeout(20_000));
    await mesh.stopIndex();
    for (let study = 11; study <= 25; study += 1) await ingest(member, study);
    member = await mesh.reopen(member);
    for (let study = 26; study <= 40; study += 1) await ingest(member, study);
    expect(member.advertise.status().acknowledgedSeq).toBe(10);
    await mesh.startIndex();
    for (let study = 41; study <= 50; study += 1) await ingest(member, study);
    await member.advertise.settle(AbortSignal.timeout(30_000));
    expect((await mesh.index.status()).studies).toBe(50);
    const found: string[] = [];
    for (let person = 0; person < 10; person += 1)
      found.push(
        ...(await history(member, personOf(person))).studies.map(({ studyInstanceUid, version }) => `${studyInstanceUid} ${version}`),
      );
    expect(found.toSorted()).toEqual(Array.from({ length: 50 }, (_, place) => `${studyUid(place + 1)} 1`).toSorted());
    await until(
      async () => (await history(member, personOf(1))).coverage[0]?.state === CoverageState.COVERAGE_STATE_CURRENT,
      'current coverage',
    );
    const seqs = Array.from({ length: 50 }, (_, place) => place + 1);
    expect(member.advertise.status()).toMatchObject({ lastSeq: seqs.length, acknowledgedSeq: seqs.length, pending: 0 });
    // The index holds no person id.
    const dump = (await readFile(mesh.index.databasePath)).toString('latin1');
    for (let person = 0; person < 10; person += 1) expect(dump).not.toContain(parsePersonId(personOf(person)).value.slice(0, 14));
  });
});

test('a revocation reaches the holder by the push channel, also one that was signed while the index was down', async () => {
  await withMesh(async (mesh) => {
    const [holder, asker] = [await mesh.member('Renji'), await mesh.member('Huashan')];
    await ingest(holder, 1);
    await holder.advertise.settle(AbortSignal.timeout(20_000));
    const revoked: string[] = [];
    holder.consent.onRevoked(({ consentId }) => revoked.push(consentId));
    const personId = parsePersonId(personOf(1));
    const first = await asker.consent.record({ personId, ...forAnybody });
    const second = await asker.consent.record({ personId, ...forAnybody });
    await asker.consent.settle();
    await until(async () => (await holder.consent.list(personId)).length === 2, 'both consents at the holder');
    await asker.consent.revoke({ consentId: first.consentId });
    expect(await until(() => revoked.includes(first.consentId), 'the revocation at the holder')).toBeLessThan(2_000);

    await mesh.stopIndex();
    await until(() => asker.federation.channel.state().state === 'unreachable', 'the outage to be noticed');
    const [revocation] = await asker.consent.revoke({ consentId: second.consentId });
    expect(revocation?.holders).toEqual([holder.nodeId]);
    // Node to node, without the index; then again by the index: once is enough.
    await holder.consent.receive(revocation?.statement.compact ?? '');
    expect(revoked).toEqual([first.consentId, second.consentId]);
    await mesh.startIndex();
    await until(async () => (await asker.consent.outbox()).pending === 0, 'the outbox to drain');
    await until(() => holder.federation.channel.state().state === 'connected', 'the holder to reconnect');
    await clock.sleep(300);
    expect(revoked).toEqual([first.consentId, second.consentId]);
  });
});

test('a grant of the index opens one study at its holder, for the asking node alone, until the consent goes', async () => {
  await withMesh(async (mesh) => {
    const [holder, asker] = [await mesh.member('Renji'), await mesh.member('Huashan')];
    await ingest(holder, 1);
    await holder.advertise.settle(AbortSignal.timeout(20_000));
    const personId = parsePersonId(personOf(1));
    const patientKeys = await asker.federation.patientKeys([personId]);
    const ask = () =>
      asker.federation.channel.call('grants', 'issueGrant', {
        patientKeys,
        holderNode: holder.nodeId,
        studyInstanceUids: [studyUid(1)],
        purposeOfUse: PurposeOfUse.PURPOSE_OF_USE_TREAT,
        subject: 'dr',
        role: 'radiologist',
      });
    await expect(ask()).rejects.toMatchObject({ code: 'PERMISSION_DENIED', reason: 'NO_CONSENT' });
    const consent = await asker.consent.record({ personId, ...forAnybody });
    await until(async () => (await asker.consent.outbox()).pending === 0, 'the consent at the index');
    const { grant, manifests } = await ask();
    expect(decodeManifest(manifests[0]?.payload ?? Buffer.alloc(0)).studyInstanceUid).toBe(studyUid(1));
    const peerOf = (member: Member): string => member.federation.entryOf(member.nodeId)?.peerId ?? '';
    const decide = (livePeerId: string) => holder.consent.decide(grant?.compact ?? '', { livePeerId, studyUid: studyUid(1) });
    await until(() => holder.federation.entryOf(asker.nodeId) !== undefined, 'the asker in the list of the holder');
    expect(await decide(peerOf(asker))).toMatchObject({
      allow: true,
      grant: { azp: asker.nodeId, aud: holder.nodeId, studies: [studyUid(1)] },
      consent: { hash: consent.hash },
    });
    expect(await decide(peerOf(holder))).toMatchObject({ allow: false, reason: 'GRANT_PEER' });
    await mesh.stopIndex();
    expect(await decide(peerOf(asker))).toMatchObject({ allow: true });
    const [revocation] = await asker.consent.revoke({ consentId: consent.consentId });
    await holder.consent.receive(revocation?.statement.compact ?? '');
    expect(await decide(peerOf(asker))).toMatchObject({ allow: false, reason: 'CONSENT_STALE', detail: 'revoked' });
  });
});

test('a certificate is renewed by the signing key with a new TLS key, and the channel goes on', async () => {
  await withMesh(async (mesh) => {
    const member = await mesh.member('Renji');
    const credential = join(member.folder, 'identity', 'tls.pem');
    const [before, expiry] = [await readFile(credential, 'utf8'), member.federation.certificateExpiresAtEpochMs()];
    expect(expiry - clock.now()).toBeGreaterThan(6 * 86_400_000);
    await clock.sleep(1_100); // certificate times are whole seconds
    await member.federation.renewCertificate();
    const after = await readFile(credential, 'utf8');
    const spki = (pem: string) =>
      new X509Certificate(pem.slice(pem.indexOf('-----BEGIN CERTIFICATE'))).publicKey
        .export({ type: 'spki', format: 'der' })
        .toString('hex');
    expect(spki(after)).not.toBe(spki(before));
    expect(member.federation.certificateExpiresAtEpochMs()).toBeGreaterThan(expiry);
    const events: string[] = [];
    for await (const { type } of member.audit.entries()) events.push(type);
    expect(events).toEqual(['CERT']);
    await ingest(member, 1);
    await member.advertise.settle(AbortSignal.timeout(20_000));
    const reopened = await mesh.reopen(member);
    expect((await history(reopened, personOf(1))).studies).toHaveLength(1);
  });
});

test('a hospital that joins again with new keys keeps its studies and its consents, and the old keys sign nothing more', async () => {
  await withMesh(async (mesh) => {
    const [holder, asker] = [await mesh.member('Renji'), await mesh.member('Huashan')];
    await ingest(holder, 1);
    const personId = parsePersonId(personOf(1));
    const given = await holder.consent.record({ personId, ...forAnybody });
    const gone = await holder.consent.record({ personId, ...forAnybody });
    await holder.consent.revoke({ consentId: gone.consentId });
    await holder.advertise.settle(AbortSignal.timeout(20_000));
    await holder.consent.settle();
    const formerKey = holder.federation.signingKey;
    const { joinLink } = await mesh.index.inviteAgain(holder.nodeId);
    const rejoined = await mesh.reopen(holder, async () => {
      await rm(join(holder.folder, 'identity'), { recursive: true });
      await joinFederation({ link: joinLink, folder: holder.folder });
    });
    expect(rejoined.nodeId).toBe(holder.nodeId);
    await rejoined.advertise.settle(AbortSignal.timeout(20_000));
    await rejoined.consent.settle();
    await until(
      () => asker.federation.entryOf(holder.nodeId)?.signingPublicKey.equals(rejoined.federation.signingKey.publicKey) === true,
      'the new key in the list of the asker',
    );

    const patientKeys = await asker.federation.patientKeys([personId]);
    const { entries, coverage } = await asker.federation.channel.call('query', 'patientHistory', {
      patientKeys,
      purposeOfUse: PurposeOfUse.PURPOSE_OF_USE_TREAT,
      subject: 'dr',
      pageToken: '',
      pageSize: 100,
    });
    expect(entries.map(({ manifest }) => openManifest(manifest, [rejoined.federation.signingKey.publicKey]).manifest)).toMatchObject([
      { studyInstanceUid: studyUid(1), version: 2n },
    ]);
    await until(
      async () =>
        (await history(asker, personOf(1))).coverage.find(({ nodeId }) => nodeId === holder.nodeId)?.state ===
        CoverageState.COVERAGE_STATE_CURRENT,
      'the holder current',
    );
    expect(coverage).toHaveLength(2);
    const { grant } = await asker.federation.channel.call('grants', 'issueGrant', {
      patientKeys,
      holderNode: holder.nodeId,
      studyInstanceUids: [studyUid(1)],
      purposeOfUse: PurposeOfUse.PURPOSE_OF_USE_TREAT,
      subject: 'dr',
      role: 'radiologist',
    });
    const resting = await asker.consent.receive(readGrant(grant?.compact ?? '').cst.statement);
    expect(resting).toMatchObject({ consentId: given.consentId, status: 'active' });
    expect(resting.hash).not.toBe(given.hash);
    const livePeerId = asker.federation.entryOf(asker.nodeId)?.peerId ?? '';
    expect(await rejoined.consent.decide(grant?.compact ?? '', { livePeerId, studyUid: studyUid(1) })).toMatchObject({ allow: true });
    expect(
      (await rejoined.consent.list(personId))
        .filter(({ consentId }) => consentId === gone.consentId)
        .map(({ status }) => status)
        .sort(),
    ).toEqual(['active', 'revoked']);

    // Who has the old key and dates a statement back opens nothing with it.
    const forged = signConsent(
      { ...given, consentId: random.uuid(), seq: given.seq + 100_000, issuedAtEpochMs: given.issuedAtEpochMs },
      formerKey,
    );
    await expect(asker.federation.channel.call('consent', 'recordConsent', { statement: { compact: forged } })).rejects.toMatchObject({
      code: 'UNAUTHENTICATED',
      reason: 'CONSENT_SIGNATURE',
    });
    await expect(asker.consent.receive(forged)).rejects.toMatchObject({ reason: 'CONSENT_SIGNATURE' });
    const before = await history(asker, personOf(1));
    const again = await mesh.reopen(rejoined);
    await again.advertise.settle(AbortSignal.timeout(20_000));
    expect((await history(asker, personOf(1))).studies).toEqual(before.studies);
  });
});

test('a revoked node is cut from the index, and the others see it within seconds', async () => {
  await withMesh(async (mesh) => {
    const [stays, goes] = [await mesh.member('Renji'), await mesh.member('Huashan')];
    await goes.federation.patientKeys([parsePersonId(personOf(1))]);
    await until(() => stays.federation.entryOf(goes.nodeId)?.status === NodeStatus.NODE_STATUS_ACTIVE, 'the newcomer in the list');
    await mesh.index.revokeNode(goes.nodeId);
    expect(
      await until(() => stays.federation.entryOf(goes.nodeId)?.status === NodeStatus.NODE_STATUS_REVOKED, 'the revocation in the list'),
    ).toBeLessThan(10_000);
    await expect(goes.federation.patientKeys([parsePersonId(personOf(2))])).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
    await expect(goes.federation.renewCertificate()).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
    await ingest(goes, 1);
    await expect(goes.advertise.settle(AbortSignal.timeout(1_500))).rejects.toBeDefined();
    expect((await mesh.index.status()).studies).toBe(0);
  });
});
