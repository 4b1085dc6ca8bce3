import { MeshError } from '@meridian/shared/errors';

/** A varint of a length below 2^28 has at most four bytes; a fifth can only be garbage. */
const MAX_VARINT_BYTES = 4;

/** Cuts a byte stream into length-delimited frames (unsigned varint, as protobuf's writeDelimited). */
export interface FrameReader {
  /**
   * Takes the next bytes, in pieces of any size.
   * @returns the frames that are now whole; a frame that lay in one piece shares its memory.
   * @throws MeshError INVALID_ARGUMENT / FRAME_TOO_LARGE, FRAME_EMPTY or FRAME_LENGTH_INVALID; the stream cannot be read on.
   */
  push(piece: Uint8Array): Uint8Array[];
  /** Bytes of a frame that has begun and is not whole; 0 between frames. */
  readonly pendingBytes: number;
}

/** @param maxFrameBytes payloads above this are refused before a byte of them is kept. */
export function createFrameReader(maxFrameBytes: number): FrameReader {
  const prefix = createPrefixReader(maxFrameBytes);
  let body: Uint8Array | undefined;
  let filled = 0;

  function take(piece: Uint8Array, at: number, frames: Uint8Array[]): number {
    if (body === undefined) {
      const read = prefix.read(piece, at);
      if (read.length === undefined) return read.next;
      const end = read.next + read.length;
      if (end <= piece.length) {
        frames.push(piece.subarray(read.next, end));
        return end;
      }
      body = Buffer.allocUnsafe(read.length);
      filled = 0;
      return read.next;
    }
    const count = Math.min(body.length - filled, piece.length - at);
    body.set(piece.subarray(at, at + count), filled);
    filled += count;
    if (filled === body.length) {
      frames.push(body);
      body = undefined;
    }
    return at + count;
  }

  return {
    push(piece) {
      const frames: Uint8Array[] = [];
      let at = 0;
      while (at < piece.length) at = take(piece, at, frames);
      return frames;
    },
    get pendingBytes() {
      return body === undefined ? prefix.pendingBytes : filled + 1;
    },
  };
}

interface PrefixReader {
  read(piece: Uint8Array, at: number): { length: number | undefined; next: number };
  readonly pendingBytes: number;
}

function createPrefixReader(maxFrameBytes: number): PrefixReader {
  let value = 0;
  let count = 0;
  return {
    read(piece, at) {
      for (let next = at; next < piece.length;) {
        const byte = piece[next++]!;
        value |= (byte & 0x7f) << (7 * count++);
        if ((byte & 0x80) !== 0) {
          if (count === MAX_VARINT_BYTES)
            throw new MeshError(
              'INVALID_ARGUMENT',
              'FRAME_LENGTH_INVALID',
              'The other end sent bytes that are no frames of this protocol.',
            );
          continue;
        }
        const length = value;
        value = 0;
        count = 0;
        if (length > maxFrameBytes)
          throw new MeshError(
            'INVALID_ARGUMENT',
            'FRAME_TOO_LARGE',
            `The other end announced a frame of ${length} bytes; ${maxFrameBytes} is the limit.`,
          );
        if (length === 0) throw new MeshError('INVALID_ARGUMENT', 'FRAME_EMPTY', 'The other end sent an empty frame.');
        return { length, next };
      }
      return { length: undefined, next: piece.length };
    },
    get pendingBytes() {
      return count;
    },
  };
}

/** The length prefix that stands before a frame of `length` bytes. */
export function framePrefix(length: number): Uint8Array {
  const bytes: number[] = [];
  let rest = length;
  while (rest > 0x7f) {
    bytes.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  bytes.push(rest);
  return Uint8Array.from(bytes);
}

/** One frame as it stands on the wire. */
export function encodeFrame(payload: Uint8Array): Uint8Array {
  const prefix = framePrefix(payload.length);
  const frame = Buffer.allocUnsafe(prefix.length + payload.length);
  frame.set(prefix, 0);
  frame.set(payload, prefix.length);
  return frame;
}
