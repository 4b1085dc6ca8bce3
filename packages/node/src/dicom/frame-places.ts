import { MeshError } from '@meridian/shared/errors';

/** Reads bytes of a data set; fewer than asked for only at its end. */
export type ReadAt = (offset: number, length: number) => Promise<Buffer>;

/** A run of bytes of the data set. */
export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

/** One frame as stored. */
export interface FramePlace {
  /** In this order; more than one where the frame is in several fragments. */
  readonly ranges: readonly ByteRange[];
  /** Native 1-bit frames may begin within a byte: bits of the first byte that belong to the frame before (lowest first). */
  readonly bitOffset: number;
}

/** Reads a whole range. @throws MeshError DATA_LOSS / PIXEL_DATA_BROKEN where the bytes end before it does */
export async function readWhole(read: ReadAt, { offset, length }: ByteRange): Promise<Buffer> {
  const bytes = await read(offset, length);
  if (bytes.length < length) throw pixelDataBroken();
  return bytes;
}

/** The stored pixel data is not as its header says. */
export function pixelDataBroken(): MeshError {
  return new MeshError(
    'DATA_LOSS',
    'PIXEL_DATA_BROKEN',
    'The pixel data of the instance is shorter or shaped otherwise than its header says.',
  );
}
