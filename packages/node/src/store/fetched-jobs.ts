// Runs in the writer thread.
import type { JobDatabase } from '@meridian/shared/database';
import { addChange, fillDemographics } from './commit-instances.ts';
import type { LockReason, StoreSchema } from './schema.ts';

type ExpectedRow = Omit<
  StoreSchema['expected_instance'],
  'study_instance_uid' | 'position' | 'sha256' | 'pixel_sha256' | 'chunk_sha256'
> & { sha256: Uint8Array; pixel_sha256: Uint8Array; chunk_sha256: Uint8Array };

/** What {@link beginFetch} needs; `expected` in the order of the signed list. */
export interface BeginFetch {
  readonly studyInstanceUid: string;
  readonly holderNode: string;
  readonly manifest: Uint8Array;
  readonly manifestSha256: Uint8Array;
  readonly version: number;
  readonly consentHash: string;
  readonly consentId: string;
  readonly validUntilEpochMs: number | null;
  readonly localPatientPk: number | null;
  readonly expectedBytes: number;
  readonly expected: readonly ExpectedRow[];
  readonly nowEpochMs: number;
}

/**
 * Notes what a study that comes from a peer consists of. A newer version or consent replaces the older. Nothing is noted
 * where a copy from another holder has instances which this one does not have: the two are never mixed.
 * @returns whether it was noted
 */
export function beginFetch(database: JobDatabase, step: BeginFetch): boolean {
  const before = database.prepare('SELECT holder_node FROM fetched_study WHERE study_instance_uid = ?').get(step.studyInstanceUid) as
    | { holder_node: string }
    | undefined;
  if (before !== undefined && before.holder_node !== step.holderNode && holdsOthers(database, step)) return false;
  database.prepare('DELETE FROM expected_instance WHERE study_instance_uid = ?').run(step.studyInstanceUid);
  // A lock stays on a copy that is fetched again under the very consent that was withdrawn; one that was recalled opens with a later version.
  database
    .prepare(`INSERT INTO fetched_study (study_instance_uid, holder_node, manifest, manifest_sha256, version, consent_hash, local_patient_pk, expected_instances, expected_bytes, begun_epoch_ms,
        consent_id, valid_until_epoch_ms)
      VALUES (@studyInstanceUid, @holderNode, @manifest, @manifestSha256, @version, @consentHash, @localPatientPk, @count, @expectedBytes, @nowEpochMs, @consentId, @validUntilEpochMs)
      ON CONFLICT (study_instance_uid) DO UPDATE SET holder_node = excluded.holder_node, manifest = excluded.manifest, complete = CASE WHEN manifest_sha256 = excluded.manifest_sha256 THEN complete ELSE 0 END,
        manifest_sha256 = excluded.manifest_sha256, version = excluded.version, locked = CASE WHEN (lock_reason = 'STUDY_RECALLED' AND excluded.version <= version) OR (lock_reason <> 'STUDY_RECALLED' AND consent_hash = excluded.consent_hash) THEN locked ELSE 0 END,
        lock_reason = CASE WHEN (lock_reason = 'STUDY_RECALLED' AND excluded.version <= version) OR (lock_reason <> 'STUDY_RECALLED' AND consent_hash = excluded.consent_hash) THEN lock_reason ELSE '' END, consent_id = excluded.consent_id, valid_until_epoch_ms = excluded.valid_until_epoch_ms,
        consent_hash = excluded.consent_hash, local_patient_pk = coalesce(excluded.local_patient_pk, local_patient_pk), expected_instances = excluded.expected_instances,
        expected_bytes = excluded.expected_bytes`)
    .run({
      studyInstanceUid: step.studyInstanceUid,
      holderNode: step.holderNode,
      manifest: step.manifest,
      manifestSha256: step.manifestSha256,
      version: step.version,
      consentHash: step.consentHash,
      consentId: step.consentId,
      validUntilEpochMs: step.validUntilEpochMs,
      localPatientPk: step.localPatientPk,
      count: step.expected.length,
      expectedBytes: step.expectedBytes,
      nowEpochMs: step.nowEpochMs,
    });
  const insert =
    database.prepare(`INSERT INTO expected_instance (study_instance_uid, position, series_instance_uid, sop_instance_uid, sop_class_uid, transfer_syntax_uid, bytes, sha256, pixel_sha256,
      chunk_sha256, instance_number) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`);
  for (const [position, one] of step.expected.entries()) {
    insert.run(
      step.studyInstanceUid,
      position,
      one.series_instance_uid,
      one.sop_instance_uid,
      one.sop_class_uid,
      one.transfer_syntax_uid,
      one.bytes,
      one.sha256,
      one.pixel_sha256,
      one.chunk_sha256,
      one.instance_number,
    );
  }
  if (step.localPatientPk !== null) {
    database
      .prepare(`UPDATE study SET linked_patient_pk = ? WHERE study_instance_uid = ? AND origin = 'copy'`)
      .run(step.localPatientPk, step.studyInstanceUid);
    fillDemographics(database, step.studyInstanceUid);
  }
  return true;
}

function holdsOthers(database: JobDatabase, step: BeginFetch): boolean {
  const listed = new Map(step.expected.map((one) => [one.sop_instance_uid, Buffer.from(one.sha256)]));
  const held = database
    .prepare(
      "SELECT i.sop_instance_uid, i.sha256 FROM instance i JOIN study s ON s.pk = i.study_pk WHERE s.study_instance_uid = ? AND i.door = 'peer'",
    )
    .all(step.studyInstanceUid) as { sop_instance_uid: string; sha256: Uint8Array }[];
  return held.some(({ sop_instance_uid: uid, sha256 }) => listed.get(uid)?.equals(sha256) !== true);
}

/** Takes a copy as whole when nothing is missing. @returns how many instances are missing */
export function completeFetch(database: JobDatabase, step: { studyInstanceUid: string; nowEpochMs: number }): number {
  const { missing } = database
    .prepare(`SELECT count(*) AS missing FROM expected_instance x WHERE x.study_instance_uid = ? AND NOT EXISTS
      (SELECT 1 FROM instance i WHERE i.sop_instance_uid = x.sop_instance_uid AND i.sha256 = x.sha256 AND i.transfer_syntax_uid = x.transfer_syntax_uid)`)
    .get(step.studyInstanceUid) as { missing: number };
  if (missing > 0) return missing;
  const { changes } = database
    .prepare('UPDATE fetched_study SET complete = 1 WHERE study_instance_uid = ? AND complete = 0')
    .run(step.studyInstanceUid);
  if (changes > 0)
    addChange(database, {
      kind: 'copy-complete',
      studyInstanceUid: step.studyInstanceUid,
      version: 0,
      nowEpochMs: step.nowEpochMs,
      detail: {},
    });
  return 0;
}

/** Locks or unlocks the copies that rest on a consent. @returns their study UIDs, of those that changed */
export function lockCopies(
  database: JobDatabase,
  step: { consentHash: string; locked: 0 | 1; reason: LockReason | ''; nowEpochMs: number },
): string[] {
  const rows = database
    .prepare('SELECT study_instance_uid FROM fetched_study WHERE consent_hash = ? AND locked <> ?')
    .all(step.consentHash, step.locked) as { study_instance_uid: string }[];
  for (const { study_instance_uid: uid } of rows) {
    database
      .prepare('UPDATE fetched_study SET locked = ?, lock_reason = ? WHERE study_instance_uid = ?')
      .run(step.locked, step.reason, uid);
    addChange(database, {
      kind: step.locked === 1 ? 'copy-locked' : 'copy-unlocked',
      studyInstanceUid: uid,
      version: 0,
      nowEpochMs: step.nowEpochMs,
      detail: {},
    });
  }
  return rows.map(({ study_instance_uid: uid }) => uid);
}

/** Locks the copy of a study that its holder has withdrawn, unless it is of a later version. @returns whether it was open */
export function lockRecalled(
  database: JobDatabase,
  step: { studyInstanceUid: string; holderNode: string; version: number; nowEpochMs: number },
): boolean {
  const { changes } = database
    .prepare(
      `UPDATE fetched_study SET locked = 1, lock_reason = 'STUDY_RECALLED' WHERE study_instance_uid = ? AND holder_node = ? AND version <= ? AND locked = 0`,
    )
    .run(step.studyInstanceUid, step.holderNode, step.version);
  if (changes > 0)
    addChange(database, {
      kind: 'copy-locked',
      studyInstanceUid: step.studyInstanceUid,
      version: 0,
      nowEpochMs: step.nowEpochMs,
      detail: {},
    });
  return changes > 0;
}

/** Locks the copies whose consent has run out. @returns their study UIDs */
export function lockExpiredCopies(database: JobDatabase, step: { nowEpochMs: number }): string[] {
  const rows = database
    .prepare('SELECT study_instance_uid FROM fetched_study WHERE locked = 0 AND valid_until_epoch_ms <= ?')
    .all(step.nowEpochMs) as { study_instance_uid: string }[];
  for (const { study_instance_uid: uid } of rows) {
    database.prepare(`UPDATE fetched_study SET locked = 1, lock_reason = 'CONSENT_EXPIRED' WHERE study_instance_uid = ?`).run(uid);
    addChange(database, { kind: 'copy-locked', studyInstanceUid: uid, version: 0, nowEpochMs: step.nowEpochMs, detail: {} });
  }
  return rows.map(({ study_instance_uid: uid }) => uid);
}

/** Puts a copy on another consent; it stays locked where it is the very consent under which it was locked, or where its holder has withdrawn the study. */
export function restCopy(
  database: JobDatabase,
  step: { studyInstanceUid: string; consentHash: string; consentId: string; validUntilEpochMs: number },
): void {
  database
    .prepare(`UPDATE fetched_study SET locked = CASE WHEN consent_hash = @consentHash OR lock_reason = 'STUDY_RECALLED' THEN locked ELSE 0 END,
      lock_reason = CASE WHEN consent_hash = @consentHash OR lock_reason = 'STUDY_RECALLED' THEN lock_reason ELSE '' END, consent_hash = @consentHash, consent_id = @consentId, valid_until_epoch_ms = @validUntilEpochMs WHERE study_instance_uid = @studyInstanceUid`)
    .run(step);
}

/** What {@link ensurePatient} needs. */
export interface EnsurePatient {
  readonly assigningAuthority: string;
  readonly patientId: string;
  readonly personId: { readonly type: string; readonly issuer: string; readonly value: string };
}

/**
 * The patient with this authority and id; made, carrying the person id, if there is none. A patient who is there already
 * gets no person id by a fetch: whoever typed the wrong local id would join two people for good.
 * @returns its pk
 */
export function ensurePatient(database: JobDatabase, step: EnsurePatient): number {
  const key = [step.assigningAuthority, step.patientId];
  const held = database
    .prepare(`SELECT pk FROM patient WHERE assigning_authority = ? AND patient_id = ? AND sole_study_uid = ''`)
    .get(...key) as { pk: number } | undefined;
  if (held !== undefined) return held.pk;
  const pk = Number(database.prepare('INSERT INTO patient (assigning_authority, patient_id) VALUES (?, ?)').run(...key).lastInsertRowid);
  const { type, issuer, value } = step.personId;
  database.prepare('INSERT OR IGNORE INTO person_id (patient_pk, type, issuer, value) VALUES (?, ?, ?, ?)').run(pk, type, issuer, value);
  return pk;
}

/** Serves a copy under a local patient from now on. @returns whether there is such a copy */
export function linkStudy(database: JobDatabase, step: { studyInstanceUid: string; patientPk: number; nowEpochMs: number }): boolean {
  database.prepare('UPDATE fetched_study SET local_patient_pk = ? WHERE study_instance_uid = ?').run(step.patientPk, step.studyInstanceUid);
  const { changes } = database
    .prepare(`UPDATE study SET linked_patient_pk = ? WHERE study_instance_uid = ? AND origin = 'copy'`)
    .run(step.patientPk, step.studyInstanceUid);
  if (changes > 0) fillDemographics(database, step.studyInstanceUid);
  if (changes > 0)
    addChange(database, {
      kind: 'study-linked',
      studyInstanceUid: step.studyInstanceUid,
      version: 0,
      nowEpochMs: step.nowEpochMs,
      detail: {},
    });
  return changes > 0;
}
