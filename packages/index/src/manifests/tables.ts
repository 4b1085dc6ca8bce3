/** Rows of the manifests: one a study, never one an instance. Times are epoch milliseconds. */
export interface ManifestTables {
  /** One row per patient key, study and holder; several only while a key epoch is being changed. */
  study: {
    patient_key: Buffer;
    study_instance_uid: string;
    custodian_node: string;
    version: number;
    /** ManifestStatus of the contract. */
    status: number;
    /** YYYYMMDD or empty. */
    study_date: string;
    /** Study date and time for ordering; empty where the study has no date. */
    sort_key: string;
    /** Distinct modalities of its series, comma-separated. */
    modalities: string;
    instance_count: number;
    total_bytes: number;
    /** The signed StudyManifest verbatim: its series stand packed inside. */
    payload: Buffer;
    signature: Buffer;
    key_id: string;
    algorithm: number;
    received_at: number;
  };
  /** Finds a study by its UID, and remembers the newest version even when no patient key is left. */
  study_locator: { study_instance_uid: string; custodian_node: string; version: number; manifest_sha256: Buffer };
  /** Which nodes were granted a study, and so may hold a copy. */
  study_recipient: { study_instance_uid: string; custodian_node: string; node_id: string };
  feed: {
    node_id: string;
    feed_id: Buffer;
    last_seq: number;
    /** Of the last heartbeat; 0 before the first. */
    as_of: number;
    pending: number;
    /** When the node was last heard on this feed. */
    heard_at: number;
  };
  /** The newest entries of each feed in order of arrival, to prove that none was doubled or overtaken. */
  feed_log: { arrival: number; node_id: string; feed_id: Buffer; seq: number; study_instance_uid: string; version: number };
}
