import { MeshError } from '@meridian/shared/errors';

/**
 * Decodes one RLE frame (PS3.5 Annex G) into its byte planes, most significant byte of the first sample first.
 * @param planeBytes pixels of the frame: the length of each plane.
 * @throws MeshError DATA_LOSS / PIXELS_BROKEN
 */
export function decodeRle(frame: Uint8Array, planes: number, planeBytes: number): Uint8Array[] {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  if (frame.length < 64 || view.getUint32(0, true) !== planes) throw brokenPixels();
  return Array.from({ length: planes }, (_, plane) => {
    const from = view.getUint32(4 + plane * 4, true);
    const to = plane + 1 < planes ? view.getUint32(8 + plane * 4, true) : frame.length;
    if (from < 64 || from > to || to > frame.length) throw brokenPixels();
    return unpackBits(frame.subarray(from, to), planeBytes);
  });
}

function unpackBits(packed: Uint8Array, length: number): Uint8Array {
  const out = new Uint8Array(length);
  let at = 0;
  let to = 0;
  while (at < packed.length && to < length) {
    const control = packed[at] ?? 0;
    at += 1;
    if (control < 128) {
      const literal = packed.subarray(at, at + Math.min(control + 1, length - to));
      out.set(literal, to);
      at += control + 1;
      to += literal.length;
    } else if (control > 128) {
      const run = Math.min(257 - control, length - to);
      out.fill(packed[at] ?? 0, to, to + run);
      at += 1;
      to += run;
    }
  }
  if (to < length) throw brokenPixels();
  return out;
}

/** The compressed pixels are not whole or contradict the header. */
export function brokenPixels(cause?: unknown): MeshError {
  return new MeshError(
    'DATA_LOSS',
    'PIXELS_BROKEN',
    'The pixels of this frame cannot be decoded: they are damaged or do not fit the attributes of the object.',
    { cause },
  );
}
