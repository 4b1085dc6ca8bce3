import type { NodeId } from '@meridian/shared/identifiers';

/** Whence an instance comes and what is known of it beforehand. */
export interface IngestSource {
  readonly door: 'dimse' | 'stow' | 'import' | 'peer';
  readonly transferSyntaxUid: string;
  /** Of ids without issuer: the AE rule's, the importing user's, the sending node's. */
  readonly assigningAuthority: string;
  /** They are another hospital's: an issuer that the data set names counts within `assigningAuthority` alone. */
  readonly foreignIds?: boolean;
  readonly associationId?: string;
  readonly callingAeTitle?: string;
  readonly address?: string;
  /** What the data set must turn out to be. */
  readonly expected?: {
    readonly sopClassUid?: string;
    readonly sopInstanceUid?: string;
    readonly studyInstanceUid?: string;
    readonly sha256?: Buffer;
    readonly bytes?: number;
  };
  readonly provenance?: {
    readonly holderNode: NodeId;
    readonly manifestSha256: Buffer;
    readonly jti: string;
    readonly consentHash: string;
  };
  /** Source rule: PatientID is the national id. */
  readonly nationalIdIn?: 'patient-id';
}

/** What became of an instance. `bytes` and `sha256` are of the data set. */
export interface IngestOutcome {
  readonly outcome: 'stored' | 'duplicate' | 'quarantined';
  readonly studyInstanceUid: string;
  readonly seriesInstanceUid: string;
  readonly sopInstanceUid: string;
  readonly sopClassUid: string;
  readonly sha256: Buffer;
  readonly bytes: number;
}

/** Takes one data set, without file meta information, as it comes. Either `end` or `abort` must be called. */
export interface InstanceSink {
  /**
   * Takes ownership of the chunk. False: too much waits for the disk; go on after `drained()`.
   * After a failure bytes are dropped and `end()` tells the reason.
   */
  write(chunk: Buffer): boolean;
  drained(): Promise<void>;
  /**
   * Resolves when file and row are durable.
   * @throws MeshError INVALID_ARGUMENT (a reason of the header reader, DICOM_UID_MISSING, INSTANCE_MISMATCH), DATA_LOSS /
   *   DIGEST_MISMATCH, FAILED_PRECONDITION / STUDY_HELD_HERE (a peer's), RESOURCE_EXHAUSTED / DISK_FULL, INTERNAL / DISK_FAILED, ABORTED / INGEST_ABORTED; nothing is kept then
   */
  end(): Promise<IngestOutcome>;
  abort(): Promise<void>;
}

/** The one entrance of instances, for every door. */
export interface Ingest {
  /** @throws MeshError RESOURCE_EXHAUSTED / DISK_LOW while the disk has too little room */
  begin(source: IngestSource): InstanceSink;
  associationOpened(id: string): void;
  associationActive(id: string): void;
  associationClosed(id: string, how: 'released' | 'aborted'): void;
}
