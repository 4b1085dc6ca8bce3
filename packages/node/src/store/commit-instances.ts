// Runs in the writer thread.
import fs from 'node:fs';
import path from 'node:path';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import type { JobDatabase } from '@meridian/shared/database';
import { IMPORT_AUTHORITY_PREFIX, type CommitRecord, type CommitResult } from './commit-record.ts';
import { addToPatient, isOtherPersonId, patientOfNewStudy } from './patient-rows.ts';
import type { PatientConflict, QuarantineReason, StudyState } from './schema.ts';
import { writeWholeFile } from './whole-file.ts';

interface HeldInstance {
  pk: number;
  blob: string;
  bytes: number;
  data_set_offset: number;
  sop_class_uid: string;
  transfer_syntax_uid: string;
  sha256: Buffer;
  pixel_sha256: Buffer | null;
  study_instance_uid: string;
  series_instance_uid: string;
}

interface HeldStudy {
  pk: number;
  origin: 'own' | 'copy';
  /** Of the holder's patient where the study is a copy. */
  patient_pk: number;
  linked_patient_pk: number | null;
  /** The linked patient's where there is one: what this hospital is answered. */
  patient_id: string;
  assigning_authority: string;
  modalities: string;
  state: StudyState;
  version: number;
  arriving: number;
}

interface HeldSeries {
  pk: number;
  study_pk: number;
}

/** Header JSON of the first instance of series that are being received, by series pk. */
const dictionaries = new WeakMap<JobDatabase, Map<number, Buffer>>();
const DICTIONARY_CACHE_SIZE = 64;
/** Deflate looks back 32 KiB. */
const DICTIONARY_BYTES = 32 * 1024;

/** Enters a group of instances, after the files that are not durable yet. All or none of them are in the tables afterwards. */
export function commitInstances(database: JobDatabase, argument: { nowEpochMs: number; records: readonly CommitRecord[] }): CommitResult[] {
  try {
    return argument.records.map((record) => commitOne(database, record, argument.nowEpochMs));
  } catch (thrown) {
    // The transaction is undone: keys in the cache may name other series next time.
    dictionaries.delete(database);
    throw thrown;
  }
}

function commitOne(database: JobDatabase, record: CommitRecord, nowEpochMs: number): CommitResult {
  const { identity } = record;
  // The row follows the file: a row whose file is torn would be worse than no row.
  if (record.file !== null) writeWholeFile(record.file);
  const held = database
    .prepare(`SELECT i.pk, i.blob, i.bytes, i.data_set_offset, i.sop_class_uid, i.transfer_syntax_uid, i.sha256, i.pixel_sha256, y.study_instance_uid, s.series_instance_uid
    FROM instance i JOIN series s ON s.pk = i.series_pk JOIN study y ON y.pk = i.study_pk WHERE i.sop_instance_uid = ?`)
    .get(identity.sopInstanceUid) as HeldInstance | undefined;
  if (held !== undefined) {
    if (isSame(held, record))
      return hasFile(held, record) ? { outcome: 'duplicate', keepBlob: false } : replaceFile(database, held, record);
    return quarantine(database, record, differenceOf(held, record), nowEpochMs);
  }
  const study = database
    .prepare(`SELECT y.pk, y.origin, y.patient_pk, y.linked_patient_pk, e.patient_id, e.assigning_authority, y.modalities, y.state, y.version, y.arriving
    FROM study y JOIN patient e ON e.pk = coalesce(y.linked_patient_pk, y.patient_pk) WHERE y.study_instance_uid = ?`)
    .get(identity.studyInstanceUid) as HeldStudy | undefined;
  const series = database.prepare('SELECT pk, study_pk FROM series WHERE series_instance_uid = ?').get(identity.seriesInstanceUid) as
    | HeldSeries
    | undefined;
  // What this hospital acquired is not added to by others: their word on whose study it is would come with it.
  if (record.door === 'peer' && study?.origin === 'own') return { outcome: 'refused', keepBlob: false };
  const isForeignSeries = series !== undefined && series.study_pk !== study?.pk;
  if (isForeignSeries || (study !== undefined && isOtherPerson(database, study, record)))
    return quarantine(database, record, 'identity-differs', nowEpochMs);

  const { studyPk, conflict } =
    study === undefined
      ? addStudy(database, record, nowEpochMs)
      : { studyPk: continueStudy(database, study, record, nowEpochMs), conflict: undefined };
  const seriesPk = series === undefined ? addSeries(database, studyPk, record) : series.pk;
  addInstance(database, { studyPk, seriesPk, record, nowEpochMs });
  return { outcome: 'stored', keepBlob: true, ...(conflict === undefined ? {} : { patientConflict: conflict }) };
}

function isSame(held: HeldInstance, record: CommitRecord): boolean {
  return held.transfer_syntax_uid === record.transferSyntaxUid && held.sha256.equals(record.sha256);
}

/** Whoever sends an object again expects that it is safe afterwards. */
function hasFile(held: HeldInstance, { blobFolder }: CommitRecord): boolean {
  if (blobFolder === null) return true;
  return fs.statSync(path.join(blobFolder, held.blob), { throwIfNoEntry: false })?.size === held.data_set_offset + held.bytes;
}

/** The same bytes have come again for a file that is gone or short: they take its place. */
function replaceFile(database: JobDatabase, held: HeldInstance, record: CommitRecord): CommitResult {
  database.prepare('UPDATE instance SET blob = ?, data_set_offset = ? WHERE pk = ?').run(record.blob, record.dataSetOffset, held.pk);
  return { outcome: 'stored', keepBlob: true, replacedBlob: held.blob };
}

function differenceOf(held: HeldInstance, record: CommitRecord): QuarantineReason {
  const { identity } = record;
  if (
    held.study_instance_uid !== identity.studyInstanceUid ||
    held.series_instance_uid !== identity.seriesInstanceUid ||
    held.sop_class_uid !== identity.sopClassUid
  )
    return 'identity-differs';
  const hasEqualPixels =
    held.pixel_sha256 === null ? record.pixelSha256 === null : record.pixelSha256 !== null && held.pixel_sha256.equals(record.pixelSha256);
  return hasEqualPixels && held.transfer_syntax_uid === record.transferSyntaxUid ? 'header-differs' : 'pixels-differ';
}

/**
 * One study of two patients, from this hospital's own sources: a mix-up of people, or of UIDs. A copy is answered with
 * the linked patient's id, so what is made from it here carries that one.
 */
function isOtherPerson(database: JobDatabase, study: HeldStudy, record: CommitRecord): boolean {
  if (record.door === 'peer') return false;
  const { patientId } = record.identity;
  if (isOtherPersonId(database, study.linked_patient_pk ?? study.patient_pk, record.personIds)) return true;
  if (study.patient_id === '' || patientId === '') return false;
  if (study.patient_id !== patientId) return true;
  const isUnlinkedCopy = study.origin === 'copy' && study.linked_patient_pk === null;
  // A key object made by another system of the house often leaves the issuer out: study and PatientID say whose it is.
  const isSilent = record.door !== 'import' && !isOfImport(study.assigning_authority) && record.identity.issuerOfPatientId === undefined;
  // Or the study came first from a system that left the issuer out: what names one is of the same house.
  const wasSilent = record.door !== 'import' && study.assigning_authority === record.sourceAuthority;
  return (
    !isUnlinkedCopy &&
    !isSilent &&
    !wasSilent &&
    study.assigning_authority !== record.assigningAuthority &&
    !(isOfImport(study.assigning_authority) && isOfImport(record.assigningAuthority))
  );
}

/** An import that was stopped goes on under another name of its own. */
function isOfImport(assigningAuthority: string): boolean {
  return assigningAuthority.startsWith(IMPORT_AUTHORITY_PREFIX);
}

function quarantine(database: JobDatabase, record: CommitRecord, reason: QuarantineReason, nowEpochMs: number): CommitResult {
  const { identity } = record;
  const { changes } = database
    .prepare(`INSERT INTO quarantine (sop_instance_uid, series_instance_uid, study_instance_uid, sop_class_uid, transfer_syntax_uid, bytes, sha256, blob,
      data_set_offset, reason, door, calling_ae_title, address, received_epoch_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`)
    .run(
      identity.sopInstanceUid,
      identity.seriesInstanceUid,
      identity.studyInstanceUid,
      identity.sopClassUid,
      record.transferSyntaxUid,
      record.bytes,
      record.sha256,
      record.blob,
      record.dataSetOffset,
      reason,
      record.door,
      record.callingAeTitle,
      record.address,
      nowEpochMs,
    );
  // A sender that tries again sends the same bytes: they are kept once.
  if (changes > 0)
    addChange(database, {
      kind: 'quarantined',
      studyInstanceUid: identity.studyInstanceUid,
      version: 0,
      nowEpochMs,
      detail: { reason, sopInstanceUid: identity.sopInstanceUid },
    });
  return { outcome: 'quarantined', reason, keepBlob: changes > 0 };
}

function addStudy(
  database: JobDatabase,
  record: CommitRecord,
  nowEpochMs: number,
): { studyPk: number; conflict: PatientConflict | undefined } {
  const { identity } = record;
  const { pk: patientPk, conflict } = patientOfNewStudy(database, record);
  const fetched = database
    .prepare('SELECT local_patient_pk FROM fetched_study WHERE study_instance_uid = ?')
    .get(identity.studyInstanceUid) as { local_patient_pk: number | null } | undefined;
  const isCopy = record.door === 'peer';
  const { lastInsertRowid } = database
    .prepare(`INSERT INTO study (study_instance_uid, patient_pk, linked_patient_pk, origin, study_date, study_time, timezone_offset, accession_number,
      study_description, referring_physician_name, study_id, modalities, instance_count, bytes, first_received_epoch_ms, last_received_epoch_ms, state, version, arriving)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, 'receiving', 1, 1)`)
    .run(
      identity.studyInstanceUid,
      patientPk,
      isCopy ? (fetched?.local_patient_pk ?? null) : null,
      isCopy ? 'copy' : 'own',
      identity.studyDate,
      identity.studyTime,
      identity.timezoneOffsetFromUtc ?? '',
      identity.accessionNumber,
      identity.studyDescription,
      identity.referringPhysicianName,
      identity.studyId,
      identity.modality,
      record.bytes,
      nowEpochMs,
      nowEpochMs,
    );
  if (isCopy) fillDemographics(database, identity.studyInstanceUid);
  if (conflict !== undefined)
    addChange(database, {
      kind: 'patient-conflict',
      studyInstanceUid: identity.studyInstanceUid,
      version: 0,
      nowEpochMs,
      detail: { reason: conflict },
    });
  return { studyPk: Number(lastInsertRowid), conflict };
}

/** A local patient who was made for a copy has no name of his own yet: the copy's is taken. */
export function fillDemographics(database: JobDatabase, studyInstanceUid: string): void {
  database
    .prepare(`UPDATE patient SET (name_alphabetic, name_ideographic, name_phonetic, birth_date, sex) =
      (SELECT p.name_alphabetic, p.name_ideographic, p.name_phonetic, p.birth_date, p.sex FROM patient p JOIN study y ON y.patient_pk = p.pk WHERE y.study_instance_uid = @studyInstanceUid)
      WHERE pk = (SELECT linked_patient_pk FROM study WHERE study_instance_uid = @studyInstanceUid)
        AND name_alphabetic = '' AND name_ideographic = '' AND birth_date = '' AND sex = ''`)
    .run({ studyInstanceUid });
}

/** A late instance begins the next version; it stays open until the study is quiet again. */
function continueStudy(database: JobDatabase, study: HeldStudy, record: CommitRecord, nowEpochMs: number): number {
  const { identity } = record;
  const patientPk = record.door === 'peer' || study.origin === 'own' ? study.patient_pk : study.linked_patient_pk;
  if (patientPk !== null) addToPatient(database, patientPk, record);
  const modalities = study.modalities.split('\\').includes(identity.modality)
    ? study.modalities
    : [...study.modalities.split('\\'), identity.modality].filter(Boolean).sort().join('\\');
  const isLate = study.arriving === 0;
  database
    .prepare(`UPDATE study SET instance_count = instance_count + 1, bytes = bytes + ?, last_received_epoch_ms = ?, modalities = ?, state = ?, version = ?, arriving = 1,
      study_description = CASE study_description WHEN '' THEN ? ELSE study_description END, accession_number = CASE accession_number WHEN '' THEN ? ELSE accession_number END
      WHERE pk = ?`)
    .run(
      record.bytes,
      nowEpochMs,
      modalities,
      isLate ? 'amended' : study.state,
      isLate ? study.version + 1 : study.version,
      identity.studyDescription,
      identity.accessionNumber,
      study.pk,
    );
  return study.pk;
}

function addSeries(database: JobDatabase, studyPk: number, record: CommitRecord): number {
  const { identity } = record;
  const dictionary = Buffer.from(record.header);
  const { lastInsertRowid } = database
    .prepare(`INSERT INTO series (study_pk, series_instance_uid, modality, series_number, series_description, body_part_examined, laterality, header_dictionary)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?)`)
    .run(
      studyPk,
      identity.seriesInstanceUid,
      identity.modality,
      identity.seriesNumber ?? null,
      identity.seriesDescription,
      identity.bodyPartExamined,
      record.laterality,
      deflateRawSync(dictionary.subarray(0, DICTIONARY_BYTES), { level: 6 }),
    );
  database.prepare('UPDATE study SET series_count = series_count + 1 WHERE pk = ?').run(studyPk);
  const seriesPk = Number(lastInsertRowid);
  remember(database, seriesPk, dictionary.subarray(0, DICTIONARY_BYTES));
  return seriesPk;
}

function addInstance(database: JobDatabase, entry: { studyPk: number; seriesPk: number; record: CommitRecord; nowEpochMs: number }): void {
  const { studyPk, seriesPk, record, nowEpochMs } = entry;
  const { identity } = record;
  const { lastInsertRowid } = database
    .prepare(`INSERT INTO instance (sop_instance_uid, sop_class_uid, series_pk, study_pk, instance_number, transfer_syntax_uid, bytes, sha256, pixel_sha256,
      chunk_sha256, number_of_frames, rows, columns, data_set_offset, blob, door, calling_ae_title, address, holder_node, manifest_sha256, jti, consent_hash, received_epoch_ms)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
    .run(
      identity.sopInstanceUid,
      identity.sopClassUid,
      seriesPk,
      studyPk,
      identity.instanceNumber ?? null,
      record.transferSyntaxUid,
      record.bytes,
      record.sha256,
      record.pixelSha256,
      record.chunkSha256,
      identity.numberOfFrames,
      identity.rows ?? null,
      identity.columns ?? null,
      record.dataSetOffset,
      record.blob,
      record.door,
      record.callingAeTitle,
      record.address,
      record.holderNode,
      record.manifestSha256,
      record.jti,
      record.consentHash,
      nowEpochMs,
    );
  const header = deflateRawSync(record.header, { level: 1, dictionary: dictionaryOf(database, seriesPk) });
  database.prepare('INSERT INTO instance_header (instance_pk, header) VALUES (?, ?)').run(Number(lastInsertRowid), header);
  database.prepare('UPDATE series SET instance_count = instance_count + 1, bytes = bytes + ? WHERE pk = ?').run(record.bytes, seriesPk);
}

function dictionaryOf(database: JobDatabase, seriesPk: number): Buffer {
  const known = dictionaries.get(database)?.get(seriesPk);
  if (known !== undefined) return known;
  const row = database.prepare('SELECT header_dictionary FROM series WHERE pk = ?').get(seriesPk) as { header_dictionary: Buffer };
  const dictionary = inflateRawSync(row.header_dictionary);
  remember(database, seriesPk, dictionary);
  return dictionary;
}

function remember(database: JobDatabase, seriesPk: number, dictionary: Buffer): void {
  const known = dictionaries.get(database) ?? new Map<number, Buffer>();
  dictionaries.set(database, known);
  if (known.size >= DICTIONARY_CACHE_SIZE) known.delete(known.keys().next().value as number);
  known.set(seriesPk, dictionary);
}

/** A row of the change feed, in the transaction of what it tells. */
export function addChange(
  database: JobDatabase,
  change: { kind: string; studyInstanceUid: string; version: number; nowEpochMs: number; detail: object },
): void {
  database
    .prepare('INSERT INTO change (kind, study_instance_uid, version, at_epoch_ms, detail) VALUES (?, ?, ?, ?, ?)')
    .run(change.kind, change.studyInstanceUid, change.version, change.nowEpochMs, JSON.stringify(change.detail));
}
