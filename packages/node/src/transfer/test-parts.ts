import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { MeshError } from '@meridian/shared/errors';
import type { AuditEvent } from '@meridian/shared/audit-log';
import { signConsent, openConsent, type ConsentStatement } from '@meridian/shared/consent';
import type { SignedObject } from '@meridian/shared/generated/meridian/v1/common';
import { InstanceList, ManifestStatus, type InstanceEntry } from '@meridian/shared/generated/meridian/v1/manifest';
import { checkGrant, signGrant, type GrantClaims } from '@meridian/shared/grant';
import type { NodeId } from '@meridian/shared/identifiers';
import { silentLog } from '@meridian/shared/log';
import { encodeInstanceList, instanceListDigest, signManifest } from '@meridian/shared/manifest';
import { systemClock, type Clock } from '@meridian/shared/platform/clock';
import { createSigningKey, type SigningKey } from '@meridian/shared/signed-object';
import { buildTrustList, verifyTrustList } from '@meridian/shared/trust-list';
import type { TestMember, TestNetwork } from '../peer/test-network.ts';
import { fetchStudy, type FetchRequest } from './fetch.ts';
import type { FetchStore, GrantJudge, ServedInstance, ServeStore } from './ports.ts';

export const STUDY_UID = '1.2.826.0.1.3680043.9.7433.1.1';
const CT = '1.2.840.10008.5.1.4.1.1.2';
const EXPLICIT_LITTLE = '1.2.840.10008.1.2.1';
const PATIENT_KEY = { key: Buffer.alloc(32, 7).toString('base64url'), epoch: '1' };

interface Row extends ServedInstance {
  readonly content: (offset: number, length: number) => Buffer;
}

/** A study as its holder has it: contents made from the index of the instance, so that size costs no memory. */
export interface TestStudy {
  readonly store: ServeStore<Row>;
  readonly advertise: { instanceList(): Promise<{ signed: SignedObject; list: Buffer }> };
  readonly manifest: SignedObject;
  readonly entries: InstanceEntry[];
  readonly totalBytes: number;
  readonly readDelay: { gate: Promise<void> | undefined };
  /** Instances whose bytes the holder alters from now on. */
  readonly corrupt: Set<string>;
}

export function makeStudy(holder: { nodeId: NodeId; signingKey: SigningKey }, sizes: readonly number[], version = 1n): TestStudy {
  const readDelay: TestStudy['readDelay'] = { gate: undefined };
  const corrupt = new Set<string>();
  const rows = sizes.map((bytes, index) => {
    const block = createHash('sha512').update(`instance ${index}`).digest();
    const sopInstanceUid = `${STUDY_UID}.${index % 3}.${index + 1}`;
    const content = (offset: number, length: number): Buffer => {
      const from = offset % block.length;
      return Buffer.allocUnsafe(length).fill(Buffer.concat([block.subarray(from), block.subarray(0, from)]));
    };
    return { sopInstanceUid, bytes, content, index };
  });
  const entries = rows.map((row) => ({
    seriesInstanceUid: `${STUDY_UID}.${row.index % 3}`,
    sopInstanceUid: row.sopInstanceUid,
    sopClassUid: CT,
    transferSyntaxUid: EXPLICIT_LITTLE,
    bytes: BigInt(row.bytes),
    sha256: createHash('sha256').update(row.content(0, row.bytes)).digest(),
    pixelSha256: Buffer.alloc(0),
    instanceNumber: row.index,
    chunkSha256: Buffer.alloc(0),
  }));
  const list = encodeInstanceList({ instances: entries });
  const totalBytes = sizes.reduce((sum, bytes) => sum + bytes, 0);
  const manifest = signManifest(
    {
      studyInstanceUid: STUDY_UID,
      custodianNode: holder.nodeId,
      version,
      status: ManifestStatus.MANIFEST_STATUS_COMPLETE,
      patientKeys: [{ key: Buffer.alloc(32, 7), epoch: '1' }],
      studyDate: '20260102',
      studyTime: '',
      timezoneOffset: '',
      series: [],
      instanceCount: entries.length,
      totalBytes: BigInt(totalBytes),
      instanceListSha256: instanceListDigest(list),
      issuedAtEpochMs: 1n,
      isCopy: false,
    },
    holder.signingKey,
  );
  return {
    manifest,
    entries: InstanceList.decode(list).instances,
    totalBytes,
    readDelay,
    corrupt,
    advertise: { instanceList: async () => ({ signed: manifest, list }) },
    store: {
      studies: {
        instancesOf: async () => rows,
        async readDataSet(row, offset, length) {
          await readDelay.gate;
          const bytes = row.content(offset, length);
          if (corrupt.has(row.sopInstanceUid) && bytes.length > 0) bytes[0]! ^= 1;
          return bytes;
        },
      },
    },
  };
}

/** The asker's store: keeps digests only. What is in `durable` survived a kill. */
export interface TestFetchStore extends FetchStore {
  readonly durable: Map<string, Buffer>;
  readonly completed: string[];
  readonly begun: string[];
}

export function makeFetchStore(durable = new Map<string, Buffer>()): TestFetchStore {
  const expected = new Map<string, InstanceEntry[]>();
  const begun: string[] = [];
  const completed: string[] = [];
  return {
    durable,
    begun,
    completed,
    ingest: {
      begin(source) {
        const hash = createHash('sha256');
        let bytes = 0;
        begun.push(source.expected.sopInstanceUid);
        return {
          write(chunk) {
            hash.update(chunk);
            bytes += chunk.length;
            return bytes % 5 !== 0;
          },
          drained: () => setImmediate(undefined),
          async end() {
            await setImmediate();
            const sha256 = hash.digest();
            if (bytes !== source.expected.bytes || !sha256.equals(source.expected.sha256))
              throw new MeshError('DATA_LOSS', 'DIGEST_MISMATCH', 'other bytes');
            durable.set(source.expected.sopInstanceUid, sha256);
            return { outcome: 'stored' };
          },
          abort: async () => undefined,
        };
      },
    },
    fetched: {
      async begin(copy) {
        expected.set(copy.studyInstanceUid, copy.expected.instances);
      },
      missing: async (study) =>
        (expected.get(study) ?? []).filter((entry) => durable.get(entry.sopInstanceUid)?.equals(entry.sha256) !== true),
      async complete(study) {
        completed.push(study);
      },
    },
  };
}

/** Consent, grants and the holder's judge, with real signatures. */
export interface TestConsent {
  readonly judge: GrantJudge;
  readonly consent: ConsentStatement;
  grant(changes?: Partial<GrantClaims>): string;
  /** Signs a revocation; the judge knows it from now on. */
  revoke(): ConsentStatement;
}

export function makeConsent(network: TestNetwork, holder: TestMember, asker: TestMember, clock: Clock = systemClock): TestConsent {
  const indexKey = createSigningKey();
  const known: ConsentStatement[] = [];
  const seen = new Map<string, string>();
  let jti = 0;
  const state = (status: ConsentStatement['status'], seq: number): ConsentStatement => {
    const claims = {
      writer: asker.nodeId,
      seq,
      consentId: 'c-1',
      patientKeys: [PATIENT_KEY],
      status,
      provision: { grantee: { kind: 'any-treating' as const }, purposes: ['TREAT' as const] },
      issuedAtEpochMs: clock.now() - 1000,
      validFromEpochMs: clock.now() - 1000,
      validUntilEpochMs: clock.now() + 3_600_000,
      basis: 'operator-recorded' as const,
      clerk: 'clerk',
      causes: [],
    };
    return openConsent(signConsent(claims, asker.signingKey), [asker.signingKey.publicKey]);
  };
  const consent = state('active', 1);
  return {
    consent,
    judge: {
      async decide(compact, { livePeerId, studyUid }) {
        const list = buildTrustList({
          entries: network.entries.values(),
          seq: 1,
          nowEpochMs: clock.now(),
          key: indexKey,
          indexSigningKeys: [indexKey.publicKey],
        });
        const trust = verifyTrustList(list, [indexKey.publicKey], clock.now());
        const check = checkGrant({
          compact,
          now: clock.now(),
          indexKeys: [indexKey.publicKey],
          self: holder.nodeId,
          livePeerId,
          trust,
          studyInstanceUid: studyUid,
          knownConsents: () => known,
          denied: () => false,
          seenJti: (id) => seen.get(id),
          studyOf: (uid) => (uid === STUDY_UID ? { modalities: ['CT'], studyDate: '20260102', patientKeys: [PATIENT_KEY] } : undefined),
        });
        if (check.allow) seen.set(check.grant.jti, livePeerId);
        return check;
      },
    },
    grant(changes = {}) {
      const nowS = Math.floor(clock.now() / 1000);
      jti += 1;
      return signGrant(
        {
          iss: 'index',
          sub: 'doctor',
          role: 'radiologist',
          aud: holder.nodeId,
          azp: asker.nodeId,
          cnf: { peerId: asker.host.peerId },
          studies: [STUDY_UID],
          pou: 'TREAT',
          cst: { hash: consent.hash, seq: consent.seq, statement: consent.compact },
          bytes: 10_000_000_000,
          iat: nowS,
          nbf: nowS,
          exp: nowS + 300,
          jti: `jti-${jti}`,
          ...changes,
        },
        indexKey,
      );
    },
    revoke() {
      const statement = state('revoked', 2);
      known.push(statement);
      return statement;
    },
  };
}

export interface TestAudit {
  readonly events: AuditEvent[];
  append(event: AuditEvent): Promise<void>;
}

export function makeAudit(): TestAudit {
  const events: AuditEvent[] = [];
  return {
    events,
    append: async (event) => {
      events.push(event);
    },
  };
}

/** A fetch with everything filled in that a test does not care about. */
export function fetchRequest(
  parts: { asker: TestMember; holder: TestMember; study: TestStudy; store: FetchStore; consent: TestConsent } & Partial<FetchRequest>,
): FetchRequest {
  const { asker, holder, study, consent, ...rest } = parts;
  return {
    peerHost: asker.host,
    audit: makeAudit(),
    clock: systemClock,
    log: silentLog,
    grant: consent.grant(),
    renewGrant: async () => consent.grant(),
    manifest: study.manifest,
    holderKeys: [holder.signingKey.publicKey],
    holderNode: holder.nodeId,
    studyInstanceUid: STUDY_UID,
    localPatientPk: 1,
    consentHash: consent.consent.hash,
    signal: new AbortController().signal,
    onProgress: () => undefined,
    ...rest,
  };
}

export { fetchStudy };
