import { sql, type RawBuilder, type SqlBool } from 'kysely';

/**
 * Filters of the patient and study level. Text filters take the wildcards `*` and `?` (PS3.4 C.2.2.2.4); names match any
 * representation, without regard to ASCII case. Dates and times are single or ranges: `20260101-20261231`, `-2026…`.
 * Of a linked copy the local patient is matched, as it is answered.
 */
export interface StudyQuery {
  readonly patientId?: string;
  readonly assigningAuthority?: string;
  readonly patientName?: string;
  readonly patientBirthDate?: string;
  readonly patientSex?: string;
  readonly studyInstanceUids?: readonly string[];
  readonly studyDate?: string;
  readonly studyTime?: string;
  readonly accessionNumber?: string;
  readonly studyDescription?: string;
  readonly studyId?: string;
  readonly referringPhysicianName?: string;
  /** Any of them; wildcards too. */
  readonly modalitiesInStudy?: readonly string[];
  /** Rows of the answer, 1 to 10,000; 1,000 unless given. */
  readonly limit?: number;
  readonly offset?: number;
}

/** Filters of the series level beside those of its study. */
export interface SeriesQuery extends StudyQuery {
  readonly seriesInstanceUids?: readonly string[];
  readonly modality?: string;
  readonly seriesNumber?: number;
  readonly seriesDescription?: string;
  readonly bodyPartExamined?: string;
}

/** Filters of the instance level beside those of its series and study. */
export interface InstanceQuery extends SeriesQuery {
  readonly sopInstanceUids?: readonly string[];
  readonly sopClassUids?: readonly string[];
  readonly instanceNumber?: number;
}

const MAX_LIMIT = 10_000;
const DEFAULT_LIMIT = 1_000;

type Condition = RawBuilder<SqlBool>;

/** Conditions over the alias y (study). */
export function studyConditions(query: StudyQuery): Condition[] {
  return [
    ...patients(query),
    ...lists('y.study_instance_uid', query.studyInstanceUids),
    ...ranges('y.study_date', query.studyDate),
    ...ranges('y.study_time', query.studyTime),
    ...texts('y.accession_number', query.accessionNumber),
    ...texts('y.study_description', query.studyDescription),
    ...texts('y.study_id', query.studyId),
    ...texts('y.referring_physician_name', query.referringPhysicianName),
    ...modalities(query.modalitiesInStudy),
  ];
}

/** Patients first, then their studies: the other way round every study would be looked at. */
function patients(query: StudyQuery): Condition[] {
  const conditions = [
    ...texts('e.patient_id', query.patientId),
    ...texts('e.assigning_authority', query.assigningAuthority),
    ...names(query.patientName),
    ...ranges('e.birth_date', query.patientBirthDate),
    ...texts('e.sex', query.patientSex),
  ];
  if (conditions.length === 0) return [];
  const matching = sql.join(conditions, sql` AND `);
  return [
    sql<SqlBool>`y.pk IN (SELECT o.pk FROM patient e JOIN study o ON o.patient_pk = e.pk AND o.linked_patient_pk IS NULL WHERE ${matching}
    UNION ALL SELECT o.pk FROM patient e JOIN study o ON o.linked_patient_pk = e.pk WHERE ${matching})`,
  ];
}

/** Conditions over the alias s (series). */
export function seriesConditions(query: SeriesQuery): Condition[] {
  return [
    ...lists('s.series_instance_uid', query.seriesInstanceUids),
    ...texts('s.modality', query.modality),
    ...(query.seriesNumber === undefined ? [] : [sql<SqlBool>`s.series_number = ${query.seriesNumber}`]),
    ...texts('s.series_description', query.seriesDescription),
    ...texts('s.body_part_examined', query.bodyPartExamined),
  ];
}

/** Conditions over the alias i (instance). */
export function instanceConditions(query: InstanceQuery): Condition[] {
  return [
    ...lists('i.sop_instance_uid', query.sopInstanceUids),
    ...lists('i.sop_class_uid', query.sopClassUids),
    ...(query.instanceNumber === undefined ? [] : [sql<SqlBool>`i.instance_number = ${query.instanceNumber}`]),
  ];
}

/** Limit and offset within their bounds. */
export function pageOf(query: StudyQuery): { limit: number; offset: number } {
  return {
    limit: Math.min(Math.max(Math.trunc(query.limit ?? DEFAULT_LIMIT), 0), MAX_LIMIT),
    offset: Math.max(Math.trunc(query.offset ?? 0), 0),
  };
}

function texts(column: string, wanted: string | undefined): Condition[] {
  if (wanted === undefined || wanted === '' || wanted === '*') return [];
  return [
    /[*?]/.test(wanted)
      ? sql<SqlBool>`${sql.ref(column)} LIKE ${pattern(wanted)} ESCAPE '\\'`
      : sql<SqlBool>`${sql.ref(column)} = ${wanted}`,
  ];
}

function lists(column: string, wanted: readonly string[] | undefined): Condition[] {
  if (wanted === undefined || wanted.length === 0) return [];
  // One parameter whatever the length: SQLite allows 32,766, and the text of the statement stays the same.
  return [sql<SqlBool>`${sql.ref(column)} IN (SELECT value FROM json_each(${JSON.stringify(wanted)}))`];
}

/** "WANG^XIAO MING" equals "Wang^Xiao Ming^^^": empty components at the end say nothing (PS3.5 6.2.1.1). */
function names(wanted: string | undefined): Condition[] {
  const trimmed = wanted?.trim().replace(/\^+$/, '') ?? '';
  if (trimmed === '' || trimmed === '*') return [];
  const like = pattern(trimmed);
  const matches = ['e.name_alphabetic', 'e.name_ideographic', 'e.name_phonetic'].map(
    (column) => sql<SqlBool>`rtrim(${sql.ref(column)}, '^') LIKE ${like} ESCAPE '\\'`,
  );
  return [sql<SqlBool>`(${sql.join(matches, sql` OR `)})`];
}

/** A single value matches what begins with it in a time (10 matches 103015), and itself in a date. */
function ranges(column: string, wanted: string | undefined): Condition[] {
  if (wanted === undefined || wanted === '' || wanted === '*' || wanted === '-') return [];
  const dash = wanted.indexOf('-');
  if (dash === -1)
    return /^\d{8}$/.test(wanted)
      ? [sql<SqlBool>`${sql.ref(column)} = ${wanted}`]
      : [sql<SqlBool>`${sql.ref(column)} LIKE ${pattern(`${wanted}*`)} ESCAPE '\\'`];
  const from = wanted.slice(0, dash);
  const to = wanted.slice(dash + 1);
  return [
    sql<SqlBool>`${sql.ref(column)} <> ''`,
    ...(from === '' ? [] : [sql<SqlBool>`${sql.ref(column)} >= ${from}`]),
    // The character after all digits: 1030 as an end takes in 103059.
    ...(to === '' ? [] : [sql<SqlBool>`${sql.ref(column)} <= ${`${to}~`}`]),
  ];
}

function modalities(wanted: readonly string[] | undefined): Condition[] {
  const named = wanted?.filter((one) => one !== '' && one !== '*') ?? [];
  if (named.length === 0) return [];
  const matches = named.map((one) => sql<SqlBool>`('\\' || y.modalities || '\\') LIKE ${`%\\\\${pattern(one)}\\\\%`} ESCAPE '\\'`);
  return [sql<SqlBool>`(${sql.join(matches, sql` OR `)})`];
}

/** DICOM wildcards as those of LIKE. */
function pattern(wanted: string): string {
  return wanted
    .replace(/[\\%_]/g, '\\$&')
    .replaceAll('*', '%')
    .replaceAll('?', '_');
}
