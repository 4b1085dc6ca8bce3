import { decodeText } from './character-sets.ts';
import type { CharacterSet } from './character-sets.ts';
import type { DicomJsonElement, DicomJsonPersonName, DicomJsonValue } from './json.ts';
import { tagText } from './dictionary.ts';
import { readTag } from './element-header.ts';
import { WORD_BYTES } from './value-representations.ts';

/** The bytes of one value field and what is needed to read them. */
export interface ValueField {
  readonly vr: string;
  /** The value field stands in `bytes` from `start` to `end`. */
  readonly bytes: Buffer;
  readonly start: number;
  readonly end: number;
  readonly littleEndian: boolean;
  readonly characterSet: CharacterSet;
}

/** Reads one value field into DICOM JSON; `onRepair` is told when text did not fit its declared character set. */
export function decodeValue(field: ValueField, onRepair: () => void): DicomJsonElement {
  const { vr } = field;
  if (field.start === field.end) return { vr };
  switch (vr) {
    case 'LO':
    case 'SH':
    case 'UC':
      return strings(vr, textOf(field, onRepair), trimBoth);
    case 'AE':
    case 'AS':
    case 'CS':
    case 'DA':
    case 'DT':
    case 'TM':
      return strings(vr, field.bytes.toString('latin1', field.start, field.end), trimBoth);
    case 'UI':
      return strings(vr, field.bytes.toString('latin1', field.start, field.end), trimEnd);
    case 'DS':
    case 'IS':
      return numberStrings(vr, field.bytes.toString('latin1', field.start, field.end));
    case 'LT':
    case 'ST':
    case 'UT':
      return oneText(vr, trimEnd(textOf(field, onRepair)));
    case 'UR':
      return oneText(vr, trimEnd(field.bytes.toString('latin1', field.start, field.end)));
    case 'PN':
      return personNames(textOf(field, onRepair));
    case 'US':
    case 'SS':
    case 'UL':
    case 'SL':
    case 'FL':
    case 'FD':
    case 'SV':
    case 'UV':
    case 'AT':
      return binaryNumbers(field);
    default:
      return { vr, InlineBinary: littleEndianBytes(field).toString('base64') };
  }
}

function textOf(field: ValueField, onRepair: () => void): string {
  const decoded = decodeText(field.bytes.subarray(field.start, field.end), field.characterSet, field.vr === 'PN');
  if (decoded.repaired) onRepair();
  return decoded.text;
}

function isPad(code: number): boolean {
  return code === 0x20 || code === 0;
}

function trimEnd(text: string): string {
  let end = text.length;
  while (end > 0 && isPad(text.charCodeAt(end - 1))) end--;
  return end === text.length ? text : text.slice(0, end);
}

function trimBoth(text: string): string {
  let start = 0;
  while (start < text.length && text.charCodeAt(start) === 0x20) start++;
  return trimEnd(start === 0 ? text : text.slice(start));
}

function oneText(vr: string, text: string): DicomJsonElement {
  return text === '' ? { vr } : { vr, Value: [text] };
}

function strings(vr: string, text: string, trim: (text: string) => string): DicomJsonElement {
  if (!text.includes('\\')) return oneText(vr, trim(text));
  return { vr, Value: text.split('\\').map((value) => trim(value) || null) };
}

const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/;

function numberString(text: string): DicomJsonValue {
  const trimmed = trimBoth(text);
  if (trimmed === '') return null;
  // What is no number is kept as written: PS3.18 F.2.3 allows strings, and the bytes are the sender's.
  const number = NUMBER.test(trimmed) ? Number(trimmed) : Number.NaN;
  return Number.isFinite(number) ? number : trimmed;
}

function numberStrings(vr: string, text: string): DicomJsonElement {
  if (text.includes('\\')) return { vr, Value: text.split('\\').map(numberString) };
  const value = numberString(text);
  return value === null ? { vr } : { vr, Value: [value] };
}

function personNames(text: string): DicomJsonElement {
  const names = text.split('\\').map(personNameOf);
  return names.length === 1 && names[0] === null ? { vr: 'PN' } : { vr: 'PN', Value: names };
}

/** Splits one decoded name into its three representations (PS3.5 6.2.1.1); null where it is empty. */
export function personNameOf(text: string): DicomJsonPersonName | null {
  const groups = text.split('=');
  const name: DicomJsonPersonName = {};
  const [alphabetic, ideographic, phonetic] = [nameGroup(groups[0]), nameGroup(groups[1]), nameGroup(groups[2])];
  if (alphabetic !== '') name.Alphabetic = alphabetic;
  if (ideographic !== '') name.Ideographic = ideographic;
  if (phonetic !== '') name.Phonetic = phonetic;
  return alphabetic === '' && ideographic === '' && phonetic === '' ? null : name;
}

/** One representation; delimiters that end it or stand alone say nothing (PS3.5 6.2.1.1). */
function nameGroup(text = ''): string {
  return trimBoth(text.replace(/[\^ \0]+$/, ''));
}

function binaryNumbers(field: ValueField): DicomJsonElement {
  const { vr, end } = field;
  const width = vr === 'AT' ? 4 : (WORD_BYTES[vr] as number);
  const values: DicomJsonValue[] = [];
  for (let at = field.start; at + width <= end; at += width) values.push(binaryNumber(field, at));
  return values.length === 0 ? { vr } : { vr, Value: values };
}

function binaryNumber({ vr, bytes, littleEndian }: ValueField, at: number): DicomJsonValue {
  switch (vr) {
    case 'US':
      return littleEndian ? bytes.readUInt16LE(at) : bytes.readUInt16BE(at);
    case 'SS':
      return littleEndian ? bytes.readInt16LE(at) : bytes.readInt16BE(at);
    case 'UL':
      return littleEndian ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at);
    case 'SL':
      return littleEndian ? bytes.readInt32LE(at) : bytes.readInt32BE(at);
    case 'FL':
      return finite(littleEndian ? bytes.readFloatLE(at) : bytes.readFloatBE(at));
    case 'FD':
      return finite(littleEndian ? bytes.readDoubleLE(at) : bytes.readDoubleBE(at));
    case 'SV':
      return wide(littleEndian ? bytes.readBigInt64LE(at) : bytes.readBigInt64BE(at));
    case 'UV':
      return wide(littleEndian ? bytes.readBigUInt64LE(at) : bytes.readBigUInt64BE(at));
    default:
      return tagText(readTag(bytes, at, littleEndian));
  }
}

function finite(value: number): number | string {
  return Number.isFinite(value) ? value : String(value);
}

function wide(value: bigint): number | string {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : String(value);
}

/** InlineBinary is in little endian whatever the file is (PS3.18 F.2.2). */
function littleEndianBytes(field: ValueField): Buffer {
  const bytes = field.bytes.subarray(field.start, field.end);
  const width = WORD_BYTES[field.vr];
  if (field.littleEndian || width === undefined || bytes.length % width !== 0) return bytes;
  const turned = Buffer.from(bytes);
  return width === 2 ? turned.swap16() : width === 4 ? turned.swap32() : turned.swap64();
}
