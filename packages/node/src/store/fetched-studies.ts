import type { Database } from '@meridian/shared/database';
import { MeshError } from '@meridian/shared/errors';
import type { InstanceEntry, InstanceList } from '@meridian/shared/generated/meridian/v1/manifest';
import type { NodeId } from '@meridian/shared/identifiers';
import type { Clock } from '@meridian/shared/platform/clock';
import { sql } from 'kysely';
import type { BeginFetch } from './fetched-jobs.ts';
import { optional } from './rows.ts';
import type { LockReason, StoreSchema } from './schema.ts';
import type { Settle } from './settle.ts';

/** A study that comes, or came, from a peer. */
export interface FetchedStudy {
  readonly studyInstanceUid: string;
  readonly holderNode: NodeId;
  /** The signed manifest as it was verified, with its digest. */
  readonly manifest: Buffer;
  readonly manifestSha256: Buffer;
  readonly version: number;
  /** Hex SHA-256 of the consent statement it rests on. */
  readonly consentHash: string;
  readonly consentId: string;
  /** When that consent runs out; unknown of a copy that an older version fetched. */
  readonly validUntilEpochMs?: number;
  readonly localPatientPk?: number;
  readonly complete: boolean;
  readonly locked: boolean;
  readonly begunAt: number;
}

/** How much of a fetched study is here and verified. */
export interface FetchProgress {
  readonly expected: number;
  readonly verified: number;
  readonly bytesExpected: number;
  readonly bytesVerified: number;
}

/** What is expected of studies that come from peers, and the locks on them. */
export interface FetchedStudies {
  /**
   * Notes what is to come; again, to resume or for a newer version. Durable when it resolves.
   * @throws MeshError FAILED_PRECONDITION / COPY_OF_ANOTHER_HOLDER where a copy of another holder has other instances
   */
  begin(fetch: {
    readonly studyInstanceUid: string;
    readonly holderNode: NodeId;
    readonly manifest: Uint8Array;
    readonly manifestSha256: Uint8Array;
    readonly version: number;
    readonly expected: InstanceList;
    readonly consentHash: string;
    readonly consentId?: string;
    readonly validUntilEpochMs?: number;
    readonly localPatientPk?: number;
  }): Promise<void>;
  get(studyInstanceUid: string): Promise<FetchedStudy | undefined>;
  list(): Promise<FetchedStudy[]>;
  progress(studyInstanceUid: string): Promise<FetchProgress>;
  /** Expected instances that are not held with the same bytes, whoever sent them; in the order of the list. */
  missing(studyInstanceUid: string): Promise<InstanceEntry[]>;
  /** Takes the copy as whole and settles it. @throws MeshError FAILED_PRECONDITION / COPY_INCOMPLETE */
  complete(studyInstanceUid: string): Promise<void>;
  /** Locks the copies that rest on this consent against reading; returns those that were open. */
  lock(consentHash: string, reason?: LockReason): Promise<string[]>;
  /** Locks the copy of a study that its holder has withdrawn in this version. @returns whether it was open */
  recall(study: { readonly studyInstanceUid: string; readonly holderNode: string; readonly version: number }): Promise<boolean>;
  /** Locks the copies whose consent has run out by now; returns them. Reading is refused from that instant, marked or not. */
  lockExpired(): Promise<string[]>;
  /** Puts a copy on another consent, as a renewed grant names it. */
  rest(
    studyInstanceUid: string,
    basis: { readonly consentHash: string; readonly consentId: string; readonly validUntilEpochMs: number },
  ): Promise<void>;
  unlock(consentHash: string): Promise<string[]>;
  /** Serves the copy under a local patient from now on. False: there is no copy of that study. */
  link(studyInstanceUid: string, patientPk: number): Promise<boolean>;
}

/** Opens the register of fetched studies. */
export function openFetchedStudies(parts: {
  database: Database<StoreSchema>;
  clock: Clock;
  settle: Pick<Settle, 'now'>;
  onChange: () => void;
}): FetchedStudies {
  const { database, clock } = parts;
  const setLock = async (consentHash: string, locked: 0 | 1, reason: LockReason | ''): Promise<string[]> => {
    const changed = await database.run<string[]>('lockCopies', { consentHash, locked, reason, nowEpochMs: clock.now() });
    if (changed.length > 0) parts.onChange();
    return changed;
  };
  return {
    begin: async (fetch) => {
      const step: BeginFetch = {
        studyInstanceUid: fetch.studyInstanceUid,
        holderNode: fetch.holderNode,
        manifest: fetch.manifest,
        manifestSha256: fetch.manifestSha256,
        version: fetch.version,
        consentHash: fetch.consentHash,
        consentId: fetch.consentId ?? '',
        validUntilEpochMs: fetch.validUntilEpochMs ?? null,
        localPatientPk: fetch.localPatientPk ?? null,
        nowEpochMs: clock.now(),
        expectedBytes: fetch.expected.instances.reduce((total, { bytes }) => total + Number(bytes), 0),
        expected: fetch.expected.instances.map(toRow),
      };
      if (await database.run<boolean>('beginFetch', step)) return;
      throw new MeshError(
        'FAILED_PRECONDITION',
        'COPY_OF_ANOTHER_HOLDER',
        'A copy of this study from another hospital is here, and that hospital’s images are not those of this one. The two are not mixed: fetch it from the hospital from which the copy came.',
      );
    },
    get: async (uid) => {
      const row = await database.read.selectFrom('fetched_study').selectAll().where('study_instance_uid', '=', uid).executeTakeFirst();
      return row === undefined ? undefined : toFetched(row);
    },
    list: async () => (await database.read.selectFrom('fetched_study').selectAll().orderBy('begun_epoch_ms').execute()).map(toFetched),
    progress: async (uid) => {
      const { rows } =
        await sql<FetchProgress>`SELECT count(*) AS expected, coalesce(sum(x.bytes), 0) AS "bytesExpected", count(i.pk) AS verified,
          coalesce(sum(CASE WHEN i.pk IS NULL THEN 0 ELSE x.bytes END), 0) AS "bytesVerified" FROM expected_instance x LEFT JOIN instance i ON ${HELD}
        WHERE x.study_instance_uid = ${uid}`.execute(database.read);
      return rows[0] ?? { expected: 0, verified: 0, bytesExpected: 0, bytesVerified: 0 };
    },
    missing: async (uid) => {
      const { rows } = await sql<StoreSchema['expected_instance']>`SELECT x.* FROM expected_instance x LEFT JOIN instance i ON ${HELD}
        WHERE x.study_instance_uid = ${uid} AND i.pk IS NULL ORDER BY x.position`.execute(database.read);
      return rows.map(toEntry);
    },
    complete: async (studyInstanceUid) => {
      const missing = await database.run<number>('completeFetch', { studyInstanceUid, nowEpochMs: clock.now() });
      if (missing > 0)
        throw new MeshError(
          'FAILED_PRECONDITION',
          'COPY_INCOMPLETE',
          `${missing} instances of this study have not arrived yet. Fetch it again: it goes on where it was.`,
        );
      await parts.settle.now(studyInstanceUid);
      parts.onChange();
    },
    lock: (consentHash, reason = 'CONSENT_REVOKED') => setLock(consentHash, 1, reason),
    unlock: (consentHash) => setLock(consentHash, 0, ''),
    recall: async (study) => {
      const isLocked = await database.run<boolean>('lockRecalled', { ...study, nowEpochMs: clock.now() });
      if (isLocked) parts.onChange();
      return isLocked;
    },
    lockExpired: async () => {
      const due = await database.read
        .selectFrom('fetched_study')
        .select('study_instance_uid')
        .where('locked', '=', 0)
        .where('valid_until_epoch_ms', '<=', clock.now())
        .executeTakeFirst();
      if (due === undefined) return [];
      const changed = await database.run<string[]>('lockExpiredCopies', { nowEpochMs: clock.now() });
      if (changed.length > 0) parts.onChange();
      return changed;
    },
    rest: async (studyInstanceUid, { consentHash, consentId, validUntilEpochMs }) =>
      database.run('restCopy', { studyInstanceUid, consentHash, consentId, validUntilEpochMs }),
    link: async (studyInstanceUid, patientPk) => {
      const isLinked = await database.run<boolean>('linkStudy', { studyInstanceUid, patientPk, nowEpochMs: clock.now() });
      if (isLinked) parts.onChange();
      return isLinked;
    },
  };
}

const HELD = sql`i.sop_instance_uid = x.sop_instance_uid AND i.sha256 = x.sha256 AND i.transfer_syntax_uid = x.transfer_syntax_uid`;

function toFetched(row: StoreSchema['fetched_study']): FetchedStudy {
  return {
    studyInstanceUid: row.study_instance_uid,
    holderNode: row.holder_node as NodeId,
    manifest: row.manifest,
    manifestSha256: row.manifest_sha256,
    version: row.version,
    consentHash: row.consent_hash,
    consentId: row.consent_id,
    ...optional('validUntilEpochMs', row.valid_until_epoch_ms),
    ...optional('localPatientPk', row.local_patient_pk),
    complete: row.complete === 1,
    locked: row.locked === 1,
    begunAt: row.begun_epoch_ms,
  };
}

function toRow(entry: InstanceEntry): BeginFetch['expected'][number] {
  return {
    series_instance_uid: entry.seriesInstanceUid,
    sop_instance_uid: entry.sopInstanceUid,
    sop_class_uid: entry.sopClassUid,
    transfer_syntax_uid: entry.transferSyntaxUid,
    bytes: Number(entry.bytes),
    sha256: own(entry.sha256),
    pixel_sha256: own(entry.pixelSha256),
    chunk_sha256: own(entry.chunkSha256),
    instance_number: entry.instanceNumber,
  };
}

/** A slice of a larger buffer would take the whole of it across the thread boundary, once for every entry. */
function own(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from(bytes);
}

function toEntry(row: StoreSchema['expected_instance']): InstanceEntry {
  return {
    seriesInstanceUid: row.series_instance_uid,
    sopInstanceUid: row.sop_instance_uid,
    sopClassUid: row.sop_class_uid,
    transferSyntaxUid: row.transfer_syntax_uid,
    bytes: BigInt(row.bytes),
    sha256: row.sha256,
    pixelSha256: row.pixel_sha256,
    chunkSha256: row.chunk_sha256,
    instanceNumber: row.instance_number,
  };
}
