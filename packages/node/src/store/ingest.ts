import type { NodeId } from '@meridian/shared/identifiers';
import type { Logger } from '@meridian/shared/log';
import type { BlobFolder } from './blob-folder.ts';
import type { Disk } from './disk.ts';
import type { DiskSpace } from './disk-space.ts';
import type { GroupCommit } from './group-commit.ts';
import type { StoreLimits } from './limits.ts';
import type { Settle } from './settle.ts';
import { openSink } from './sink.ts';

/** Whence an instance comes and what is known of it beforehand. */
export interface IngestSource {
  readonly door: 'dimse' | 'stow' | 'import' | 'peer';
  readonly transferSyntaxUid: string;
  /** Of ids without issuer: the AE rule's, the importing user's, the sending node's. */
  readonly assigningAuthority: string;
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
  readonly provenance?: { readonly holderNode: NodeId; readonly manifestSha256: Buffer; readonly jti: string; readonly consentHash: string };
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
   *   DIGEST_MISMATCH, RESOURCE_EXHAUSTED / DISK_FULL, INTERNAL / DISK_FAILED, ABORTED / INGEST_ABORTED; nothing is kept then
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

/** What sinks share. */
export interface IngestParts {
  readonly blobs: BlobFolder;
  readonly disk: Disk;
  readonly space: DiskSpace;
  readonly commit: GroupCommit;
  readonly settle: Settle;
  readonly limits: StoreLimits;
  readonly log: Logger;
  /** Told after rows of the change feed were written. */
  readonly onChange: () => void;
  /** Told when a file without a row may have been left: the next start must look. */
  readonly onLeftover: () => void;
}

/** The entrance as the store itself sees it. */
export interface OpenIngest extends Ingest {
  /** Resolves when no object is being finished. */
  idle(): Promise<void>;
  /** Aborts the sinks that are open, and waits for those that are ending. */
  close(): Promise<void>;
}

/** Opens the entrance. */
export function openIngest(parts: IngestParts): OpenIngest {
  const open = new Set<InstanceSink>();
  const ending = new Set<Promise<unknown>>();
  const finish = <Result>(sink: InstanceSink, work: Promise<Result>): Promise<Result> => {
    open.delete(sink);
    const ended: Promise<unknown> = work.then(() => undefined, () => undefined).then(() => ending.delete(ended));
    ending.add(ended);
    return work;
  };
  const idle = async (): Promise<void> => {
    while (ending.size > 0) await Promise.all(ending);
  };
  return {
    begin: (source) => {
      parts.space.assertRoom();
      const sink = openSink(parts, source);
      open.add(sink);
      return { ...sink, end: () => finish(sink, sink.end()), abort: () => finish(sink, sink.abort()) };
    },
    associationOpened: (id) => parts.settle.associationOpened(id),
    associationActive: (id) => parts.settle.associationActive(id),
    associationClosed: (id, how) => parts.settle.associationClosed(id, how),
    idle,
    close: async () => {
      await Promise.all([...open].map((sink) => finish(sink, sink.abort())));
      await idle();
    },
  };
}
