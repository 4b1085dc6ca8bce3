/** What the head of a compressed image says of itself. */
export interface CodestreamSize {
  readonly width: number;
  readonly height: number;
  readonly components: number;
  /** Bits of a sample. */
  readonly bits: number;
  /** JPEG: number of the SOF marker (0xC0 baseline, 0xC3 lossless, 0xF7 JPEG-LS…); JPEG 2000: 0x51. */
  readonly marker: number;
}

/** Reads the size from a JPEG, JPEG-LS or JPEG 2000 codestream before a decoder is trusted with it; undefined where there is none. */
export function codestreamSize(bytes: Uint8Array): CodestreamSize | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 4) return undefined;
  const first = view.getUint16(0);
  if (first === 0xff4f) return sizeOfJ2k(view, 2);
  if (first === 0xffd8) return sizeOfJpeg(view);
  // A JP2 box file around the codestream, which some writers store against PS3.5 A.4.4.
  const at = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 4096)).indexOf(Buffer.from([0xff, 0x4f, 0xff, 0x51]));
  return at > 0 ? sizeOfJ2k(view, at + 2) : undefined;
}

function sizeOfJ2k(view: DataView, at: number): CodestreamSize | undefined {
  if (view.byteLength < at + 41 || view.getUint16(at) !== 0xff51) return undefined;
  return {
    marker: 0x51,
    width: view.getUint32(at + 6) - view.getUint32(at + 14),
    height: view.getUint32(at + 10) - view.getUint32(at + 18),
    components: view.getUint16(at + 38),
    bits: (view.getUint8(at + 40) & 0x7f) + 1,
  };
}

function sizeOfJpeg(view: DataView): CodestreamSize | undefined {
  let at = 2;
  while (at + 4 <= view.byteLength) {
    if (view.getUint8(at) !== 0xff) return undefined;
    const marker = view.getUint8(at + 1);
    if (marker === 0xff) {
      at += 1;
      continue;
    }
    const isFrame = (marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc) || marker === 0xf7;
    if (isFrame) {
      if (at + 10 > view.byteLength) return undefined;
      return {
        marker,
        bits: view.getUint8(at + 4),
        height: view.getUint16(at + 5),
        width: view.getUint16(at + 7),
        components: view.getUint8(at + 9),
      };
    }
    at += 2 + view.getUint16(at + 2);
  }
  return undefined;
}
