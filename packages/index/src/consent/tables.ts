/** Rows of the consents. The form and the person stay at the recording node. */
export interface ConsentTables {
  consent: {
    /** Hex SHA-256 of the compact JWS. */
    hash: string;
    compact: string;
    writer: string;
    seq: number;
    consent_id: string;
    status: 'active' | 'revoked' | 'refused';
    issued_at: number;
    received_at: number;
  };
  consent_patient: { patient_key: Buffer; consent_hash: string };
  /** Nodes that were granted studies under a consent: they must hear of its end. */
  consent_use: { consent_id: string; node_id: string };
}
