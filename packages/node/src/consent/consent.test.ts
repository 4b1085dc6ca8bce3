import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { ChannelCredentials, Server, ServerCredentials, type sendUnaryData, type ServerUnaryCall } from '@grpc/grpc-js';
import { signConsent, type ConsentStatement } from '@meridian/shared/consent';
import { MeshError } from '@meridian/shared/errors';
import {
  ConsentServiceService,
  type ListConsentsRequest,
  type ListConsentsResponse,
  type RecordConsentRequest,
  type RecordConsentResponse,
} from '@meridian/shared/generated/meridian/v1/consent';
import { TrustEntry } from '@meridian/shared/generated/meridian/v1/trust';
import { signGrant, type GrantClaims } from '@meridian/shared/grant';
import { errorOfCall } from '@meridian/shared/grpc';
import { parsePersonId, parseStudyInstanceUid, sha256, type NodeId, type TypedPersonId } from '@meridian/shared/identifiers';
import { silentLog } from '@meridian/shared/log';
import { systemClock as clock } from '@meridian/shared/platform/clock';
import { systemRandom as random } from '@meridian/shared/platform/random';
import { createSigningKey } from '@meridian/shared/signed-object';
import { buildTrustList, verifyTrustList, type TrustView } from '@meridian/shared/trust-list';
import { openNodeAudit, type AuditLog } from '../audit/node-audit.ts';
import { element } from '../dicom/testing/build-dataset.ts';
import type { Federation } from '../federation/federation.ts';
import { openIndexChannel } from '../federation/index-channel.ts';
import { openStore, type Store } from '../store/store.ts';
import { makeInstance } from '../store/testing/data-sets.ts';
import { openConsent, type Consent } from './consent.ts';

const self = 'n-aaaaaaaaaaaaaaaa' as NodeId;
const asker = 'n-bbbbbbbbbbbbbbbb' as NodeId;
const gone = 'n-cccccccccccccccc' as NodeId;
const [indexKey, selfKey, askerKey, goneKey] = [createSigningKey(), createSigningKey(), createSigningKey(), createSigningKey()];
const person = parsePersonId('110101900307123');
const studyUid = parseStudyInstanceUid('1.2.3');

interface Room {
  consent: Consent;
  readonly audit: AuditLog;
  readonly store: Store;
  /** What the index took, in order. */
  readonly taken: string[];
  /** Reason with which the index refuses the next statements. */
  refuseWith: string | undefined;
  indexStart(): Promise<void>;
  indexStop(): void;
  evaluatorIsDown: boolean;
  auditIsFull: boolean;
  trust: TrustView;
  reopen(): Promise<void>;
  events(): Promise<string[]>;
}

function trustOf(status: { asker?: 1 | 2; seq?: number; now?: number } = {}): TrustView {
  const entry = (nodeId: NodeId, key: { publicKey: Buffer }, of: 1 | 2 | 3): TrustEntry =>
    TrustEntry.fromPartial({ nodeId, name: nodeId, peerId: `peer-${nodeId}`, signingPublicKey: key.publicKey, status: of });
  const now = status.now ?? clock.now();
  const list = buildTrustList({
    entries: [entry(self, selfKey, 1), entry(asker, askerKey, status.asker ?? 1), entry(gone, goneKey, 3)],
    seq: status.seq ?? 1,
    nowEpochMs: now,
    key: indexKey,
    indexSigningKeys: [indexKey.publicKey],
  });
  return verifyTrustList(list, [indexKey.publicKey], now);
}

async function withRoom(run: (room: Room) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'meridian-consent-'));
  const store = await openStore({ folder, clock, random, log: silentLog });
  const audit = await openNodeAudit({ folder, clock, random });
  let server: Server | undefined;
  let port = 0;
  const start = async (): Promise<void> => {
    server = new Server();
    server.addService(ConsentServiceService, {
      recordConsent: (
        call: ServerUnaryCall<RecordConsentRequest, RecordConsentResponse>,
        callback: sendUnaryData<RecordConsentResponse>,
      ) => {
        if (room.refuseWith !== undefined)
          return callback(errorOfCall(new MeshError('PERMISSION_DENIED', room.refuseWith as Uppercase<string>, 'no')));
        room.taken.push(call.request.statement?.compact ?? '');
        callback(null, { consentHash: sha256(call.request.statement?.compact ?? '') });
      },
      listConsents: (_call: ServerUnaryCall<ListConsentsRequest, ListConsentsResponse>, callback: sendUnaryData<ListConsentsResponse>) =>
        callback(null, { statements: room.taken.map((compact) => ({ compact })) }),
    });
    port = await new Promise<number>((resolve, reject) =>
      server?.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      ),
    );
  };
  await start();
  const channel = openIndexChannel({ address: `127.0.0.1:${port}`, credentials: ChannelCredentials.createInsecure(), clock });
  const federation = {
    nodeId: self,
    signingKey: selfKey,
    channel,
    trust: () => room.trust,
    entryOf: (nodeId: NodeId) => room.trust.entries.get(nodeId),
    patientKeys: async (ids: readonly TypedPersonId[]) => {
      if (room.evaluatorIsDown) throw new MeshError('UNAVAILABLE', 'PATIENT_KEY_UNAVAILABLE', 'down');
      return ids.map(({ value }) => ({ key: sha256(value), epoch: '1' }));
    },
    knownPatientKeys: async (ids: readonly TypedPersonId[]) => ids.map(({ value }) => ({ key: sha256(value), epoch: '1' })),
  } as unknown as Federation;
  const append: AuditLog['append'] = (event) =>
    room.auditIsFull ? Promise.reject(new MeshError('RESOURCE_EXHAUSTED', 'AUDIT_UNWRITABLE', 'full')) : audit.append(event);
  const open = (): Promise<Consent> =>
    openConsent({ folder, store, federation, audit: { ...audit, append }, clock, random, log: silentLog });
  const room: Room = {
    consent: await open(),
    audit,
    taken: [],
    refuseWith: undefined,
    indexStart: start,
    indexStop: () => server?.forceShutdown(),
    evaluatorIsDown: false,
    auditIsFull: false,
    trust: trustOf(),
    store,
    reopen: async () => {
      await room.consent.close();
      room.consent = await open();
    },
    events: async () => {
      const events: string[] = [];
      for await (const { type, detail, peer } of audit.entries())
        events.push([type, detail?.['status'] ?? detail?.['deny'] ?? '', peer ?? ''].join(' ').trim());
      return events;
    },
  };
  const dataset = Buffer.concat([
    element(0x00080016, 'UI', '1.2.840.10008.5.1.4.1.1.7'),
    element(0x00080018, 'UI', '1.2.3.1.1'),
    element(0x00080020, 'DA', '20250601'),
    element(0x00080060, 'CS', 'CT'),
    element(0x00100010, 'PN', 'Wang^Xiaoming'),
    element(0x00100020, 'LO', person.value),
    element(0x0020000d, 'UI', studyUid),
    element(0x0020000e, 'UI', '1.2.3.1'),
  ]);
  const sink = store.ingest.begin({
    door: 'dimse',
    transferSyntaxUid: '1.2.840.10008.1.2.1',
    assigningAuthority: 'H',
    nationalIdIn: 'patient-id',
  });
  sink.write(dataset);
  await sink.end();
  try {
    await run(room);
  } finally {
    await room.consent.close();
    channel.close();
    room.indexStop();
    await audit.close();
    await store.close();
    await rm(folder, { recursive: true, force: true });
  }
}

const forAsker = {
  personId: person,
  provision: { grantee: { kind: 'hospital' as const, nodeId: asker }, purposes: ['TREAT' as const] },
  validForMs: 3_600_000,
  clerk: 'clerk-1',
};

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = clock.monotonicMs() + 10_000; !(await condition()); await clock.sleep(20))
    if (clock.monotonicMs() > end) throw new Error('condition not met within 10 s');
}

test('consents are signed, kept and sent in order, over an outage and a restart; numbers are never given twice', async () => {
  await withRoom(async (room) => {
    const first = await room.consent.record(forAsker);
    expect(first).toMatchObject({ writer: self, status: 'active', clerk: 'clerk-1', causes: [], provision: forAsker.provision });
    await until(() => room.taken.length === 1);
    room.indexStop();
    const second = await room.consent.record({
      ...forAsker,
      provision: { ...forAsker.provision, modalities: ['CT'] },
      formHash: 'a'.repeat(64),
    });
    expect(second.causes).toEqual([first.hash]);
    const revocations = await room.consent.revoke({ consentId: first.consentId });
    await room.reopen();
    const third = await room.consent.record({ ...forAsker, status: 'refused' });
    expect(await room.consent.outbox()).toEqual({ pending: 3, refused: 0 });
    await room.indexStart();
    await until(() => room.taken.length === 4);
    const statements = [first, second, revocations[0]?.statement, third] as ConsentStatement[];
    expect(room.taken).toEqual(statements.map(({ compact }) => compact));
    expect(new Set(statements.map(({ seq }) => seq)).size).toBe(4);
    expect(statements.map(({ seq }) => seq)).toEqual(statements.map(({ seq }) => seq).toSorted((a, b) => a - b));
    expect(await room.consent.list(person)).toEqual(statements);
    expect(await room.events()).toEqual(['CONSENT active', 'CONSENT active', 'REVOKE revoked', 'CONSENT refused']);
  });
});

test('a new person while the index is down is refused in words; what the index refuses for good does not hold up the rest', async () => {
  await withRoom(async (room) => {
    room.evaluatorIsDown = true;
    await expect(room.consent.record(forAsker)).rejects.toMatchObject({ code: 'UNAVAILABLE', reason: 'PATIENT_KEY_UNAVAILABLE' });
    room.evaluatorIsDown = false;
    room.refuseWith = 'CONSENT_FOREIGN_WRITER';
    await room.consent.record(forAsker);
    await until(async () => (await room.consent.outbox()).refused === 1);
    room.refuseWith = undefined;
    await room.consent.record(forAsker);
    await until(() => room.taken.length === 1);
    await expect(room.consent.record({ ...forAsker, validForMs: -60_000 })).rejects.toMatchObject({ reason: 'CONSENT_MALFORMED' });
    await expect(room.consent.revoke({ consentId: 'nobody' })).rejects.toMatchObject({ code: 'NOT_FOUND', reason: 'CONSENT_UNKNOWN' });
  });
});

test('a revocation is announced once, wherever it comes from, and names whom to tell', async () => {
  await withRoom(async (room) => {
    const announced: string[] = [];
    room.consent.onRevoked(({ hash }) => announced.push(hash));
    const given = await room.consent.record(forAsker);
    const [revocation] = await room.consent.revoke({ personId: person, clerk: 'clerk-2' });
    expect(revocation).toMatchObject({
      statement: { status: 'revoked', consentId: given.consentId, clerk: 'clerk-2', causes: [given.hash] },
      holders: [asker],
    });
    await expect(room.consent.revoke({ personId: person })).rejects.toMatchObject({ reason: 'CONSENT_UNKNOWN' });
    expect((await room.consent.revoke({ consentId: given.consentId }))[0]?.statement).toEqual(revocation?.statement);

    const { hash: _hash, compact: _compact, ...claims } = given;
    const foreign = signConsent({ ...claims, writer: asker, consentId: 'theirs', status: 'revoked', seq: 9 }, askerKey);
    await room.consent.receive(foreign);
    await room.consent.receive(foreign);
    await room.consent.pushed({ cursor: '1', event: { $case: 'consentStatement', value: { compact: foreign } } });
    expect(announced).toHaveLength(2);
    expect((await room.events()).at(-1)).toBe(`REVOKE revoked ${asker}`);

    await expect(
      room.consent.receive(signConsent({ ...claims, writer: asker, consentId: 'forged', seq: 9 }, selfKey)),
    ).rejects.toMatchObject({ reason: 'CONSENT_SIGNATURE' });
    await expect(room.consent.receive(signConsent({ ...claims, writer: gone, seq: 9 }, goneKey))).rejects.toMatchObject({
      reason: 'CONSENT_SIGNER_UNKNOWN',
    });
    await expect(room.consent.receive('nonsense')).rejects.toMatchObject({ reason: 'CONSENT_MALFORMED' });
    await room.consent.pushed({ cursor: '2', event: { $case: 'consentStatement', value: { compact: 'nonsense' } } });
    expect(await room.consent.knownFor([{ key: sha256(person.value), epoch: '1' }])).toHaveLength(3);

    // With the index away everybody active is told.
    const again = await room.consent.record({ ...forAsker, provision: { grantee: { kind: 'any-treating' }, purposes: ['TREAT'] } });
    room.indexStop();
    await until(async () => {
      await room.consent.list(person);
      return true;
    });
    expect((await room.consent.revoke({ consentId: again.consentId }))[0]?.holders).toEqual([asker]);
  });
});

test('a revocation that is known already is announced again while a copy that rests on the consent is open', async () => {
  await withRoom(async (room) => {
    const { hash: _hash, compact: _compact, ...claims } = await room.consent.record(forAsker);
    const given = await room.consent.receive(signConsent({ ...claims, writer: asker, consentId: 'theirs', seq: 9 }, askerKey));
    const revoked = await room.consent.receive(
      signConsent({ ...claims, writer: asker, consentId: 'theirs', status: 'revoked', seq: 10 }, askerKey),
    );
    const announced: string[] = [];
    room.consent.onRevoked(({ hash }) => announced.push(hash));
    await room.store.fetched.begin({
      studyInstanceUid: '1.2.9',
      holderNode: asker,
      manifest: Buffer.alloc(1),
      manifestSha256: Buffer.alloc(32),
      version: 1,
      expected: { instances: [] },
      consentHash: given.hash,
    });
    expect(new Set((await room.consent.related(given.hash)).map(({ hash }) => hash))).toEqual(
      new Set((await room.consent.list(person)).map(({ hash }) => hash)),
    );
    expect(await room.consent.related('0'.repeat(64))).toEqual([]);
    await room.consent.receive(revoked.compact);
    await room.store.fetched.lock(given.hash);
    await room.consent.receive(revoked.compact);
    expect(announced).toEqual([revoked.hash]);
    expect(await room.events()).toEqual(['CONSENT active', `REVOKE revoked ${asker}`]);
  });
});

test('a person who is known under two ids has refused and revokes under both', async () => {
  await withRoom(async (room) => {
    const other = parsePersonId('11010519491231002X');
    const study = parseStudyInstanceUid('1.2.4');
    const sink = room.store.ingest.begin({
      door: 'dimse',
      transferSyntaxUid: '1.2.840.10008.1.2.1',
      assigningAuthority: 'H',
      nationalIdIn: 'patient-id',
    });
    sink.write(makeInstance({ study, series: '1.2.4.1', sop: '1.2.4.1.1', patientId: person.value, residentId: other.value }));
    await sink.end();
    expect((await room.store.studies.study(study))?.personIds.map(({ value }) => value).toSorted()).toEqual(
      [person.value, other.value].toSorted(),
    );
    const {
      hash: _hash,
      compact: _compact,
      ...claims
    } = await room.consent.record({ ...forAsker, provision: { grantee: { kind: 'any-treating' }, purposes: ['TREAT'] } });
    const statement = signConsent({ ...claims, writer: asker, consentId: 'theirs', seq: 1, causes: [] }, askerKey);
    const now = Math.floor(clock.now() / 1000);
    const grant = (jti: string): string =>
      signGrant(
        {
          iss: 'index',
          sub: 'dr',
          role: 'radiologist',
          aud: self,
          azp: asker,
          cnf: { peerId: `peer-${asker}` },
          studies: [study],
          pou: 'TREAT',
          cst: { hash: sha256(statement).toString('hex'), seq: 1, statement },
          bytes: 1e9,
          iat: now,
          nbf: now,
          exp: now + 300,
          jti,
        },
        indexKey,
      );
    const decide = (jti: string) => room.consent.decide(grant(jti), { livePeerId: `peer-${asker}`, studyUid: study });
    expect(await decide('before')).toMatchObject({ allow: true });
    const otherKeys = [{ key: sha256(other.value).toString('base64url'), epoch: '1' }];
    await room.consent.receive(
      signConsent({ ...claims, writer: asker, consentId: 'no', status: 'refused', seq: 2, causes: [], patientKeys: otherKeys }, askerKey),
    );
    expect(await decide('after')).toMatchObject({ allow: false, reason: 'CONSENT_STALE', detail: 'refused' });

    await room.consent.record({ ...forAsker, personId: other });
    const revocations = await room.consent.revoke({ personId: person });
    expect(revocations.map(({ statement: { consentId } }) => consentId)).toHaveLength(2);
    expect((await room.consent.record({ ...forAsker, personId: other, status: 'refused' })).patientKeys).toHaveLength(2);
    expect((await room.consent.record({ ...forAsker, personId: other })).patientKeys).toHaveLength(1);
  });
});

test('what closes access works while the audit log cannot be written, and is written down when it can, after a restart too', async () => {
  await withRoom(async (room) => {
    const announced: string[] = [];
    const listen = () => room.consent.onRevoked(({ consentId }) => announced.push(consentId));
    listen();
    const given = await room.consent.record(forAsker);
    const { hash: _hash, compact: _compact, ...claims } = given;
    room.auditIsFull = true;
    await expect(room.consent.record(forAsker)).rejects.toMatchObject({ reason: 'AUDIT_UNWRITABLE' });
    await room.consent.receive(signConsent({ ...claims, writer: asker, consentId: 'theirs', status: 'revoked', seq: 9 }, askerKey));
    await room.consent.revoke({ consentId: given.consentId });
    const refusal = await room.consent.record({ ...forAsker, status: 'refused' });
    expect(announced).toEqual(['theirs', given.consentId, refusal.consentId]);
    await until(() => room.taken.length === 3);
    expect(await room.events()).toEqual(['CONSENT active']);
    await room.reopen();
    expect(await room.events()).toEqual(['CONSENT active']);
    room.auditIsFull = false;
    await until(async () => (await room.events()).length === 4);
    expect(await room.events()).toEqual(['CONSENT active', `REVOKE revoked ${asker}`, 'REVOKE revoked', 'CONSENT refused']);
  });
});

test('the holder decides for itself, offline: consent, revocation, replay by another peer, deny list, trust list run out', async () => {
  await withRoom(async (room) => {
    const { hash: _hash, compact: _compact, ...claims } = await room.consent.record(forAsker);
    room.indexStop();
    const theirs = { ...claims, writer: asker, seq: 1, consentId: 'theirs' };
    const statement = signConsent(theirs, askerKey);
    let jti = 0;
    const grant = (change: Partial<GrantClaims> = {}): string => {
      const now = Math.floor(clock.now() / 1000);
      jti += 1;
      return signGrant(
        {
          iss: 'index',
          sub: 'dr',
          role: 'radiologist',
          aud: self,
          azp: asker,
          cnf: { peerId: `peer-${asker}` },
          studies: [studyUid],
          pou: 'TREAT',
          cst: { hash: sha256(statement).toString('hex'), seq: 1, statement },
          bytes: 1e9,
          iat: now,
          nbf: now,
          exp: now + 300,
          jti: `j${jti}`,
          ...change,
        },
        indexKey,
      );
    };
    const decide = async (compact: string, peer: NodeId = asker) => {
      const check = await room.consent.decide(compact, { livePeerId: `peer-${peer}`, studyUid });
      return check.allow ? 'allow' : check.reason;
    };
    const good = grant();
    expect(await decide(good)).toBe('allow');
    expect(await decide(good)).toBe('allow');
    expect(await decide(good, self)).toBe('GRANT_PEER');
    await room.reopen();
    expect(await decide(good)).toBe('allow');
    const both = grant();
    expect(await Promise.all([decide(both), decide(both)])).toEqual(['allow', 'allow']);
    expect(await decide('rubbish')).toBe('GRANT_MALFORMED');
    expect(await decide(grant({ pou: 'PATRQT' }))).toBe('CONSENT_SCOPE');
    expect(await decide(grant({ studies: ['9.9'] }))).toBe('CONSENT_SCOPE');

    const denials: string[] = [];
    room.consent.onDenied(({ kind, value }) => denials.push(`${kind} ${value}`));
    room.auditIsFull = true;
    await room.consent.deny({ kind: 'node', value: gone, reason: 'at once' });
    expect(denials).toEqual([`node ${gone}`]);
    room.auditIsFull = false;
    await until(async () => (await room.events()).at(-1) === 'ADMIN node');
    await room.consent.undeny({ kind: 'node', value: gone });
    for (const denial of [
      { kind: 'node', value: asker },
      { kind: 'peer', value: `peer-${asker}` },
      { kind: 'consent', value: 'theirs' },
    ] as const) {
      await room.consent.deny({ ...denial, reason: 'privacy officer' });
      expect(await decide(grant())).toBe('DENIED_BY_HOLDER');
      await room.consent.undeny(denial);
      expect(await decide(grant())).toBe('allow');
    }
    await room.consent.deny({ kind: 'jti', value: 'j77', reason: 'x' });
    expect(await room.consent.denials()).toMatchObject([{ kind: 'jti', value: 'j77' }]);
    expect(await decide(grant({ jti: 'j77' }))).toBe('DENIED_BY_HOLDER');

    room.trust = trustOf({ asker: 2 });
    expect(await decide(grant())).toBe('GRANT_PEER');
    room.trust = trustOf({ now: clock.now() - 25 * 3_600_000 });
    expect(await decide(grant())).toBe('TRUST_LIST_EXPIRED');
    room.trust = trustOf();

    const before = await room.events();
    await room.consent.receive(signConsent({ ...theirs, seq: 2, status: 'revoked' }, askerKey));
    expect(await room.consent.decide(grant(), { livePeerId: `peer-${asker}`, studyUid })).toMatchObject({
      allow: false,
      reason: 'CONSENT_STALE',
      detail: 'revoked',
      grant: { azp: asker },
    });
    expect((await room.events()).slice(before.length)).toEqual([`REVOKE revoked ${asker}`]);
  });
});
