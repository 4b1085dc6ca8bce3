/** What the DIMSE door bounds. Bytes, milliseconds or counts, as named. */
export interface DimseLimits {
  /** Associations at one time; the next is rejected as a transient local limit. */
  readonly associations: number;
  readonly associationsPerAddress: number;
  /** Connections that have not yet asked for an association, or are being closed; the oldest give way. */
  readonly waitingConnections: number;
  /** Longest P-DATA-TF variable field that we accept and announce (PS3.8 D.1). */
  readonly pduBytes: number;
  readonly associateRequestBytes: number;
  readonly presentationContexts: number;
  readonly commandBytes: number;
  /** From connection to a whole A-ASSOCIATE-RQ, and from our last PDU to the peer's close (PS3.8 9.1.5). */
  readonly artimMs: number;
  /** A PDU once begun, and the next PDU of a message once begun, must be here in this time. */
  readonly messageMs: number;
  /** An association without any message; modalities keep idle ones for long. */
  readonly idleMs: number;
  /** How long running instances may still finish when the door closes. */
  readonly closeMs: number;
}

/** Defaults: a hospital's modalities and PACS never reach them. */
export const DEFAULT_DIMSE_LIMITS: DimseLimits = {
  associations: 100,
  associationsPerAddress: 10,
  waitingConnections: 128,
  pduBytes: 128 * 1024,
  associateRequestBytes: 1024 * 1024,
  presentationContexts: 128,
  commandBytes: 64 * 1024,
  artimMs: 30_000,
  messageMs: 60_000,
  idleMs: 4 * 3_600_000,
  closeMs: 10_000,
};
