import { sql, type Kysely } from 'kysely';

const STATEMENTS = [
  `CREATE TABLE patient (
    pk INTEGER PRIMARY KEY, assigning_authority TEXT NOT NULL, patient_id TEXT NOT NULL, sole_study_uid TEXT NOT NULL DEFAULT '',
    name_alphabetic TEXT NOT NULL DEFAULT '', name_ideographic TEXT NOT NULL DEFAULT '', name_phonetic TEXT NOT NULL DEFAULT '',
    birth_date TEXT NOT NULL DEFAULT '', sex TEXT NOT NULL DEFAULT '', UNIQUE (patient_id, assigning_authority, sole_study_uid))`,
  `CREATE TABLE person_id (
    patient_pk INTEGER NOT NULL REFERENCES patient, type TEXT NOT NULL, issuer TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (value, type, issuer, patient_pk)) WITHOUT ROWID`,
  `CREATE INDEX person_id_patient ON person_id (patient_pk)`,
  `CREATE TABLE study (
    pk INTEGER PRIMARY KEY, study_instance_uid TEXT NOT NULL UNIQUE, patient_pk INTEGER NOT NULL REFERENCES patient, linked_patient_pk INTEGER REFERENCES patient,
    origin TEXT NOT NULL, study_date TEXT NOT NULL, study_time TEXT NOT NULL, timezone_offset TEXT NOT NULL, accession_number TEXT NOT NULL,
    study_description TEXT NOT NULL, referring_physician_name TEXT NOT NULL, study_id TEXT NOT NULL, modalities TEXT NOT NULL,
    series_count INTEGER NOT NULL DEFAULT 0, instance_count INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
    first_received_epoch_ms INTEGER NOT NULL, last_received_epoch_ms INTEGER NOT NULL, state TEXT NOT NULL, version INTEGER NOT NULL,
    advertised_version INTEGER NOT NULL DEFAULT 0, arriving INTEGER NOT NULL)`,
  `CREATE INDEX study_patient ON study (patient_pk)`,
  `CREATE INDEX study_linked_patient ON study (linked_patient_pk) WHERE linked_patient_pk IS NOT NULL`,
  `CREATE INDEX study_newest ON study (study_date, study_time, pk)`,
  `CREATE INDEX study_accession ON study (accession_number)`,
  `CREATE INDEX study_arriving ON study (arriving) WHERE arriving = 1`,
  `CREATE TABLE series (
    pk INTEGER PRIMARY KEY, study_pk INTEGER NOT NULL REFERENCES study, series_instance_uid TEXT NOT NULL UNIQUE, modality TEXT NOT NULL,
    series_number INTEGER, series_description TEXT NOT NULL, body_part_examined TEXT NOT NULL, laterality TEXT NOT NULL,
    instance_count INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0, header_dictionary BLOB NOT NULL)`,
  `CREATE INDEX series_study ON series (study_pk)`,
  `CREATE TABLE instance (
    pk INTEGER PRIMARY KEY, sop_instance_uid TEXT NOT NULL UNIQUE, sop_class_uid TEXT NOT NULL, series_pk INTEGER NOT NULL REFERENCES series,
    study_pk INTEGER NOT NULL REFERENCES study, instance_number INTEGER, transfer_syntax_uid TEXT NOT NULL, bytes INTEGER NOT NULL, sha256 BLOB NOT NULL,
    pixel_sha256 BLOB, chunk_sha256 BLOB, number_of_frames INTEGER NOT NULL, rows INTEGER, columns INTEGER, data_set_offset INTEGER NOT NULL,
    blob TEXT NOT NULL, door TEXT NOT NULL, calling_ae_title TEXT NOT NULL, address TEXT NOT NULL, holder_node TEXT, manifest_sha256 BLOB, jti TEXT,
    consent_hash TEXT, received_epoch_ms INTEGER NOT NULL)`,
  `CREATE UNIQUE INDEX instance_blob ON instance (blob)`,
  `CREATE INDEX instance_series ON instance (series_pk)`,
  `CREATE INDEX instance_study ON instance (study_pk)`,
  `CREATE TABLE instance_header (instance_pk INTEGER PRIMARY KEY REFERENCES instance, header BLOB NOT NULL)`,
  `CREATE TABLE quarantine (
    pk INTEGER PRIMARY KEY, sop_instance_uid TEXT NOT NULL, series_instance_uid TEXT NOT NULL, study_instance_uid TEXT NOT NULL, sop_class_uid TEXT NOT NULL,
    transfer_syntax_uid TEXT NOT NULL, bytes INTEGER NOT NULL, sha256 BLOB NOT NULL, blob TEXT NOT NULL, data_set_offset INTEGER NOT NULL, reason TEXT NOT NULL,
    door TEXT NOT NULL, calling_ae_title TEXT NOT NULL, address TEXT NOT NULL, received_epoch_ms INTEGER NOT NULL,
    UNIQUE (sop_instance_uid, sha256, transfer_syntax_uid))`,
  `CREATE TABLE change (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, study_instance_uid TEXT NOT NULL, version INTEGER NOT NULL, at_epoch_ms INTEGER NOT NULL, detail TEXT NOT NULL)`,
  `CREATE TABLE fetched_study (
    study_instance_uid TEXT PRIMARY KEY, holder_node TEXT NOT NULL, manifest BLOB NOT NULL, manifest_sha256 BLOB NOT NULL, version INTEGER NOT NULL,
    consent_hash TEXT NOT NULL, local_patient_pk INTEGER REFERENCES patient, expected_instances INTEGER NOT NULL, expected_bytes INTEGER NOT NULL,
    complete INTEGER NOT NULL DEFAULT 0, locked INTEGER NOT NULL DEFAULT 0, begun_epoch_ms INTEGER NOT NULL) WITHOUT ROWID`,
  `CREATE INDEX fetched_study_consent ON fetched_study (consent_hash)`,
  `CREATE TABLE expected_instance (
    study_instance_uid TEXT NOT NULL REFERENCES fetched_study, position INTEGER NOT NULL, series_instance_uid TEXT NOT NULL, sop_instance_uid TEXT NOT NULL,
    sop_class_uid TEXT NOT NULL, transfer_syntax_uid TEXT NOT NULL, bytes INTEGER NOT NULL, sha256 BLOB NOT NULL, pixel_sha256 BLOB NOT NULL,
    chunk_sha256 BLOB NOT NULL, instance_number INTEGER NOT NULL, PRIMARY KEY (study_instance_uid, position)) WITHOUT ROWID`,
  `CREATE TABLE ingest_session (id TEXT PRIMARY KEY, clean INTEGER NOT NULL) WITHOUT ROWID`,
];

/** Patients, studies, series, instances, what was kept aside, the change feed, and studies that come from peers. */
export async function createArchive(database: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(database);
}
