import type { Readable } from 'node:stream';
import type { Database } from '@meridian/shared/database';
import type { NodeId, TypedPersonId } from '@meridian/shared/identifiers';
import type { Clock } from '@meridian/shared/platform/clock';
import { sql, type RawBuilder, type SqlBool } from 'kysely';
import type { DicomJson } from '../dicom/json.ts';
import { openDataSet, readDataSet } from './data-set.ts';
import { openHeaders } from './headers.ts';
import { optional, type InstanceRow, type PatientRow, type SeriesRow, type StudyRow } from './rows.ts';
import type { LockReason, StoreSchema, StudyState } from './schema.ts';
import {
  instanceConditions,
  pageOf,
  seriesConditions,
  studyConditions,
  type InstanceQuery,
  type SeriesQuery,
  type StudyQuery,
} from './study-query.ts';

/** Reads what is held. Order is stable: studies newest first, then series and instances by number. */
export interface StudyReader {
  findStudies(query: StudyQuery): Promise<StudyRow[]>;
  findSeries(query: SeriesQuery): Promise<SeriesRow[]>;
  findInstances(query: InstanceQuery): Promise<InstanceRow[]>;
  study(studyInstanceUid: string): Promise<StudyRow | undefined>;
  seriesOf(studyInstanceUid: string): Promise<SeriesRow[]>;
  /** All of them, however many. */
  instancesOf(studyInstanceUid: string, seriesInstanceUid?: string): Promise<InstanceRow[]>;
  instance(studyInstanceUid: string, seriesInstanceUid: string, sopInstanceUid: string): Promise<InstanceRow | undefined>;
  instanceBySop(sopInstanceUid: string): Promise<InstanceRow | undefined>;
  /**
   * The header as DICOM JSON, without touching the file; long values are BulkDataURI (`parseBulkUri` of dicom/json).
   * @throws MeshError NOT_FOUND / INSTANCE_UNKNOWN
   */
  header(sopInstanceUid: string): Promise<DicomJson>;
  /** Headers of many instances, in the order asked; unknown ones are left out. */
  headers(sopInstanceUids: readonly string[]): Promise<{ sopInstanceUid: string; header: DicomJson }[]>;
  /** Bytes of the data set, without file meta information. */
  openDataSet(row: InstanceRow, range?: { readonly offset: number; readonly length: number }): Readable;
  /** @throws MeshError DATA_LOSS / BLOB_UNREADABLE, OUT_OF_RANGE / RANGE_BEYOND_DATA_SET */
  readDataSet(row: InstanceRow, offset: number, length: number): Promise<Buffer>;
  /** Studies of patients that carry the id, and copies linked to one. */
  studiesOfPerson(id: TypedPersonId): Promise<StudyRow[]>;
  patientsOfPerson(id: TypedPersonId): Promise<PatientRow[]>;
  patient(assigningAuthority: string, patientId: string): Promise<PatientRow | undefined>;
  patientByPk(pk: number): Promise<PatientRow | undefined>;
  personIdsOfPatient(pk: number): Promise<TypedPersonId[]>;
}

/** Opens the reader. */
export function openStudyReader(parts: { database: Database<StoreSchema>; clock: Clock; pathOf(blob: string): string }): StudyReader {
  const { read } = parts.database;
  const headers = openHeaders(parts.database);

  const studies = async (conditions: Condition[], page: { limit: number; offset: number }): Promise<StudyRow[]> => {
    const { rows } = await sql<RawStudy>`SELECT ${STUDY_COLUMNS} FROM ${STUDY_FROM} WHERE ${all(conditions)}
      ORDER BY y.study_date DESC, y.study_time DESC, y.pk DESC LIMIT ${page.limit} OFFSET ${page.offset}`.execute(read);
    return rows.map((row) => toStudy(row, parts.clock.now()));
  };
  const series = async (conditions: Condition[], page: { limit: number; offset: number }): Promise<SeriesRow[]> => {
    const { rows } =
      await sql<RawSeries>`SELECT s.series_instance_uid, y.study_instance_uid, s.modality, s.series_number, s.series_description, s.body_part_examined, s.laterality,
        s.instance_count, s.bytes FROM ${SERIES_FROM} WHERE ${all(conditions)}
      ORDER BY y.study_date DESC, y.study_time DESC, y.pk DESC, s.series_number, s.pk LIMIT ${page.limit} OFFSET ${page.offset}`.execute(
        read,
      );
    return rows.map(toSeries);
  };
  const instances = async (conditions: Condition[], page: { limit: number; offset: number }): Promise<InstanceRow[]> => {
    const { rows } =
      await sql<RawInstance>`SELECT ${INSTANCE_COLUMNS} FROM instance i JOIN ${SERIES_FROM} WHERE i.series_pk = s.pk AND ${all(conditions)}
      ORDER BY y.study_date DESC, y.study_time DESC, y.pk DESC, s.series_number, s.pk, i.instance_number, i.pk LIMIT ${page.limit} OFFSET ${page.offset}`.execute(
        read,
      );
    return rows.map((row) => toInstance(row, parts.pathOf));
  };
  const everything = { limit: -1, offset: 0 };
  const patients = async (condition: Condition): Promise<PatientRow[]> => {
    const { rows } =
      await sql<RawPatient>`SELECT pk, assigning_authority, patient_id, name_alphabetic, name_ideographic, name_phonetic, birth_date, sex FROM patient WHERE ${condition} ORDER BY pk`.execute(
        read,
      );
    return rows.map(toPatient);
  };
  const holdersOf = (id: TypedPersonId): Condition =>
    sql<SqlBool>`SELECT patient_pk FROM person_id WHERE value = ${id.value} AND type = ${id.type} AND issuer = ${id.issuer}`;

  return {
    findStudies: (query) => studies(studyConditions(query), pageOf(query)),
    findSeries: (query) => series([...studyConditions(query), ...seriesConditions(query)], pageOf(query)),
    findInstances: (query) =>
      instances([...studyConditions(query), ...seriesConditions(query), ...instanceConditions(query)], pageOf(query)),
    study: async (uid) => (await studies([sql<SqlBool>`y.study_instance_uid = ${uid}`], everything))[0],
    seriesOf: (uid) => series([sql<SqlBool>`y.study_instance_uid = ${uid}`], everything),
    instancesOf: (uid, seriesUid) =>
      instances(
        [
          sql<SqlBool>`y.study_instance_uid = ${uid}`,
          ...(seriesUid === undefined ? [] : [sql<SqlBool>`s.series_instance_uid = ${seriesUid}`]),
        ],
        everything,
      ),
    instance: async (studyUid, seriesUid, sopUid) =>
      (
        await instances(
          [
            sql<SqlBool>`i.sop_instance_uid = ${sopUid}`,
            sql<SqlBool>`s.series_instance_uid = ${seriesUid}`,
            sql<SqlBool>`y.study_instance_uid = ${studyUid}`,
          ],
          everything,
        )
      )[0],
    instanceBySop: async (sopUid) => (await instances([sql<SqlBool>`i.sop_instance_uid = ${sopUid}`], everything))[0],
    header: headers.one,
    headers: headers.many,
    openDataSet,
    readDataSet,
    studiesOfPerson: (id) =>
      studies([sql<SqlBool>`(y.patient_pk IN (${holdersOf(id)}) OR y.linked_patient_pk IN (${holdersOf(id)}))`], everything),
    patientsOfPerson: (id) => patients(sql<SqlBool>`pk IN (${holdersOf(id)})`),
    patient: async (authority, patientId) =>
      (await patients(sql<SqlBool>`assigning_authority = ${authority} AND patient_id = ${patientId} AND sole_study_uid = ''`))[0],
    patientByPk: async (pk) => (await patients(sql<SqlBool>`pk = ${pk}`))[0],
    personIdsOfPatient: async (pk) =>
      (await read.selectFrom('person_id').select(['type', 'issuer', 'value']).where('patient_pk', '=', pk).execute()) as TypedPersonId[],
  };
}

type Condition = RawBuilder<SqlBool>;

const STUDY_FROM = sql`study y JOIN patient p ON p.pk = y.patient_pk JOIN patient e ON e.pk = coalesce(y.linked_patient_pk, y.patient_pk)
  LEFT JOIN fetched_study f ON y.origin = 'copy' AND f.study_instance_uid = y.study_instance_uid`;
const SERIES_FROM = sql`series s JOIN study y ON y.pk = s.study_pk`;
const STUDY_COLUMNS = sql`y.study_instance_uid, y.state, y.version, y.advertised_version, y.study_date, y.study_time, y.timezone_offset, y.accession_number, y.study_description,
  y.referring_physician_name, y.study_id, y.modalities, y.series_count, y.instance_count, y.bytes, y.first_received_epoch_ms, y.last_received_epoch_ms, y.arriving, y.linked_patient_pk,
  p.pk, p.assigning_authority, p.patient_id, p.name_alphabetic, p.name_ideographic, p.name_phonetic, p.birth_date, p.sex,
  e.assigning_authority AS e_assigning_authority, e.patient_id AS e_patient_id, e.name_alphabetic AS e_name_alphabetic, e.name_ideographic AS e_name_ideographic,
  e.name_phonetic AS e_name_phonetic, e.birth_date AS e_birth_date, e.sex AS e_sex,
  f.holder_node, f.version AS manifest_version, f.complete, f.locked, f.lock_reason, f.valid_until_epoch_ms,
  (SELECT json_group_array(json_object('type', d.type, 'issuer', d.issuer, 'value', d.value)) FROM person_id d WHERE d.patient_pk = p.pk) AS person_ids`;
const INSTANCE_COLUMNS = sql`i.sop_instance_uid, i.sop_class_uid, s.series_instance_uid, y.study_instance_uid, i.instance_number, i.transfer_syntax_uid, i.bytes, i.sha256, i.pixel_sha256,
  i.chunk_sha256, i.number_of_frames, i.rows, i.columns, i.data_set_offset, i.blob, i.received_epoch_ms`;

type RawPatient = { pk: number } & Omit<StoreSchema['patient'], 'pk' | 'sole_study_uid'>;
type RawStudy = RawPatient &
  Omit<StoreSchema['study'], 'pk' | 'state' | 'patient_pk' | 'origin'> & {
    state: StudyState;
    holder_node: string | null;
    manifest_version: number | null;
    complete: number | null;
    locked: number | null;
    lock_reason: LockReason | '' | null;
    valid_until_epoch_ms: number | null;
    person_ids: string;
    e_assigning_authority: string;
    e_patient_id: string;
    e_name_alphabetic: string;
    e_name_ideographic: string;
    e_name_phonetic: string;
    e_birth_date: string;
    e_sex: string;
  };
type RawSeries = Omit<StoreSchema['series'], 'pk' | 'study_pk' | 'header_dictionary'> & { study_instance_uid: string };
type RawInstance = Omit<StoreSchema['instance'], 'pk'> & { study_instance_uid: string; series_instance_uid: string };

function all(conditions: Condition[]): Condition {
  return conditions.length === 0 ? sql<SqlBool>`1 = 1` : sql<SqlBool>`${sql.join(conditions, sql` AND `)}`;
}

function toPatient(row: RawPatient): PatientRow {
  return {
    pk: row.pk,
    assigningAuthority: row.assigning_authority,
    patientId: row.patient_id,
    name: { alphabetic: row.name_alphabetic, ideographic: row.name_ideographic, phonetic: row.name_phonetic },
    birthDate: row.birth_date,
    sex: row.sex,
  };
}

function toStudy(row: RawStudy, nowEpochMs: number): StudyRow {
  const linked =
    row.linked_patient_pk === null
      ? undefined
      : toPatient({
          pk: row.linked_patient_pk,
          assigning_authority: row.e_assigning_authority,
          patient_id: row.e_patient_id,
          name_alphabetic: row.e_name_alphabetic,
          name_ideographic: row.e_name_ideographic,
          name_phonetic: row.e_name_phonetic,
          birth_date: row.e_birth_date,
          sex: row.e_sex,
        });
  return {
    studyInstanceUid: row.study_instance_uid,
    state: row.state,
    version: row.version,
    advertisedVersion: row.advertised_version,
    patient: toPatient(row),
    personIds: JSON.parse(row.person_ids) as TypedPersonId[],
    studyDate: row.study_date,
    studyTime: row.study_time,
    timezoneOffset: row.timezone_offset,
    accessionNumber: row.accession_number,
    studyDescription: row.study_description,
    referringPhysicianName: row.referring_physician_name,
    studyId: row.study_id,
    modalities: row.modalities.split('\\').filter(Boolean),
    seriesCount: row.series_count,
    instanceCount: row.instance_count,
    bytes: row.bytes,
    firstReceivedAt: row.first_received_epoch_ms,
    lastReceivedAt: row.last_received_epoch_ms,
    complete: row.holder_node === null ? row.arriving === 0 : row.complete === 1,
    ...optional(
      'copyOf',
      row.holder_node === null ? undefined : { holderNode: row.holder_node as NodeId, manifestVersion: row.manifest_version ?? 0 },
    ),
    ...optional('linkedPatient', linked),
    ...lockOf(row, nowEpochMs),
  };
}

/** A consent that has run out locks the copy in this very instant, whether or not it was marked yet. */
function lockOf(row: RawStudy, nowEpochMs: number): Pick<StudyRow, 'locked' | 'lockReason'> {
  // Marked as run out by a clock that was wrong: the time now decides.
  if (row.locked === 1 && row.lock_reason !== 'CONSENT_EXPIRED') return { locked: true, lockReason: row.lock_reason || 'CONSENT_REVOKED' };
  return row.valid_until_epoch_ms !== null && row.valid_until_epoch_ms <= nowEpochMs
    ? { locked: true, lockReason: 'CONSENT_EXPIRED' }
    : { locked: false };
}

function toSeries(row: RawSeries): SeriesRow {
  return {
    seriesInstanceUid: row.series_instance_uid,
    studyInstanceUid: row.study_instance_uid,
    modality: row.modality,
    ...optional('seriesNumber', row.series_number),
    seriesDescription: row.series_description,
    bodyPartExamined: row.body_part_examined,
    laterality: row.laterality,
    instanceCount: row.instance_count,
    bytes: row.bytes,
  };
}

function toInstance(row: RawInstance, pathOf: (blob: string) => string): InstanceRow {
  return {
    sopInstanceUid: row.sop_instance_uid,
    sopClassUid: row.sop_class_uid,
    seriesInstanceUid: row.series_instance_uid,
    studyInstanceUid: row.study_instance_uid,
    ...optional('instanceNumber', row.instance_number),
    transferSyntaxUid: row.transfer_syntax_uid,
    bytes: row.bytes,
    sha256: row.sha256,
    ...optional('pixelSha256', row.pixel_sha256),
    ...optional('chunkSha256', row.chunk_sha256),
    numberOfFrames: row.number_of_frames,
    ...optional('rows', row.rows),
    ...optional('columns', row.columns),
    dataSetOffset: row.data_set_offset,
    path: pathOf(row.blob),
    receivedAt: row.received_epoch_ms,
  };
}
