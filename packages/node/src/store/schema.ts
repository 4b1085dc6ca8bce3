import type { Generated } from 'kysely';

/** Where a study stands on its way to the federation. */
export type StudyState = 'receiving' | 'settled' | 'advertised' | 'amended';

/** Why an instance was kept aside. */
export type QuarantineReason = 'pixels-differ' | 'header-differs' | 'identity-differs';

/** Why a copy may not be read any more. */
export type LockReason = 'CONSENT_REVOKED' | 'CONSENT_REFUSED' | 'CONSENT_EXPIRED' | 'STUDY_RECALLED';

/** Why a study could not join the patient whose PatientID it carries. */
export type PatientConflict = 'person-id' | 'birth-date-and-sex' | 'patient-id-of-several';

/** Tables of the archive's database. Times are milliseconds since 1970 UTC; DA and TM stay as written; absent text is ''. */
export interface StoreSchema {
  patient: {
    pk: Generated<number>;
    assigning_authority: string;
    patient_id: string;
    /** The study a patient without PatientID belongs to: such rows never join. */
    sole_study_uid: string;
    name_alphabetic: string;
    name_ideographic: string;
    name_phonetic: string;
    birth_date: string;
    sex: string;
  };
  person_id: { patient_pk: number; type: string; issuer: string; value: string };
  study: {
    pk: Generated<number>;
    study_instance_uid: string;
    patient_pk: number;
    linked_patient_pk: number | null;
    /** `copy`: its first instance came from a peer. */
    origin: 'own' | 'copy';
    study_date: string;
    study_time: string;
    timezone_offset: string;
    accession_number: string;
    study_description: string;
    referring_physician_name: string;
    study_id: string;
    /** Sorted, joined by a backslash. */
    modalities: string;
    series_count: number;
    instance_count: number;
    bytes: number;
    first_received_epoch_ms: number;
    last_received_epoch_ms: number;
    state: StudyState;
    /** Of the manifest that is, or next will be, made. */
    version: number;
    advertised_version: number;
    /** 1 while instances may still come that belong to `version`. */
    arriving: number;
  };
  series: {
    pk: Generated<number>;
    study_pk: number;
    series_instance_uid: string;
    modality: string;
    series_number: number | null;
    series_description: string;
    body_part_examined: string;
    laterality: string;
    instance_count: number;
    bytes: number;
    /** The first instance's header JSON, raw-deflated: dictionary of all headers of the series. */
    header_dictionary: Buffer;
  };
  instance: {
    pk: Generated<number>;
    sop_instance_uid: string;
    sop_class_uid: string;
    series_pk: number;
    study_pk: number;
    instance_number: number | null;
    transfer_syntax_uid: string;
    bytes: number;
    sha256: Buffer;
    pixel_sha256: Buffer | null;
    chunk_sha256: Buffer | null;
    number_of_frames: number;
    rows: number | null;
    columns: number | null;
    data_set_offset: number;
    blob: string;
    door: string;
    calling_ae_title: string;
    address: string;
    holder_node: string | null;
    manifest_sha256: Buffer | null;
    jti: string | null;
    consent_hash: string | null;
    received_epoch_ms: number;
  };
  instance_header: { instance_pk: number; header: Buffer };
  quarantine: {
    pk: Generated<number>;
    sop_instance_uid: string;
    series_instance_uid: string;
    study_instance_uid: string;
    sop_class_uid: string;
    transfer_syntax_uid: string;
    bytes: number;
    sha256: Buffer;
    blob: string;
    data_set_offset: number;
    reason: QuarantineReason;
    door: string;
    calling_ae_title: string;
    address: string;
    received_epoch_ms: number;
  };
  change: { seq: Generated<number>; kind: string; study_instance_uid: string; version: number; at_epoch_ms: number; detail: string };
  fetched_study: {
    study_instance_uid: string;
    holder_node: string;
    manifest: Buffer;
    manifest_sha256: Buffer;
    version: number;
    consent_hash: string;
    local_patient_pk: number | null;
    expected_instances: number;
    expected_bytes: number;
    complete: number;
    locked: number;
    begun_epoch_ms: number;
    consent_id: string;
    valid_until_epoch_ms: number | null;
    lock_reason: LockReason | '';
  };
  expected_instance: {
    study_instance_uid: string;
    position: number;
    series_instance_uid: string;
    sop_instance_uid: string;
    sop_class_uid: string;
    transfer_syntax_uid: string;
    bytes: number;
    sha256: Buffer;
    pixel_sha256: Buffer;
    chunk_sha256: Buffer;
    instance_number: number;
  };
  ingest_session: { id: string; clean: number };
}
