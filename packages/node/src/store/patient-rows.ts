// Runs in the writer thread.
import type { JobDatabase } from '@meridian/shared/database';
import type { TypedPersonId } from '@meridian/shared/identifiers';
import type { CommitRecord } from './commit-record.ts';
import type { PatientConflict } from './schema.ts';

/** The row of a new study's patient; `conflict` where it had to be one of its own. */
export interface PatientChoice {
  readonly pk: number;
  readonly conflict?: PatientConflict;
}

interface Candidate {
  readonly pk: number;
  readonly sole_study_uid: string;
  readonly birth_date: string;
  readonly sex: string;
  readonly ids: readonly TypedPersonId[];
}

type Identified = Pick<CommitRecord, 'personIds'> & {
  readonly identity: Pick<CommitRecord['identity'], 'patientBirthDate' | 'patientSex'>;
};

/**
 * The patient of a new study. A PatientID names one person within its authority, unless the studies say otherwise: two
 * different national ids, or another birth date and another sex, are two people (a typing error, or ids given twice).
 * The later one gets a row of its own under the same PatientID, and later studies join the row that carries their
 * national id.
 */
export function patientOfNewStudy(database: JobDatabase, record: CommitRecord): PatientChoice {
  const { identity } = record;
  // Without PatientID nothing says that two studies are of one person.
  if (identity.patientId === '') return { pk: addPatient(database, record, identity.studyInstanceUid) };
  const rows = candidatesOf(database, record);
  if (rows.length === 0) return { pk: addPatient(database, record, '') };
  const carrier = rows.find((row) => sharesPersonId(row.ids, record.personIds));
  const open = rows.filter((row) => contradictionOf(row, record) === undefined);
  // Once an id stands for several people, a study that names none of them joins by birth date and sex, or nobody.
  const chosen = carrier ?? (rows.length === 1 ? open[0] : soleMatch(open, record));
  if (chosen === undefined) {
    const conflict = contradictionOf(rows[0] as Candidate, record) ?? 'patient-id-of-several';
    return { pk: addPatient(database, record, identity.studyInstanceUid), conflict };
  }
  addDetails(database, chosen.pk, record);
  return { pk: chosen.pk };
}

/** Gaps of a patient are filled and ids added by a later instance, unless the instance speaks of somebody else. */
export function addToPatient(database: JobDatabase, patientPk: number, record: CommitRecord): void {
  const row = rowOf(database, patientPk);
  if (contradictionOf(row, record) === undefined) addDetails(database, patientPk, record);
}

/** True where the patient and the record carry national ids of one kind that differ. */
export function isOtherPersonId(database: JobDatabase, patientPk: number, personIds: readonly TypedPersonId[]): boolean {
  return personIds.length > 0 && differ(personIdsOfRow(database, patientPk), personIds);
}

function candidatesOf(database: JobDatabase, record: CommitRecord): Candidate[] {
  const rows = database
    .prepare(
      `SELECT pk, sole_study_uid, birth_date, sex FROM patient WHERE patient_id = ? AND assigning_authority = ? ORDER BY sole_study_uid <> '', pk`,
    )
    .all(record.identity.patientId, record.assigningAuthority) as Omit<Candidate, 'ids'>[];
  return rows.map((row) => ({ ...row, ids: personIdsOfRow(database, row.pk) }));
}

function rowOf(database: JobDatabase, pk: number): Candidate {
  const row = database.prepare('SELECT pk, sole_study_uid, birth_date, sex FROM patient WHERE pk = ?').get(pk) as Omit<Candidate, 'ids'>;
  return { ...row, ids: personIdsOfRow(database, pk) };
}

function personIdsOfRow(database: JobDatabase, pk: number): TypedPersonId[] {
  return database.prepare('SELECT type, issuer, value FROM person_id WHERE patient_pk = ?').all(pk) as TypedPersonId[];
}

function contradictionOf(row: Candidate, { personIds, identity }: Identified): PatientConflict | undefined {
  if (sharesPersonId(row.ids, personIds)) return undefined;
  if (differ(row.ids, personIds)) return 'person-id';
  const isOtherDate = row.birth_date !== '' && identity.patientBirthDate !== '' && row.birth_date !== identity.patientBirthDate;
  const isOtherSex = row.sex !== '' && identity.patientSex !== '' && row.sex !== identity.patientSex;
  return isOtherDate && isOtherSex ? 'birth-date-and-sex' : undefined;
}

/** One hospital may give a person several numbers of its own; only ids that a person has once tell two people apart. */
const GIVEN_ONCE = (id: TypedPersonId): boolean => id.type !== 'mrn';

function sharesPersonId(held: readonly TypedPersonId[], stated: readonly TypedPersonId[]): boolean {
  return stated.some((id) => GIVEN_ONCE(id) && held.some((other) => isSameKind(id, other) && id.value === other.value));
}

function differ(held: readonly TypedPersonId[], stated: readonly TypedPersonId[]): boolean {
  return !sharesPersonId(held, stated) && stated.some((id) => GIVEN_ONCE(id) && held.some((other) => isSameKind(id, other)));
}

function isSameKind(one: TypedPersonId, other: TypedPersonId): boolean {
  return one.type === other.type && one.issuer === other.issuer;
}

function soleMatch(rows: readonly Candidate[], { identity }: Identified): Candidate | undefined {
  const matching = rows.filter(
    (row) => row.birth_date !== '' && row.birth_date === identity.patientBirthDate && row.sex !== '' && row.sex === identity.patientSex,
  );
  return matching.length === 1 ? matching[0] : undefined;
}

function addPatient(database: JobDatabase, record: CommitRecord, soleStudyUid: string): number {
  const { identity } = record;
  const name = identity.patientName;
  const pk = Number(
    database
      .prepare(`INSERT INTO patient (assigning_authority, patient_id, sole_study_uid, name_alphabetic, name_ideographic, name_phonetic, birth_date, sex)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?)`)
      .run(
        record.assigningAuthority,
        identity.patientId,
        soleStudyUid,
        name.alphabetic,
        name.ideographic,
        name.phonetic,
        identity.patientBirthDate,
        identity.patientSex,
      ).lastInsertRowid,
  );
  addPersonIds(database, pk, record.personIds);
  return pk;
}

/** Gaps are filled, nothing is overwritten: corrections come by ADT or by a person, not by whichever object came last. */
function addDetails(database: JobDatabase, pk: number, record: CommitRecord): void {
  const { identity } = record;
  database
    .prepare(`UPDATE patient SET name_alphabetic = @alphabetic, name_ideographic = @ideographic, name_phonetic = @phonetic
    WHERE pk = @pk AND name_alphabetic = '' AND name_ideographic = '' AND @alphabetic || @ideographic <> ''`)
    .run({ pk, ...identity.patientName });
  database
    .prepare(`UPDATE patient SET birth_date = CASE birth_date WHEN '' THEN @birthDate ELSE birth_date END, sex = CASE sex WHEN '' THEN @sex ELSE sex END
    WHERE pk = @pk AND ((birth_date = '' AND @birthDate <> '') OR (sex = '' AND @sex <> ''))`)
    .run({ pk, birthDate: identity.patientBirthDate, sex: identity.patientSex });
  addPersonIds(database, pk, record.personIds);
}

function addPersonIds(database: JobDatabase, patientPk: number, personIds: readonly TypedPersonId[]): void {
  for (const id of personIds) {
    database
      .prepare('INSERT OR IGNORE INTO person_id (patient_pk, type, issuer, value) VALUES (?, ?, ?, ?)')
      .run(patientPk, id.type, id.issuer, id.value);
  }
}
