import { dictionaryEntry, implicitVr } from './dictionary.ts';
import { vrOfCode } from './value-representations.ts';

/** Length of a value or item that a delimiter ends (PS3.5 7.5). */
export const UNDEFINED_LENGTH = 0xffff_ffff;

/** The header of one element as read; one object is filled again and again by {@link readElementHeader}. */
export interface ElementHeader {
  tag: number;
  vr: string;
  /** Bytes from the tag to the value. */
  headerBytes: number;
  length: number;
  /** The bytes of this element do state a VR. */
  explicit: boolean;
}

/** A fresh, empty header to read into. */
export function emptyElementHeader(): ElementHeader {
  return { tag: 0, vr: 'UN', headerBytes: 8, length: 0, explicit: false };
}

/** Tag at `at`. */
export function readTag(bytes: Buffer, at: number, littleEndian: boolean): number {
  return littleEndian ? ((bytes.readUInt16LE(at) << 16) | bytes.readUInt16LE(at + 2)) >>> 0 : bytes.readUInt32BE(at);
}

/**
 * Reads the header of the element at `at` (PS3.5 7.1). An element without a known VR in explicit encoding is read as
 * implicit, as writers mix them.
 * @returns bytes needed from `at` on: more than there are means nothing was read yet.
 */
export function readElementHeader(
  into: ElementHeader,
  bytes: Buffer,
  at: number,
  encoding: { readonly explicit: boolean; readonly littleEndian: boolean },
): number {
  const { littleEndian } = encoding;
  into.tag = readTag(bytes, at, littleEndian);
  into.headerBytes = 8;
  into.explicit = false;
  // Items and delimiters never have a VR (PS3.5 7.5).
  if (encoding.explicit && into.tag >>> 16 !== 0xfffe) {
    const code = bytes.readUInt16BE(at + 4);
    const known = vrOfCode(code);
    if (known !== undefined && !known.long)
      return fill(into, known.name, littleEndian ? bytes.readUInt16LE(at + 6) : bytes.readUInt16BE(at + 6));
    if (known !== undefined || isLetters(code)) {
      // A VR made after this program was written has the long form (PS3.5 6.2).
      if (bytes.length - at < 12) return 12;
      into.headerBytes = 12;
      return fill(into, known?.name ?? 'UN', littleEndian ? bytes.readUInt32LE(at + 8) : bytes.readUInt32BE(at + 8));
    }
    if (isPlaceholder(code)) return fill(into, vrOfTag(into.tag), littleEndian ? bytes.readUInt16LE(at + 6) : bytes.readUInt16BE(at + 6));
  }
  into.vr = vrOfTag(into.tag);
  into.length = littleEndian ? bytes.readUInt32LE(at + 4) : bytes.readUInt32BE(at + 4);
  return 8;
}

function fill(into: ElementHeader, vr: string, length: number): number {
  into.vr = vr;
  into.length = length;
  into.explicit = true;
  return into.headerBytes;
}

function vrOfTag(tag: number): string {
  return dictionaryEntry(tag)?.vr ?? implicitVr(tag);
}

function isLetters(code: number): boolean {
  const first = code >>> 8;
  const second = code & 0xff;
  return first >= 0x41 && first <= 0x5a && second >= 0x41 && second <= 0x5a;
}

/** Marks that writers put where they knew no VR: blanks, `??`, `--`, NULs. A 16-bit length follows. */
function isPlaceholder(code: number): boolean {
  return code === 0x2020 || code === 0x3f3f || code === 0x2d2d || code === 0;
}
