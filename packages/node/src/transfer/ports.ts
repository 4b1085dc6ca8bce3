import type { AuditEvent } from '@meridian/shared/audit-log';
import type { SignedObject } from '@meridian/shared/generated/meridian/v1/common';
import type { InstanceEntry, InstanceList } from '@meridian/shared/generated/meridian/v1/manifest';
import type { GrantCheck } from '@meridian/shared/grant';
import type { NodeId, StudyInstanceUid } from '@meridian/shared/identifiers';

/** An object that is held here, as far as serving needs it. */
export interface ServedInstance {
  readonly sopInstanceUid: string;
  /** Data set bytes. */
  readonly bytes: number;
}

/** What serving needs of the store. */
export interface ServeStore<Row extends ServedInstance = ServedInstance> {
  readonly studies: {
    instancesOf(studyInstanceUid: string): Promise<readonly Row[]>;
    /** Data set bytes; shorter only at the end. */
    readDataSet(row: Row, offset: number, length: number): Promise<Buffer>;
  };
}

/** What serving needs of the advertised manifests. */
export interface ServedManifests {
  /** @throws MeshError NOT_FOUND for a study that was never advertised. */
  instanceList(studyInstanceUid: string): Promise<{ readonly signed: SignedObject; readonly list: Buffer }>;
}

/** The holder's own decision on a grant. */
export interface GrantJudge {
  decide(compact: string, live: { readonly livePeerId: string; readonly studyUid: StudyInstanceUid }): Promise<GrantCheck>;
}

/** The audit log; an append that fails stops what it was to record. */
export interface AuditSink {
  append(event: AuditEvent): Promise<void>;
}

/** What fetching needs of the store. */
export interface FetchStore {
  readonly ingest: { begin(source: PeerIngestSource): PeerInstanceSink };
  readonly fetched: {
    begin(copy: BegunCopy): Promise<void>;
    /** Entries of the expected list that are not durable here by digest. */
    missing(studyInstanceUid: string): Promise<readonly InstanceEntry[]>;
    complete(studyInstanceUid: string): Promise<void>;
  };
}

/** A copy that is about to be fetched: what is expected and what it rests on. */
export interface BegunCopy {
  readonly studyInstanceUid: string;
  readonly holderNode: NodeId;
  readonly manifest: Buffer;
  readonly manifestSha256: Buffer;
  readonly version: number;
  readonly expected: InstanceList;
  readonly consentHash: string;
  readonly consentId: string;
  /** The copy may not be read after this, unless it is put on another consent. */
  readonly validUntilEpochMs: number;
  readonly localPatientPk: number;
}

/** An instance that comes from a peer, with what the signed list says of it. */
export interface PeerIngestSource {
  readonly door: 'peer';
  readonly transferSyntaxUid: string;
  readonly assigningAuthority: string;
  readonly expected: {
    readonly sopClassUid: string;
    readonly sopInstanceUid: string;
    readonly studyInstanceUid: string;
    readonly sha256: Buffer;
    readonly bytes: number;
  };
  readonly provenance: { readonly holderNode: NodeId; readonly manifestSha256: Buffer; readonly jti: string; readonly consentHash: string };
}

/** The part of store's InstanceSink that is used. */
export interface PeerInstanceSink {
  write(chunk: Buffer): boolean;
  drained(): Promise<void>;
  end(): Promise<{ readonly outcome: 'stored' | 'duplicate' | 'quarantined' }>;
  abort(): Promise<void>;
}
