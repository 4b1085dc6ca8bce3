import { MeshError } from '@meridian/shared/errors';
import { pixelDataBroken, readWhole } from './frame-places.ts';
import type { ByteRange, FramePlace, ReadAt } from './frame-places.ts';
import { parseBulkUri } from './json.ts';
import type { DicomJson } from './json.ts';
import type { StoredPixelData } from './pixel-data-place.ts';
import { TAG } from './tags.ts';

const ITEM = 0xfffe_e000;
const SEQUENCE_END = 0xfffe_e0dd;
/** More fragments than any real object has; a list of them is held in memory. */
const MAX_FRAGMENTS = 1_000_000;
/** Item headers read ahead at a time, where fragments are small. */
const WINDOW_BYTES = 16 * 1024;

interface EncapsulatedOptions {
  readonly dataset: DicomJson;
  readonly pixels: StoredPixelData;
  readonly count: number;
  readonly read: ReadAt;
}

/**
 * Finds frames in fragments (PS3.5 A.4): by the extended offset table, else by the basic one, else by walking: one
 * fragment a frame, all of them one frame, or a frame wherever a code stream begins.
 */
export function openEncapsulatedFrames(options: EncapsulatedOptions): (frame: number) => Promise<FramePlace> {
  // Found once: an answer asks for the place of each frame, and every read may open the file anew.
  let table: Promise<BasicTable> | undefined;
  let walked: Promise<WalkedFrames> | undefined;
  return async (frame) => {
    const basic = await (table ??= basicOffsetTable(options));
    const extended = await byExtendedTable(options, basic.firstFragment, frame);
    if (extended !== undefined) return { ranges: [extended], bitOffset: 0 };
    const byTable = await byBasicTable(options, basic, frame);
    if (byTable !== undefined) return { ranges: byTable, bitOffset: 0 };
    walked ??= walkFrames(options, basic.firstFragment);
    const { fragments, starts } = await walked;
    return { ranges: fragments.slice(starts[frame - 1], starts[frame] ?? fragments.length), bitOffset: 0 };
  };
}

interface BasicTable {
  readonly offset: number;
  readonly length: number;
  /** Offset of the item of the first fragment, from which tables count. */
  readonly firstFragment: number;
}

async function basicOffsetTable({ pixels, read }: EncapsulatedOptions): Promise<BasicTable> {
  const header = await readWhole(read, { offset: pixels.offset, length: 8 });
  const length = header.readUInt32LE(4);
  if (tagAt(header, 0) !== ITEM || length > pixels.totalBytes - 8) throw pixelDataBroken();
  return { offset: pixels.offset + 8, length, firstFragment: pixels.offset + 8 + length };
}

async function byExtendedTable(options: EncapsulatedOptions, firstFragment: number, frame: number): Promise<ByteRange | undefined> {
  const offset = await tableEntry(options, TAG.ExtendedOffsetTable, frame);
  const length = await tableEntry(options, TAG.ExtendedOffsetTableLengths, frame);
  if (offset === undefined || length === undefined) return undefined;
  const range = { offset: firstFragment + offset + 8, length };
  return isInside(range, options.pixels) ? range : undefined;
}

/** One 64-bit entry of an extended offset table, inline or in the data set. */
async function tableEntry({ dataset, read }: EncapsulatedOptions, tag: string, frame: number): Promise<number | undefined> {
  const element = dataset[tag];
  if (element?.InlineBinary !== undefined) {
    const table = Buffer.from(element.InlineBinary, 'base64');
    return table.length >= frame * 8 ? Number(table.readBigUInt64LE((frame - 1) * 8)) : undefined;
  }
  const bulk = element?.BulkDataURI === undefined ? undefined : parseBulkUri(element.BulkDataURI);
  if (bulk === undefined || bulk.length < frame * 8) return undefined;
  return Number((await readWhole(read, { offset: bulk.offset + (frame - 1) * 8, length: 8 })).readBigUInt64LE(0));
}

async function byBasicTable(options: EncapsulatedOptions, table: BasicTable, frame: number): Promise<readonly ByteRange[] | undefined> {
  const { count, pixels, read } = options;
  // A table of another size is not about these frames.
  if (table.length !== count * 4) return undefined;
  const isLast = frame === count;
  const entries = await readWhole(read, { offset: table.offset + (frame - 1) * 4, length: isLast ? 4 : 8 });
  const start = table.firstFragment + entries.readUInt32LE(0);
  const end = isLast ? Number.POSITIVE_INFINITY : table.firstFragment + entries.readUInt32LE(4);
  if (end <= start || start >= pixels.offset + pixels.totalBytes) return undefined;
  const ranges = await walk(options, start, end);
  return ranges.length > 0 ? ranges : undefined;
}

/** Values of the fragments whose items begin in [from, to). @throws MeshError DATA_LOSS / PIXEL_DATA_BROKEN */
async function walk({ pixels, read }: EncapsulatedOptions, from: number, to: number): Promise<readonly ByteRange[]> {
  const end = Math.min(to, pixels.offset + pixels.totalBytes);
  const ranges: ByteRange[] = [];
  let window: Buffer = Buffer.alloc(0);
  let windowOffset = from;
  let at = from;
  while (at + 8 <= end) {
    if (at + 8 > windowOffset + window.length) {
      // Small fragments come several to a window; before the first length is known only a header is read.
      const isDense = ranges.length > 0 && at - (ranges[0] as ByteRange).offset < ranges.length * WINDOW_BYTES;
      windowOffset = at;
      window = await read(at, Math.min(isDense ? WINDOW_BYTES : 8, pixels.offset + pixels.totalBytes - at));
      if (window.length < 8) throw pixelDataBroken();
    }
    const tag = tagAt(window, at - windowOffset);
    const length = window.readUInt32LE(at - windowOffset + 4);
    if (tag === SEQUENCE_END) break;
    const range = { offset: at + 8, length };
    if (tag !== ITEM || !isInside(range, pixels) || ranges.length >= MAX_FRAGMENTS) throw pixelDataBroken();
    ranges.push(range);
    at += 8 + length;
  }
  return ranges;
}

interface WalkedFrames {
  readonly fragments: readonly ByteRange[];
  /** Where each frame begins in the list of fragments. */
  readonly starts: readonly number[];
}

async function walkFrames(options: EncapsulatedOptions, firstFragment: number): Promise<WalkedFrames> {
  const { count, read } = options;
  const fragments = await walk(options, firstFragment, Number.POSITIVE_INFINITY);
  if (count === 1) return { fragments, starts: [0] };
  if (fragments.length < count) throw pixelDataBroken();
  if (fragments.length === count) return { fragments, starts: [...fragments.keys()] };
  const starts: number[] = [];
  for (const [index, fragment] of fragments.entries())
    if (beginsCodeStream(await read(fragment.offset, Math.min(4, fragment.length)))) starts.push(index);
  if (starts.length !== count || starts[0] !== 0) {
    throw new MeshError(
      'FAILED_PRECONDITION',
      'FRAMES_NOT_SEPARABLE',
      'The instance has no offset table and its fragments do not tell where frames begin. Retrieve the instance whole.',
    );
  }
  return { fragments, starts };
}

/** JPEG and JPEG-LS begin with SOI, JPEG 2000 and HTJ2K with SOC and SIZ. */
function beginsCodeStream(bytes: Buffer): boolean {
  if (bytes.length < 4) return false;
  return bytes.readUInt32BE(0) === 0xff4f_ff51 || bytes.readUIntBE(0, 3) === 0xff_d8ff;
}

function tagAt(bytes: Buffer, at: number): number {
  return ((bytes.readUInt16LE(at) << 16) | bytes.readUInt16LE(at + 2)) >>> 0;
}

function isInside(range: ByteRange, pixels: StoredPixelData): boolean {
  return range.offset >= pixels.offset && range.length >= 0 && range.offset + range.length <= pixels.offset + pixels.totalBytes;
}
