import { Inflate } from 'fflate';
import { refuse } from './header-limits.ts';
import type { HeaderLimits } from './header-limits.ts';

/** Deflated bytes that are inflated at a time: at the most (ratio 1032) about 4 MiB come out. */
const SLICE_BYTES = 4096;

/** An inflater of one raw deflate stream (PS3.5 A.5), given in pieces. */
export interface InflateStream {
  push(chunk: Buffer): void;
  /** @throws MeshError DICOM_TRUNCATED where the deflate stream has not ended. */
  finish(): void;
}

/**
 * Inflates under a cap of size and ratio, so that no more than a few MiB are ever made from one small piece.
 * @param onBytes is given the inflated bytes; they are only lent.
 * @throws MeshError (from push) DICOM_DEFLATE_BOMB, DICOM_DEFLATE_BROKEN
 */
export function openInflateStream(limits: HeaderLimits, onBytes: (bytes: Buffer) => void): InflateStream {
  let takenBytes = 0;
  let inflatedBytes = 0;
  let ended = false;
  const waiting = Buffer.alloc(SLICE_BYTES);
  let waitingBytes = 0;
  const inflate = new Inflate((bytes, final) => {
    inflatedBytes += bytes.length;
    ended ||= final;
    if (inflatedBytes > limits.maxInflatedBytes) throw refuse('DICOM_DEFLATE_BOMB');
    if (inflatedBytes > limits.inflateGraceBytes && inflatedBytes > takenBytes * limits.maxInflateRatio) throw refuse('DICOM_DEFLATE_BOMB');
    if (bytes.length > 0) onBytes(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
  });

  const feed = (slice: Buffer, final: boolean): void => {
    takenBytes += slice.length;
    try {
      // fflate keeps what it was given: a copy, because the caller's chunk is only lent.
      inflate.push(Uint8Array.from(slice), final);
    } catch (error) {
      throw isInflateError(error) ? refuse(final && error.code === 0 ? 'DICOM_TRUNCATED' : 'DICOM_DEFLATE_BROKEN') : error;
    }
  };

  return {
    push(chunk) {
      let at = 0;
      while (at < chunk.length) {
        const step = Math.min(SLICE_BYTES - waitingBytes, chunk.length - at);
        chunk.copy(waiting, waitingBytes, at, at + step);
        waitingBytes += step;
        at += step;
        if (waitingBytes < SLICE_BYTES) return;
        waitingBytes = 0;
        feed(waiting, false);
      }
    },
    finish() {
      feed(waiting.subarray(0, waitingBytes), true);
      if (!ended) throw refuse('DICOM_TRUNCATED');
    },
  };
}

function isInflateError(error: unknown): error is Error & { readonly code: number } {
  return error instanceof Error && error.name !== 'MeshError' && 'code' in error && typeof error.code === 'number';
}
