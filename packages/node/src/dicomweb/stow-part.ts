import { asMeshError, MeshError } from '@meridian/shared/errors';
import { readPart10Start, type Part10Start } from '../dicom/part10.ts';
import type { Ingest, IngestOutcome, IngestSource, InstanceSink } from '../store/ingest.ts';

/** What became of one part of a STOW request. UIDs of a refused one are those its file meta information states, if it got so far. */
export type PartOutcome =
  | { readonly kind: 'stored'; readonly outcome: IngestOutcome }
  | { readonly kind: 'refused'; readonly error: MeshError; readonly sopClassUid?: string; readonly sopInstanceUid?: string };

/** File meta information beyond this is refused: real ones are below 1 KiB. */
const MAX_START_BYTES = 1024 * 1024;

/**
 * Stores one Part 10 file as its bytes come: the data set goes to the ingest, byte for byte; the file meta information
 * is read and let go, for the store writes its own. Errors of the file are an outcome; errors of the connection are thrown.
 */
export async function storePart(parts: {
  body: AsyncIterable<Buffer>;
  ingest: Ingest;
  source: Omit<IngestSource, 'transferSyntaxUid'>;
}): Promise<PartOutcome> {
  const chunks = parts.body[Symbol.asyncIterator]();
  let sink: InstanceSink | undefined;
  let start: Part10Start | undefined;
  try {
    const opened = await readStart(chunks);
    start = opened.start;
    sink = parts.ingest.begin({ ...parts.source, transferSyntaxUid: start.transferSyntaxUid });
    await pour(sink, opened.rest, chunks);
    return { kind: 'stored', outcome: await sink.end() };
  } catch (thrown) {
    await sink?.abort();
    if (isConnectionLost(thrown)) throw thrown;
    return { kind: 'refused', error: asMeshError(thrown), ...uidsOf(start) };
  }
}

/** The sender went away in the middle of its request. */
export function isConnectionLost(thrown: unknown): boolean {
  return thrown instanceof Error && 'code' in thrown && (thrown.code === 'ECONNRESET' || thrown.code === 'ERR_STREAM_PREMATURE_CLOSE');
}

function uidsOf(start: Part10Start | undefined): { sopClassUid?: string; sopInstanceUid?: string } {
  return {
    ...(start?.sopClassUid === undefined ? {} : { sopClassUid: start.sopClassUid }),
    ...(start?.sopInstanceUid === undefined ? {} : { sopInstanceUid: start.sopInstanceUid }),
  };
}

async function readStart(chunks: AsyncIterator<Buffer>): Promise<{ start: Part10Start; rest: Buffer }> {
  let held: Buffer = Buffer.alloc(0);
  for (;;) {
    const { done, value } = await chunks.next();
    if (done !== true) held = held.length === 0 ? value : Buffer.concat([held, value]);
    const start = readPart10Start(held, { ended: done === true });
    if (start !== 'need-more') return { start, rest: held.subarray(start.metaEndOffset) };
    if (held.length > MAX_START_BYTES)
      throw new MeshError('INVALID_ARGUMENT', 'DICOM_NOT_PART10', 'The file meta information does not end.');
  }
}

async function pour(sink: InstanceSink, first: Buffer, chunks: AsyncIterator<Buffer>): Promise<void> {
  if (first.length > 0 && !sink.write(first)) await sink.drained();
  for (;;) {
    const { done, value } = await chunks.next();
    if (done === true) return;
    if (!sink.write(value)) await sink.drained();
  }
}
