/** Rows of the grants: which node may fetch what from whom; no person. Times are epoch milliseconds. */
export interface GrantTables {
  grant_issued: {
    jti: string;
    asking_node: string;
    holder_node: string;
    /** JSON array. */
    study_instance_uids: string;
    consent_hash: string;
    issued_at: number;
    expires_at: number;
  };
}
