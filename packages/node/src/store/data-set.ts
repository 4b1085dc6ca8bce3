import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { MeshError } from '@meridian/shared/errors';
import type { InstanceRow } from './rows.ts';

const READ_BYTES = 256 * 1024;

/**
 * Streams bytes of a data set as stored.
 * @param range offset and length in the data set; what lies beyond its end is an error of the stream.
 */
export function openDataSet(row: InstanceRow, range?: { readonly offset: number; readonly length: number }): Readable {
  const { offset, length } = range ?? { offset: 0, length: row.bytes };
  assertRange(row, offset, length);
  if (length === 0) return Readable.from([]);
  const start = row.dataSetOffset + offset;
  return createReadStream(row.path, { start, end: start + length - 1, highWaterMark: READ_BYTES });
}

/** Bytes of a data set as stored. */
export async function readDataSet(row: InstanceRow, offset: number, length: number): Promise<Buffer> {
  assertRange(row, offset, length);
  const bytes = Buffer.allocUnsafeSlow(length);
  let at = 0;
  try {
    const file = await open(row.path, 'r');
    try {
      while (at < length) {
        const { bytesRead } = await file.read(bytes, at, length - at, row.dataSetOffset + offset + at);
        if (bytesRead === 0) break;
        at += bytesRead;
      }
    } finally {
      await file.close();
    }
  } catch (thrown) {
    throw unreadable(row, thrown);
  }
  if (at < length) throw unreadable(row);
  return bytes;
}

function assertRange(row: InstanceRow, offset: number, length: number): void {
  if (offset < 0 || length < 0 || offset + length > row.bytes)
    throw new MeshError(
      'OUT_OF_RANGE',
      'RANGE_BEYOND_DATA_SET',
      `The data set has ${row.bytes} bytes; the range asked for does not lie within them.`,
    );
}

function unreadable(row: InstanceRow, cause?: unknown): MeshError {
  return new MeshError(
    'DATA_LOSS',
    'BLOB_UNREADABLE',
    'The file of this instance is missing, short or unreadable. Check the disk, or fetch the instance again from another holder.',
    {
      cause,
      details: { sopInstanceUid: row.sopInstanceUid },
    },
  );
}
