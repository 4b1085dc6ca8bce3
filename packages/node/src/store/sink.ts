import { asMeshError, MeshError } from '@meridian/shared/errors';
import type { Logger } from '@meridian/shared/log';
import { createHeaderReader, type DicomHeader } from '../dicom/header-reader.ts';
import { identityOf, type DicomIdentity } from '../dicom/identity.ts';
import { firstString, type DicomJson } from '../dicom/json.ts';
import { jsonTextOf } from '../dicom/json-text.ts';
import { part10Prefix } from '../dicom/part10.ts';
import { TAG } from '../dicom/tags.ts';
import { encodingOf } from '../dicom/transfer-syntaxes.ts';
import type { BlobFolder } from './blob-folder.ts';
import { openBlobWriter } from './blob-writer.ts';
import { commitRecord, type CommitResult } from './commit-record.ts';
import { openDigester, type InstanceDigests } from './digests.ts';
import type { Disk } from './disk.ts';
import type { DiskSpace } from './disk-space.ts';
import type { GroupCommit } from './group-commit.ts';
import type { IngestSource, InstanceSink } from './ingest.ts';
import type { StoreLimits } from './limits.ts';
import type { Settle } from './settle.ts';
import { SLAB_BYTES, type Staging } from './staging.ts';
import type { WholeFile } from './whole-file.ts';

/** What sinks share. */
export interface SinkParts {
  readonly blobs: BlobFolder;
  readonly disk: Disk;
  /** Absent: every file is written from this thread. */
  readonly staging: Staging | undefined;
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

/** A sender that waits for each answer: its larger objects are written while they come. A peer's come without a pause, so one trip for all of it costs least. */
const KEEP_BACK_BYTES = 64 * 1024;
/** Bytes that are given to the header reader at a time. */
const READ_BYTES = 256 * 1024;
/** Smaller chunks are joined: each would otherwise keep alive the whole of the buffer that it was cut from. */
const SMALL_BYTES = 4 * 1024;
const JOINED_BYTES = 64 * 1024;
/** The instance's UIDs stand in its first few elements (group 0008); without them in so many bytes it is refused. */
const MAX_BYTES_BEFORE_UIDS = 1024 * 1024;

/** Opens a sink: bytes go to the header reader, the digests and the disk as they come; rows follow when the file is durable. */
export function openSink(parts: SinkParts, source: IngestSource): InstanceSink {
  const { blobs, disk, limits } = parts;
  const blob = blobs.newName(source.door === 'peer' ? 'copy' : 'own');
  const writer = openBlobWriter({
    disk,
    path: blobs.pathOf(blob),
    writeBytes: limits.writeBytes,
    pendingLimit: limits.pendingBytes,
    staging: parts.staging,
    keepBackBytes: source.door === 'peer' ? SLAB_BYTES : KEEP_BACK_BYTES,
  });
  const reader = createHeaderReader({ transferSyntaxUid: source.transferSyntaxUid });
  const digester = openDigester({ pixels: !encodingOf(source.transferSyntaxUid).deflated });
  let failure: MeshError | undefined;
  let bytes = 0;
  let dataSetOffset: number | undefined;
  let early: Buffer[] = [];
  let joined: Buffer | undefined;
  let joinedBytes = 0;
  let state: 'open' | 'ended' | 'aborted' = 'open';

  /** The file begins with what Part 10 wants to know first, so bytes wait until the UIDs have come by. */
  const begin = (dataset: DicomJson): boolean => {
    const sopClassUid = firstString(dataset, TAG.SOPClassUID);
    const sopInstanceUid = firstString(dataset, TAG.SOPInstanceUID);
    if (sopClassUid === undefined || sopInstanceUid === undefined) {
      if (bytes > MAX_BYTES_BEFORE_UIDS)
        throw new MeshError(
          'INVALID_ARGUMENT',
          'DICOM_UID_MISSING',
          'The data set does not begin with SOP class and SOP instance UID. Correct it at its source and send it again.',
        );
      return false;
    }
    assertExpected(source, { sopClassUid, sopInstanceUid });
    const prefix = part10Prefix({ sopClassUid, sopInstanceUid, transferSyntaxUid: source.transferSyntaxUid });
    dataSetOffset = prefix.length;
    writer.append(prefix);
    for (const chunk of early) writer.append(chunk);
    early = [];
    return true;
  };

  const take = (chunk: Buffer): void => {
    reader.push(chunk);
    const { dataset, pixelData } = reader.soFar();
    digester.update(chunk, pixelData);
    bytes += chunk.length;
    if (dataSetOffset !== undefined || begin(dataset)) writer.append(chunk);
    else early.push(chunk);
  };

  const takeJoined = (): void => {
    if (joined === undefined || joinedBytes === 0) return;
    const chunk = Buffer.from(joined.subarray(0, joinedBytes));
    joinedBytes = 0;
    take(chunk);
  };
  /** The sender's chunk is done with when this returns. */
  const join = (chunk: Buffer): void => {
    joined ??= Buffer.allocUnsafeSlow(JOINED_BYTES);
    if (joinedBytes + chunk.length > joined.length) takeJoined();
    joinedBytes += chunk.copy(joined, joinedBytes);
  };
  const takeAll = (chunk: Buffer): void => {
    if (chunk.length < SMALL_BYTES) return join(chunk);
    takeJoined();
    for (let at = 0; at < chunk.length; at += READ_BYTES)
      take(at === 0 && chunk.length <= READ_BYTES ? chunk : chunk.subarray(at, at + READ_BYTES));
  };

  const finish = async (): Promise<{
    header: DicomHeader;
    identity: DicomIdentity;
    digests: InstanceDigests;
    dataSetOffset: number;
    file: WholeFile | undefined;
  }> => {
    const header = reader.finish();
    const identity = identityOf(header.dataset);
    if (dataSetOffset === undefined && !begin(header.dataset))
      throw new MeshError('INVALID_ARGUMENT', 'DICOM_UID_MISSING', 'The data set has no SOP class or SOP instance UID.');
    const digests = digester.finish(header.pixelData);
    assertExpected(source, identity);
    assertWhole(source, bytes, digests);
    // One trip to the writer thread for file and row, while few wait there; else files are flushed side by side, then rows together.
    const file = parts.commit.takesFiles ? writer.handOver() : undefined;
    if (file === undefined) await writer.seal();
    return { header, identity, digests, dataSetOffset: dataSetOffset ?? 0, file };
  };

  const store = async (): Promise<{ identity: DicomIdentity; digests: InstanceDigests; result: CommitResult }> => {
    if (failure !== undefined) throw failure;
    takeJoined();
    joined = undefined;
    const { header, identity, digests, dataSetOffset: offset, file } = await finish();
    const stored = {
      bytes,
      ...digests,
      dataSetOffset: offset,
      blob,
      blobFolder: disk.isOfThisMachine === true ? blobs.pathOf('') : undefined,
      file,
    };
    const text = await jsonTextOf(header.dataset, header.jsonBytes);
    return { identity, digests, result: await parts.commit.add(commitRecord(source, identity, { dataset: header.dataset, text }, stored)) };
  };

  /** The row stands: whatever fails from here on must not take its file away. */
  const conclude = async (identity: DicomIdentity, result: CommitResult): Promise<void> => {
    writer.giveBack();
    try {
      if (!result.keepBlob) await disk.remove(blobs.pathOf(blob));
      if (result.replacedBlob !== undefined) await disk.remove(blobs.pathOf(result.replacedBlob));
    } catch (thrown) {
      parts.onLeftover();
      parts.log.error({ event: 'discard-failed', err: thrown });
    }
    report(parts, source, identity, result);
  };

  const discard = async (): Promise<void> => {
    early = [];
    joined = undefined;
    try {
      await writer.discard();
    } catch (thrown) {
      // The file has no row; the next start collects it.
      parts.onLeftover();
      parts.log.error({ event: 'discard-failed', err: thrown });
    }
  };

  return {
    write: (chunk) => {
      if (state !== 'open' || failure !== undefined) return true;
      try {
        takeAll(chunk);
        failure = writer.failure();
      } catch (thrown) {
        failure = asMeshError(thrown);
      }
      return failure !== undefined || writer.pendingBytes() <= limits.pendingBytes;
    },
    drained: () => writer.drained(),
    end: async () => {
      if (state !== 'open') throw new MeshError('ABORTED', 'INGEST_ABORTED', 'This object was given up before it was whole.');
      state = 'ended';
      let stored: Awaited<ReturnType<typeof store>>;
      try {
        stored = await store();
      } catch (thrown) {
        const error = asMeshError(thrown);
        // After an I/O error at commit nobody knows whether the row stands; the next start knows, so the file stays until then.
        if (error.details['sqliteCode']?.startsWith('SQLITE_IOERR') === true) parts.onLeftover();
        else await discard();
        throw error;
      }
      const { identity, digests, result } = stored;
      await conclude(identity, result);
      if (result.outcome === 'refused')
        throw new MeshError(
          'FAILED_PRECONDITION',
          'STUDY_HELD_HERE',
          'This hospital has the study from its own devices; nothing of another hospital is added to it.',
        );
      const { studyInstanceUid, seriesInstanceUid, sopInstanceUid, sopClassUid } = identity;
      return { outcome: result.outcome, studyInstanceUid, seriesInstanceUid, sopInstanceUid, sopClassUid, sha256: digests.sha256, bytes };
    },
    abort: async () => {
      if (state !== 'open') return;
      state = 'aborted';
      await discard();
    },
  };
}

function report(parts: SinkParts, source: IngestSource, identity: DicomIdentity, result: CommitResult): void {
  if (result.outcome === 'stored') parts.settle.received(identity.studyInstanceUid, source.associationId);
  if (result.replacedBlob !== undefined)
    parts.log.error(
      { event: 'file-replaced', sopInstanceUid: identity.sopInstanceUid },
      'the file of an instance was gone or short; the same bytes came again and took its place',
    );
  if (result.patientConflict !== undefined) {
    parts.log.error(
      {
        event: 'patient-conflict',
        reason: result.patientConflict,
        studyInstanceUid: identity.studyInstanceUid,
        door: source.door,
        callingAeTitle: source.callingAeTitle,
      },
      'a PatientID stands for more than one person: the study was filed under a patient of its own',
    );
    parts.onChange();
  }
  if (result.outcome !== 'quarantined') return;
  parts.log.warn({
    event: 'instance-quarantined',
    reason: result.reason,
    sopInstanceUid: identity.sopInstanceUid,
    studyInstanceUid: identity.studyInstanceUid,
    door: source.door,
    callingAeTitle: source.callingAeTitle,
  });
  if (result.keepBlob) parts.onChange();
}

function assertExpected(source: IngestSource, found: { sopClassUid: string; sopInstanceUid: string; studyInstanceUid?: string }): void {
  const { expected } = source;
  if (expected === undefined) return;
  for (const key of ['sopClassUid', 'sopInstanceUid', 'studyInstanceUid'] as const) {
    const wanted = expected[key];
    if (wanted === undefined || found[key] === undefined || withoutPadding(wanted) === withoutPadding(found[key])) continue;
    throw new MeshError('INVALID_ARGUMENT', 'INSTANCE_MISMATCH', `The data set's ${key} is not the one that was announced for it.`);
  }
}

function assertWhole(source: IngestSource, bytes: number, digests: InstanceDigests): void {
  const { expected } = source;
  const isOtherLength = expected?.bytes !== undefined && expected.bytes !== bytes;
  if (isOtherLength || (expected?.sha256 !== undefined && !expected.sha256.equals(digests.sha256))) {
    throw new MeshError(
      'DATA_LOSS',
      'DIGEST_MISMATCH',
      'The bytes that arrived are not the ones that were announced: their SHA-256 or their length differs. Fetch the object again.',
    );
  }
}

function withoutPadding(uid: string): string {
  return uid.replace(/[\0 ]+$/, '');
}
