import { promisify } from 'node:util';
import { inflateRaw } from 'node:zlib';
import { MeshError } from '@meridian/shared/errors';
import { coerceDataset, type Coercion } from '../dicom/coerce.ts';
import type { ReadAt } from '../dicom/frames.ts';
import type { DicomJson } from '../dicom/json.ts';
import { part10Prefix } from '../dicom/part10.ts';
import { pixelDataOf } from '../dicom/pixel-data-place.ts';
import { encodingOf, EXPLICIT_VR_LITTLE_ENDIAN } from '../dicom/transfer-syntaxes.ts';
import type { InstanceRow } from '../store/rows.ts';
import type { StudyReader } from '../store/study-reader.ts';
import type { MemoryBudget } from './memory-budget.ts';

const inflate = promisify(inflateRaw);
/** A header that is rewritten is held whole; so is a deflated data set that must be looked into. */
const MAX_HELD_BYTES = 256 * 1024 * 1024;
/** What all requests may hold of objects together: the largest one, deflated and inflated. */
export const READ_MEMORY_BYTES = 2 * MAX_HELD_BYTES;

/** Where objects are read from, and the memory they may take meanwhile. */
export interface DataSetSource {
  readonly studies: StudyReader;
  readonly memory: MemoryBudget;
}

/** The syntax an instance is served in: deflated ones whose header is rewritten are inflated, all others stay. */
export function servedTransferSyntax(row: InstanceRow, coercion: Coercion | undefined): string {
  return coercion !== undefined && encodingOf(row.transferSyntaxUid).deflated ? EXPLICIT_VR_LITTLE_ENDIAN : row.transferSyntaxUid;
}

/**
 * A Part 10 file of an instance: our prefix and the stored data set bytes, or those with a rewritten header where a
 * copy is served under a local patient. Pixel data is streamed.
 */
export async function* part10File(
  { studies, memory }: DataSetSource,
  row: InstanceRow,
  coercion: Coercion | undefined,
): AsyncGenerator<Buffer> {
  const prefix = part10Prefix({
    sopClassUid: row.sopClassUid,
    sopInstanceUid: row.sopInstanceUid,
    transferSyntaxUid: servedTransferSyntax(row, coercion),
  });
  if (coercion === undefined) {
    yield prefix;
    yield* studies.openDataSet(row) as AsyncIterable<Buffer>;
    return;
  }
  const { deflated } = encodingOf(row.transferSyntaxUid);
  const pixels = deflated ? undefined : pixelDataOf(await studies.header(row.sopInstanceUid), row.transferSyntaxUid);
  const headerLength = pixels?.elementOffset ?? row.bytes;
  const header = deflated ? await inflated({ studies, memory }, row) : await held({ studies, memory }, row, headerLength);
  try {
    // Before the first byte: what cannot be rewritten is then an answer of its own, not a file that breaks off.
    const rewritten = coerceDataset({ ...coercion, headerBytes: header.bytes, transferSyntaxUid: row.transferSyntaxUid });
    yield prefix;
    yield rewritten;
  } finally {
    header.release();
  }
  if (pixels !== undefined)
    yield* studies.openDataSet(row, { offset: headerLength, length: row.bytes - headerLength }) as AsyncIterable<Buffer>;
}

/** Bytes of the file that {@link part10File} gives without a coercion. */
export function part10Length(row: InstanceRow): number {
  return part10Prefix(row).length + row.bytes;
}

/**
 * Random access to a data set, in the bytes that its header JSON counts: inflated where it is deflated.
 * `release` when nothing is read any more.
 */
export async function dataSetReader(
  source: DataSetSource,
  row: InstanceRow,
): Promise<{ readonly read: ReadAt; readonly release: () => void }> {
  if (!encodingOf(row.transferSyntaxUid).deflated)
    return { read: (offset, length) => source.studies.readDataSet(row, offset, length), release: () => undefined };
  const { bytes, release } = await inflated(source, row);
  return { read: async (offset, length) => bytes.subarray(offset, offset + length), release };
}

/** Every BulkDataURI of a header, as the header reader wrote it. */
export function bulkReferences(dataset: DicomJson): Set<string> {
  const found = new Set<string>();
  const walk = (items: DicomJson): void => {
    for (const element of Object.values(items)) {
      if (element.BulkDataURI !== undefined) found.add(element.BulkDataURI);
      else if (element.vr === 'SQ') for (const item of element.Value ?? []) walk(item as DicomJson);
    }
  };
  walk(dataset);
  return found;
}

interface HeldBytes {
  readonly bytes: Buffer;
  readonly release: () => void;
}

/** The first bytes of a data set, with room for what is made of them. */
async function held({ studies, memory }: DataSetSource, row: InstanceRow, length: number): Promise<HeldBytes> {
  assertHoldable(length);
  const { release } = await memory.take(length * 2);
  try {
    return { bytes: await studies.readDataSet(row, 0, length), release };
  } catch (thrown) {
    release();
    throw thrown;
  }
}

async function inflated({ studies, memory }: DataSetSource, row: InstanceRow): Promise<HeldBytes> {
  assertHoldable(row.bytes);
  // How much it will be is known only afterwards.
  const taken = await memory.take(row.bytes + MAX_HELD_BYTES);
  try {
    const bytes = await inflate(await studies.readDataSet(row, 0, row.bytes), { maxOutputLength: MAX_HELD_BYTES });
    taken.shrinkTo(bytes.length);
    return { bytes, release: taken.release };
  } catch (error) {
    taken.release();
    if (error instanceof MeshError) throw error;
    throw new MeshError('DATA_LOSS', 'DATA_SET_BROKEN', 'The deflated data set of this object cannot be inflated.', { cause: error });
  }
}

function assertHoldable(length: number): void {
  if (length > MAX_HELD_BYTES)
    throw new MeshError('RESOURCE_EXHAUSTED', 'HEADER_TOO_LARGE', 'This object is too large to be served under the local patient id.');
}
