import { inflateRawSync } from 'node:zlib';
import { MeshError } from '@meridian/shared/errors';
import { encodingOf, transferSyntax } from '../../dicom/transfer-syntaxes.ts';
import { decodeCompressed } from './codecs.ts';
import type { DecodedFrame } from './decoded-frame.ts';
import type { ImageDescription } from './image-description.ts';
import { brokenPixels, decodeRle } from './rle.ts';

const RLE_LOSSLESS = '1.2.840.10008.1.2.5';
const DEFLATED_FRAME = '1.2.840.10008.1.2.8.1';
const ENCAPSULATED_UNCOMPRESSED = '1.2.840.10008.1.2.1.98';

/**
 * Decodes one frame of any transfer syntax that can be shown.
 * @throws MeshError UNIMPLEMENTED / TRANSFER_SYNTAX_NOT_RENDERED; DATA_LOSS / PIXELS_BROKEN
 */
export async function decodeFrame(frame: Uint8Array, image: ImageDescription): Promise<DecodedFrame> {
  const syntax = encodingOf(image.transferSyntaxUid);
  if (!syntax.encapsulated || image.transferSyntaxUid === ENCAPSULATED_UNCOMPRESSED) return decodeNative(frame, image);
  if (image.transferSyntaxUid === DEFLATED_FRAME) return decodeNative(inflate(frame, nativeBytes(image)), image);
  if (image.transferSyntaxUid === RLE_LOSSLESS) return decodeRleFrame(frame, image);
  const decoded = await decodeCompressed(frame, image);
  if (decoded !== undefined) return decoded;
  throw new MeshError(
    'UNIMPLEMENTED',
    'TRANSFER_SYNTAX_NOT_RENDERED',
    `This node cannot show pixels compressed as ${transferSyntax(image.transferSyntaxUid)?.name ?? image.transferSyntaxUid}. Retrieve the object as it is stored.`,
    { details: { transferSyntaxUid: image.transferSyntaxUid } },
  );
}

function pixelsOf(image: ImageDescription): number {
  return image.rows * image.columns;
}

/** Bytes of one native frame (PS3.5 8.1). */
function nativeBytes(image: ImageDescription): number {
  if (image.bitsAllocated === 1) return Math.ceil(pixelsOf(image) / 8);
  if (image.photometricInterpretation === 'YBR_FULL_422' && image.samplesPerPixel === 3) return pixelsOf(image) * 2;
  return pixelsOf(image) * image.samplesPerPixel * (image.bitsAllocated / 8);
}

function inflate(frame: Uint8Array, maxBytes: number): Uint8Array {
  try {
    return inflateRawSync(frame, { maxOutputLength: maxBytes + 2 });
  } catch (error) {
    throw brokenPixels(error);
  }
}

function decodeNative(frame: Uint8Array, image: ImageDescription): DecodedFrame {
  if (frame.length < nativeBytes(image)) throw brokenPixels();
  const { samplesPerPixel, photometricInterpretation } = image;
  const base = { samplesPerPixel, photometricInterpretation, aligned: false };
  if (image.bitsAllocated === 1) return { ...base, samples: unpackBitmap(frame, pixelsOf(image)), aligned: true };
  if (photometricInterpretation === 'YBR_FULL_422' && samplesPerPixel === 3)
    return { ...base, samples: widen422(frame, pixelsOf(image)), photometricInterpretation: 'YBR_FULL' };
  const samples = words(frame, pixelsOf(image) * samplesPerPixel, image.bitsAllocated);
  return { ...base, samples: samplesPerPixel > 1 && image.planarConfiguration === 1 ? interleave(samples, samplesPerPixel) : samples };
}

/** Frames are read as little endian, whatever they are stored in. */
function words(bytes: Uint8Array, count: number, bits: number): Uint8Array | Uint16Array | Uint32Array {
  if (bits === 8) return bytes.subarray(0, count);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bits === 16) {
    const out = new Uint16Array(count);
    for (let at = 0; at < count; at += 1) out[at] = view.getUint16(at * 2, true);
    return out;
  }
  const out = new Uint32Array(count);
  for (let at = 0; at < count; at += 1) out[at] = view.getUint32(at * 4, true);
  return out;
}

function interleave<Samples extends Uint8Array | Uint16Array | Uint32Array>(planar: Samples, planes: number): Samples {
  const out = planar.slice() as Samples;
  const length = planar.length / planes;
  for (let plane = 0; plane < planes; plane += 1) {
    for (let at = 0; at < length; at += 1) out[at * planes + plane] = planar[plane * length + at] ?? 0;
  }
  return out;
}

function unpackBitmap(bytes: Uint8Array, count: number): Uint8Array {
  return Uint8Array.from({ length: count }, (_, at) => ((bytes[at >> 3] ?? 0) >> (at & 7)) & 1);
}

/** Y1 Y2 Cb Cr for each two pixels (PS3.3 C.7.6.3.1.2). */
function widen422(bytes: Uint8Array, pixels: number): Uint8Array {
  const out = new Uint8Array(pixels * 3);
  for (let at = 0; at < pixels; at += 1) {
    const from = (at >> 1) * 4;
    out[at * 3] = bytes[from + (at & 1)] ?? 0;
    out[at * 3 + 1] = bytes[from + 2] ?? 0;
    out[at * 3 + 2] = bytes[from + 3] ?? 0;
  }
  return out;
}

function decodeRleFrame(frame: Uint8Array, image: ImageDescription): DecodedFrame {
  const bytesPerSample = image.bitsAllocated / 8;
  if (!Number.isInteger(bytesPerSample)) throw brokenPixels();
  const pixels = pixelsOf(image);
  const planes = decodeRle(frame, image.samplesPerPixel * bytesPerSample, pixels);
  const count = pixels * image.samplesPerPixel;
  const samples = bytesPerSample === 1 ? new Uint8Array(count) : bytesPerSample === 2 ? new Uint16Array(count) : new Uint32Array(count);
  planes.forEach((plane, index) => {
    const sample = Math.floor(index / bytesPerSample);
    const shift = (bytesPerSample - 1 - (index % bytesPerSample)) * 8;
    for (let at = 0; at < pixels; at += 1) {
      const to = at * image.samplesPerPixel + sample;
      samples[to] = ((samples[to] ?? 0) | ((plane[at] ?? 0) << shift)) >>> 0;
    }
  });
  return {
    samples,
    samplesPerPixel: image.samplesPerPixel,
    photometricInterpretation: image.photometricInterpretation === 'YBR_FULL_422' ? 'YBR_FULL' : image.photometricInterpretation,
    aligned: false,
  };
}
