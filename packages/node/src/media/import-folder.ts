import { asMeshError, MeshError } from '@meridian/shared/errors';
import type { Clock } from '@meridian/shared/platform/clock';
import { readPart10Start, type Part10Start } from '../dicom/part10.ts';
import type { ImportProgress, ImportResult } from '../store/import-result.ts';
import type { FolderEntry, FolderReader } from './folder-reader.ts';

/** Where the objects go: the one entrance of the store. */
export interface ImportIngest {
  begin(source: {
    readonly door: 'import';
    readonly transferSyntaxUid: string;
    readonly assigningAuthority: string;
    readonly foreignIds: boolean;
    readonly associationId: string;
    readonly expected?: { readonly sopClassUid?: string; readonly sopInstanceUid?: string };
  }): ImportSink;
  associationOpened(id: string): void;
  associationActive(id: string): void;
  associationClosed(id: string, how: 'released' | 'aborted'): void;
}

/** One object on its way in. */
export interface ImportSink {
  write(chunk: Buffer): boolean;
  drained(): Promise<void>;
  end(): Promise<{ readonly outcome: 'stored' | 'duplicate' | 'quarantined'; readonly bytes: number }>;
  abort(): Promise<void>;
}

/** Objects on their way at one time: enough to share each flush, few enough for a hard disk. */
const AT_ONCE = 8;
/** Refusals listed by name; more are counted only. */
const REFUSED_LISTED = 1000;
/** How much of a file's start is read to find its data set, step by step. */
const HEAD_STEPS = [4096, 65_536, 1_048_576];
/** Media storage directory: a table of contents, not an image (PS3.3 F). */
const DICOMDIR_SOP_CLASS = '1.2.840.10008.1.3.10';

interface Tally {
  files: number;
  bytes: number;
  stored: number;
  duplicates: number;
  quarantined: number;
  refusedTotal: number;
  readonly refused: { file: string; reason: string; message: string }[];
  readonly skipped: Record<string, number>;
}

/**
 * Stores every DICOM file under a folder. Files that are no DICOM are counted, not refused; one bad file stops nothing.
 * @param assigningAuthority of patient ids that name no issuer.
 * @param foreignIds they are another hospital's: an issuer that a file names counts within that authority alone.
 * @throws MeshError NOT_FOUND FOLDER_ABSENT, RESOURCE_EXHAUSTED DISK_FULL (what was stored before stays)
 */
export async function importFolder(
  {
    folder,
    assigningAuthority,
    foreignIds,
    associationId,
    signal,
    onProgress,
  }: {
    folder: string;
    assigningAuthority: string;
    foreignIds: boolean;
    associationId: string;
    signal: AbortSignal;
    onProgress: (progress: ImportProgress) => void;
  },
  { ingest, reader, clock }: { ingest: ImportIngest; reader: FolderReader; clock: Clock },
): Promise<ImportResult> {
  const tally: Tally = { files: 0, bytes: 0, stored: 0, duplicates: 0, quarantined: 0, refusedTotal: 0, refused: [], skipped: {} };
  const startedMs = clock.monotonicMs();
  let fatal: MeshError | undefined;
  const running = new Set<Promise<void>>();
  const nameOf = (path: string): string => path.slice(folder.length).replace(/^[/\\]+/, '') || path;

  async function one(entry: FolderEntry): Promise<void> {
    try {
      await importOne(entry, tally, { ingest, reader, assigningAuthority, foreignIds, associationId, signal });
    } catch (thrown) {
      const error = asMeshError(thrown);
      // Every later file would meet the same: stop and say it once.
      if (error.code === 'RESOURCE_EXHAUSTED') fatal ??= error;
      tally.refusedTotal += 1;
      if (tally.refused.length < REFUSED_LISTED)
        tally.refused.push({ file: nameOf(entry.path), reason: error.reason, message: error.message });
    }
    ingest.associationActive(associationId);
    onProgress(progressOf(tally));
  }

  ingest.associationOpened(associationId);
  let how: 'released' | 'aborted' = 'aborted';
  try {
    for await (const entry of reader.walk(folder)) {
      if (signal.aborted || fatal !== undefined) break;
      const task = one(entry).finally(() => running.delete(task));
      running.add(task);
      if (running.size >= AT_ONCE) await Promise.race(running);
    }
    await Promise.all(running);
    if (fatal !== undefined) throw fatal;
    how = 'released';
  } finally {
    await Promise.all(running);
    ingest.associationClosed(associationId, how);
  }
  return { ...tally, assigningAuthority, cancelled: signal.aborted, elapsedMs: Math.round(clock.monotonicMs() - startedMs) };
}

interface OneParts {
  readonly ingest: ImportIngest;
  readonly reader: FolderReader;
  readonly assigningAuthority: string;
  readonly foreignIds: boolean;
  readonly associationId: string;
  readonly signal: AbortSignal;
}

async function importOne(entry: FolderEntry, tally: Tally, parts: OneParts): Promise<void> {
  if ('skip' in entry) return skip(tally, entry.skip.toUpperCase());
  tally.files += 1;
  const start = await startOf(entry, parts.reader);
  if (start === undefined) return skip(tally, 'NOT_DICOM');
  if (start.sopClassUid === DICOMDIR_SOP_CLASS) return skip(tally, 'DICOMDIR');
  const outcome = await store(entry.path, start, parts);
  tally.bytes += entry.bytes;
  if (outcome === 'stored') tally.stored += 1;
  else if (outcome === 'duplicate') tally.duplicates += 1;
  else tally.quarantined += 1;
}

async function startOf(entry: { path: string; bytes: number }, reader: FolderReader): Promise<Part10Start | undefined> {
  for (const length of HEAD_STEPS) {
    const head = await reader.head(entry.path, length);
    const ended = head.length >= entry.bytes || length === HEAD_STEPS.at(-1);
    try {
      const start = readPart10Start(head, { ended });
      if (start !== 'need-more') return start;
    } catch (thrown) {
      if (thrown instanceof MeshError && thrown.reason === 'DICOM_NOT_PART10') return undefined;
      throw thrown;
    }
  }
  return undefined;
}

async function store(
  path: string,
  start: Part10Start,
  { ingest, reader, assigningAuthority, foreignIds, associationId, signal }: OneParts,
): Promise<'stored' | 'duplicate' | 'quarantined'> {
  const sink = ingest.begin({ door: 'import', transferSyntaxUid: start.transferSyntaxUid, assigningAuthority, foreignIds, associationId });
  let ended = false;
  try {
    for await (const chunk of reader.read(path, start.metaEndOffset)) {
      if (signal.aborted)
        throw new MeshError(
          'CANCELLED',
          'IMPORT_CANCELLED',
          'The import was stopped before this file was stored. Import the folder again: what is stored is recognised.',
        );
      if (!sink.write(chunk)) await sink.drained();
    }
    ended = true;
    return (await sink.end()).outcome;
  } finally {
    if (!ended) await sink.abort();
  }
}

function skip(tally: Tally, reason: string): void {
  tally.skipped[reason] = (tally.skipped[reason] ?? 0) + 1;
}

function progressOf({ files, bytes, stored, duplicates, quarantined, refusedTotal, skipped }: Tally): ImportProgress {
  return {
    files,
    bytes,
    stored,
    duplicates,
    quarantined,
    refused: refusedTotal,
    skipped: Object.values(skipped).reduce((sum, count) => sum + count, 0),
  };
}
