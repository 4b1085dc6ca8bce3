/** A hospital's standing: invited until its node has joined. */
export type HospitalStatus = 'invited' | 'active' | 'suspended' | 'revoked';

/** Rows of the registry. Times are epoch milliseconds. */
export interface RegistryTables {
  hospital: {
    node_id: string;
    name: string;
    segment: string;
    status: HospitalStatus;
    peer_id: string | null;
    signing_public_key: Buffer | null;
    /** JSON array of multiaddrs. */
    addresses: string;
    ae_title: string;
    created_at: number;
    joined_at: number | null;
    /** When the newest certificate of the node runs out. */
    certified_until: number | null;
    /** Evaluations granted beyond the daily quota, for the first back-fill. */
    backfill_remaining: number;
  };
  join_code: {
    /** The code itself is never kept. */
    code_sha256: Buffer;
    node_id: string;
    created_at: number;
    expires_at: number;
    used_at: number | null;
    /** Of the request that used it, so that the same request may be answered again. */
    request_sha256: Buffer | null;
  };
  node_certificate: { serial: string; node_id: string; spki_sha256: Buffer; not_after: number; issued_at: number };
  former_signing_key: { node_id: string; public_key: Buffer; until: number };
  trust_delta: { to_seq: number; from_seq: number; signed: Buffer };
  /** Numbers that only grow. */
  counter: { name: string; value: number };
  /** What a node must be told, kept until it is old; `seq` is the cursor of the push channel. */
  notice: {
    seq: number;
    node_id: string;
    kind: 'consent' | 'recall';
    /** Hash of the consent statement, or UID of the study. */
    subject: string;
    payload: Buffer;
    created_at: number;
  };
}
