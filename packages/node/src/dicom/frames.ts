import { MeshError } from '@meridian/shared/errors';
import { openEncapsulatedFrames } from './encapsulated-frames.ts';
import { pixelDataBroken, readWhole } from './frame-places.ts';
import type { ByteRange, FramePlace, ReadAt } from './frame-places.ts';
import { firstNumber, firstString } from './json.ts';
import type { DicomJson } from './json.ts';
import { pixelDataOf } from './pixel-data-place.ts';
import type { StoredPixelData } from './pixel-data-place.ts';
import { TAG } from './tags.ts';
import { encodingOf, isEncapsulated } from './transfer-syntaxes.ts';

export type { ByteRange, FramePlace, ReadAt } from './frame-places.ts';

/** The frames of one instance. */
export interface Frames {
  /** How many there are. */
  readonly count: number;
  readonly encapsulated: boolean;
  /** @param frame 1-based. @throws MeshError NOT_FOUND / FRAME_ABSENT, FAILED_PRECONDITION / FRAMES_NOT_SEPARABLE, DATA_LOSS / PIXEL_DATA_BROKEN */
  place(frame: number): Promise<FramePlace>;
  /** Bytes of a word that stands the other way round in the stored bytes than `read` gives it; 1 where none does. */
  readonly swappedBytes: number;
  /** Bytes of one frame as stored, not decoded, but little endian; 1-bit frames begin at bit 0. Throws as `place`, and RESOURCE_EXHAUSTED / FRAME_TOO_LARGE. */
  read(frame: number): Promise<Buffer>;
}

const FRAGMENT_HEADER_BYTES = 8;
/** Longest frame that `read` brings into memory; a longer one is to be streamed by its ranges. */
const MAX_FRAME_BYTES = 512 * 1024 * 1024;

/**
 * Opens the frames of an instance for random access.
 * @param dataset header JSON as the header reader made it; `read` counts offsets in the same bytes (inflated if deflated).
 * @throws MeshError NOT_FOUND / PIXEL_DATA_ABSENT, DATA_LOSS / PIXEL_DATA_BROKEN where the pixel data cannot hold as many frames as the header says
 * @see DICOM PS3.5 8, A.4; PS3.3 C.7.6.3
 */
export async function openFrames(options: {
  readonly dataset: DicomJson;
  readonly transferSyntaxUid: string;
  readonly read: ReadAt;
}): Promise<Frames> {
  const { dataset, transferSyntaxUid, read } = options;
  const pixels = pixelDataOf(dataset, transferSyntaxUid);
  if (pixels === undefined) throw new MeshError('NOT_FOUND', 'PIXEL_DATA_ABSENT', 'The instance has no pixel data.');
  const count = Math.max(1, Math.trunc(firstNumber(dataset, TAG.NumberOfFrames) ?? 1));
  const frameBits = nativeFrameBits(dataset, pixels, count);
  // Fragments also occur under native syntaxes: then the value is no whole number of frames and begins with an item.
  const encapsulated =
    isEncapsulated(transferSyntaxUid) ||
    (frameBits * count > pixels.totalBytes * 8 && (await read(pixels.offset, 4)).readUInt32BE(0) === 0xfeff_00e0);
  // The count is what a file says: nothing may be made of that length before the bytes bear it out. A fragment has 8 bytes at least.
  if (encapsulated ? count * FRAGMENT_HEADER_BYTES > pixels.totalBytes : frameBits * count > pixels.totalBytes * 8) throw pixelDataBroken();
  const place = encapsulated
    ? openEncapsulatedFrames({ dataset, pixels, count, read })
    : async (frame: number) => nativePlace(frame, frameBits, pixels);

  const swappedBytes = encapsulated || encodingOf(transferSyntaxUid).littleEndian ? 1 : (WORD_BYTES[pixels.vr] ?? 1);

  const checked = async (frame: number): Promise<FramePlace> => {
    if (!Number.isInteger(frame) || frame < 1 || frame > count)
      throw new MeshError('NOT_FOUND', 'FRAME_ABSENT', `The instance has frames 1 to ${count}.`);
    return place(frame);
  };
  return {
    count,
    encapsulated,
    swappedBytes,
    place: checked,
    async read(frame) {
      const { ranges, bitOffset } = await checked(frame);
      const totalBytes = ranges.reduce((sum, range) => sum + range.length, 0);
      if (totalBytes > MAX_FRAME_BYTES)
        throw new MeshError('RESOURCE_EXHAUSTED', 'FRAME_TOO_LARGE', 'The frame is too large to be read at once. Retrieve the instance.');
      const parts: Buffer[] = [];
      for (const range of ranges)
        parts.push(swappedBytes === 1 ? await readWhole(read, range) : await readSwapped({ read, range, pixels, wordBytes: swappedBytes }));
      const bytes = parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
      return bitOffset === 0 ? bytes : shiftedDown(bytes, bitOffset, Math.ceil(frameBits / 8));
    },
  };
}

/** Bits of one native frame. */
function nativeFrameBits(dataset: DicomJson, pixels: StoredPixelData, count: number): number {
  const pixelCount = (firstNumber(dataset, TAG.Rows) ?? 0) * (firstNumber(dataset, TAG.Columns) ?? 0);
  const bitsAllocated =
    firstNumber(dataset, TAG.BitsAllocated) ??
    { [TAG.PixelData]: 8, [TAG.FloatPixelData]: 32, [TAG.DoubleFloatPixelData]: 64 }[pixels.tag] ??
    8;
  const bits = pixelCount * (firstNumber(dataset, TAG.SamplesPerPixel) ?? 1) * bitsAllocated;
  // Chroma at half width is two samples a pixel in the mean (PS3.3 C.7.6.3.1.2); some writers name it and store all three.
  const isHalfChroma = (firstString(dataset, TAG.PhotometricInterpretation) ?? '').endsWith('_422') && bits * count > pixels.totalBytes * 8;
  return isHalfChroma ? pixelCount * 2 * bitsAllocated : bits;
}

function nativePlace(frame: number, frameBits: number, pixels: { readonly offset: number; readonly totalBytes: number }): FramePlace {
  const startBit = (frame - 1) * frameBits;
  const first = Math.floor(startBit / 8);
  const end = Math.ceil((startBit + frameBits) / 8);
  if (frameBits === 0 || end > pixels.totalBytes) throw pixelDataBroken();
  return { ranges: [{ offset: pixels.offset + first, length: end - first }], bitOffset: startBit % 8 };
}

/** Words that a byte order is about, by value representation (PS3.5 7.3). */
const WORD_BYTES: Readonly<Record<string, number>> = { OW: 2, OF: 4, OL: 4, OD: 8, OV: 8 };

/** A range of big endian words as little endian; it may begin and end within a word. */
async function readSwapped({
  read,
  range,
  pixels,
  wordBytes,
}: {
  read: ReadAt;
  range: ByteRange;
  pixels: StoredPixelData;
  wordBytes: number;
}): Promise<Buffer> {
  const before = (range.offset - pixels.offset) % wordBytes;
  const wholeBytes = Math.ceil((before + range.length) / wordBytes) * wordBytes;
  const offset = range.offset - before;
  const words = Buffer.alloc(wholeBytes);
  (await readWhole(read, { offset, length: Math.min(wholeBytes, pixels.offset + pixels.totalBytes - offset) })).copy(words);
  if (wordBytes === 2) words.swap16();
  else if (wordBytes === 4) words.swap32();
  else words.swap64();
  return words.subarray(before, before + range.length);
}

/** Bits packed lowest first (PS3.5 8.2): moves them down so that the frame begins at bit 0. */
function shiftedDown(bytes: Buffer, bits: number, length: number): Buffer {
  const moved = Buffer.alloc(length);
  for (let index = 0; index < length; index++)
    moved[index] = ((bytes[index] ?? 0) >>> bits) | (((bytes[index + 1] ?? 0) << (8 - bits)) & 0xff);
  return moved;
}
