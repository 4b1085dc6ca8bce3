import { codestreamSize } from './codestream.ts';
import type { DecodedFrame } from './decoded-frame.ts';
import type { ImageDescription } from './image-description.ts';
import { brokenPixels } from './rle.ts';

const JPEG_LOSSLESS = /^1\.2\.840\.10008\.1\.2\.4\.(57|58|70)$/;
const JPEG = /^1\.2\.840\.10008\.1\.2\.4\.(50|51|53|55)$/;
const JPEG_LS = /^1\.2\.840\.10008\.1\.2\.4\.8[01]$/;
const JPEG_2000 = /^1\.2\.840\.10008\.1\.2\.4\.9[01]$/;
const HTJ2K = /^1\.2\.840\.10008\.1\.2\.4\.20[123]$/;
const SOF_LOSSLESS = 0xc3;

/**
 * Decodes a frame of a compressed syntax; undefined where no codec here knows it (JPEG of 12 bits, video, JPEG XL…).
 * @throws MeshError DATA_LOSS / PIXELS_BROKEN, also where the codestream is of another size than the header says: a small
 * codestream may claim a picture of gigabytes.
 */
export async function decodeCompressed(frame: Uint8Array, image: ImageDescription): Promise<DecodedFrame | undefined> {
  const kind = codecOf(image.transferSyntaxUid);
  if (kind === undefined) return undefined;
  const size = codestreamSize(frame);
  if (
    size === undefined ||
    size.width !== image.columns ||
    size.height !== image.rows ||
    size.components !== image.samplesPerPixel ||
    size.bits > 16
  )
    throw brokenPixels();
  try {
    // What the codestream is decides, for some senders put lossless JPEG under the name of another process.
    if (size.marker === SOF_LOSSLESS) return await decodeJpegLossless(frame, image, size.bits);
    if (kind === 'jpeg' || kind === 'jpeg-lossless') return size.bits === 8 ? await decodeJpeg(frame, image) : undefined;
    return await decodeWith(await openDecoder(kind), frame, image);
  } catch (error) {
    throw brokenPixels(error);
  }
}

type WasmCodec = 'jpeg' | 'jpeg-ls' | 'jpeg-2000' | 'htj2k';
type Codec = WasmCodec | 'jpeg-lossless';

function codecOf(uid: string): Codec | undefined {
  if (JPEG_LOSSLESS.test(uid)) return 'jpeg-lossless';
  if (JPEG.test(uid)) return 'jpeg';
  if (JPEG_LS.test(uid)) return 'jpeg-ls';
  if (JPEG_2000.test(uid)) return 'jpeg-2000';
  return HTJ2K.test(uid) ? 'htj2k' : undefined;
}

const opened = new Map<Codec, Promise<new () => CodecDecoder>>();

/** A decoder of the thread's one instance of the codec: each instance holds its own WebAssembly memory for good. */
async function openDecoder(codec: WasmCodec): Promise<CodecDecoder> {
  let loading = opened.get(codec);
  if (loading === undefined) opened.set(codec, (loading = load(codec)));
  return new (await loading)();
}

async function load(codec: WasmCodec): Promise<new () => CodecDecoder> {
  // The codecs write progress to the console otherwise. The module takes the object over: each needs its own.
  const silent = { print: () => undefined, printErr: () => undefined };
  switch (codec) {
    case 'jpeg':
      return (await (await import('@cornerstonejs/codec-libjpeg-turbo-8bit/decodewasmjs')).default(silent)).JPEGDecoder;
    case 'jpeg-ls':
      return (await (await import('@cornerstonejs/codec-charls/decodewasmjs')).default(silent)).JpegLSDecoder;
    case 'jpeg-2000':
      return (await (await import('@cornerstonejs/codec-openjpeg/decodewasmjs')).default(silent)).J2KDecoder;
    case 'htj2k':
      return (await (await import('@cornerstonejs/codec-openjph/wasmjs')).default(silent)).HTJ2KDecoder;
  }
}

async function decodeWith(decoder: CodecDecoder, frame: Uint8Array, image: ImageDescription): Promise<DecodedFrame> {
  try {
    decoder.getEncodedBuffer(frame.length).set(frame);
    decoder.decode();
    const info = decoder.getFrameInfo();
    const count = image.rows * image.columns * image.samplesPerPixel;
    const decoded = decoder.getDecodedBuffer();
    const bytesPerSample = info.bitsPerSample <= 8 ? 1 : 2;
    if (decoded.length < count * bytesPerSample) throw brokenPixels();
    // A copy: the decoder's memory goes away with it.
    const bytes = decoded.slice(0, count * bytesPerSample);
    const samples = bytesPerSample === 1 ? bytes : new Uint16Array(bytes.buffer, 0, count);
    const planar = image.samplesPerPixel > 1 && decoder.getInterleaveMode?.() === 0;
    return {
      samples: planar ? interleaved(samples, image.samplesPerPixel) : samples,
      samplesPerPixel: image.samplesPerPixel,
      photometricInterpretation: afterCodec(image.photometricInterpretation),
      aligned: true,
    };
  } finally {
    decoder.delete();
  }
}

function interleaved(planar: Uint8Array | Uint16Array, planes: number): Uint8Array | Uint16Array {
  const out = planar.slice();
  const length = planar.length / planes;
  for (let at = 0; at < planar.length; at += 1) out[(at % length) * planes + Math.floor(at / length)] = planar[at] ?? 0;
  return out;
}

/** J2K codecs undo their own colour transforms. */
function afterCodec(photometricInterpretation: string): string {
  return photometricInterpretation === 'YBR_RCT' || photometricInterpretation === 'YBR_ICT' ? 'RGB' : photometricInterpretation;
}

async function decodeJpeg(frame: Uint8Array, image: ImageDescription): Promise<DecodedFrame> {
  // libjpeg takes three components for YCbCr unless a marker says otherwise; the header says RGB: add the marker.
  const bytes = image.photometricInterpretation === 'RGB' && !hasColourMarker(frame) ? withRgbMarker(frame) : frame;
  const decoded = await decodeWith(await openDecoder('jpeg'), bytes, image);
  return { ...decoded, photometricInterpretation: image.samplesPerPixel === 3 ? 'RGB' : image.photometricInterpretation };
}

function hasColourMarker(frame: Uint8Array): boolean {
  const head = Buffer.from(frame.buffer, frame.byteOffset, Math.min(frame.length, 512));
  return head.includes('Adobe') || head.includes('JFIF');
}

function withRgbMarker(frame: Uint8Array): Uint8Array {
  // APP14 "Adobe", version 100, transform 0: components are RGB.
  const marker = [0xff, 0xee, 0x00, 0x0e, 0x41, 0x64, 0x6f, 0x62, 0x65, 0x00, 0x64, 0, 0, 0, 0, 0];
  return Buffer.concat([frame.subarray(0, 2), Uint8Array.from(marker), frame.subarray(2)]);
}

async function decodeJpegLossless(frame: Uint8Array, image: ImageDescription, bits: number): Promise<DecodedFrame> {
  const { Decoder } = await import('jpeg-lossless-decoder-js');
  const owned = frame.slice();
  const decoded: unknown = new Decoder().decode(owned.buffer, 0, owned.length, bits <= 8 ? 1 : 2);
  const count = image.rows * image.columns * image.samplesPerPixel;
  if (!(decoded instanceof Uint8Array || decoded instanceof Uint16Array) || decoded.length < count) throw brokenPixels();
  return {
    samples: decoded.subarray(0, count),
    samplesPerPixel: image.samplesPerPixel,
    photometricInterpretation: image.photometricInterpretation,
    aligned: true,
  };
}
