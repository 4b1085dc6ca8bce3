import { createHash } from 'node:crypto';
import type { PixelDataPlace } from '../dicom/header-reader.ts';

/** Bytes of a chunk that has a digest of its own, so that a bad one of a large object is found and fetched alone. */
export const CHUNK_BYTES = 1024 * 1024;

/** SHA-256 digests of one data set. */
export interface InstanceDigests {
  readonly sha256: Buffer;
  /** Over the value of the pixel data, of encapsulated data with its item headers; undefined where it was not hashed. */
  readonly pixelSha256: Buffer | undefined;
  /** Of every {@link CHUNK_BYTES}, joined; only of objects longer than that. */
  readonly chunkSha256: Buffer | undefined;
}

/** Hashes a data set as it comes. */
export interface Digester {
  /** @param pixelData where the header reader has found pixel data until now. */
  update(chunk: Buffer, pixelData: PixelDataPlace | undefined): void;
  finish(pixelData: PixelDataPlace | undefined): InstanceDigests;
}

/** Opens the digests of one data set. @param options.pixels false where offsets do not count stored bytes (deflated syntaxes) */
export function openDigester(options: { pixels: boolean }): Digester {
  const whole = createHash('sha256');
  const pixels = createHash('sha256');
  const chunks: Buffer[] = [];
  let chunkHash = whole;
  let totalBytes = 0;
  let pixelEnd = 0;

  const hashWhole = (chunk: Buffer): void => {
    let at = 0;
    while (at < chunk.length) {
      const step = Math.min(CHUNK_BYTES - (totalBytes % CHUNK_BYTES), chunk.length - at);
      const part = at === 0 && step === chunk.length ? chunk : chunk.subarray(at, at + step);
      whole.update(part);
      // The first chunk's digest is the whole's at that point: most objects need no second hash.
      if (chunkHash !== whole) chunkHash.update(part);
      at += step;
      totalBytes += step;
      if (totalBytes % CHUNK_BYTES === 0) {
        chunks.push(chunkHash === whole ? whole.copy().digest() : chunkHash.digest());
        chunkHash = createHash('sha256');
      }
    }
  };

  const hashPixels = (chunk: Buffer, chunkStart: number, place: PixelDataPlace): void => {
    // The end of encapsulated data is known with the chunk that holds its delimiter.
    const length = place.length === 'undefined' && place.totalBytes === 0 ? Infinity : place.totalBytes;
    const end = place.offset + length;
    const from = Math.max(place.offset - chunkStart, 0);
    const to = Math.min(end - chunkStart, chunk.length);
    if (from >= to) return;
    pixels.update(from === 0 && to === chunk.length ? chunk : chunk.subarray(from, to));
    pixelEnd = chunkStart + to;
  };

  return {
    update: (chunk, pixelData) => {
      const chunkStart = totalBytes;
      hashWhole(chunk);
      if (options.pixels && pixelData !== undefined) hashPixels(chunk, chunkStart, pixelData);
    },
    finish: (pixelData) => {
      if (totalBytes > CHUNK_BYTES && totalBytes % CHUNK_BYTES !== 0) chunks.push(chunkHash.digest());
      // No digest rather than a wrong one.
      const isExact = pixelData !== undefined && pixelEnd === pixelData.offset + pixelData.totalBytes;
      return {
        sha256: whole.digest(),
        pixelSha256: options.pixels && isExact ? pixels.digest() : undefined,
        chunkSha256: totalBytes > CHUNK_BYTES ? Buffer.concat(chunks) : undefined,
      };
    },
  };
}
