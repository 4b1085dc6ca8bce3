import { MeshError } from '@meridian/shared/errors';
import { decodeCoding } from './character-sets.ts';
import type { CharacterSet } from './character-sets.ts';
import type { Coding } from './coding.ts';
import { personNameText } from './json.ts';
import type { DicomJsonPersonName } from './json.ts';

/**
 * Writes text in a declared character set. Sets with code extensions are written in their first set alone.
 * @throws MeshError INVALID_ARGUMENT / DICOM_TEXT_NOT_ENCODABLE where the set has no such character
 */
export function encodeText(text: string, set: CharacterSet): Buffer {
  // eslint-disable-next-line no-control-regex -- plain ASCII is the same in every set
  if (/^[\0-\x7f]*$/.test(text)) return Buffer.from(text, 'latin1');
  if (set.initial === 'utf-8') return Buffer.from(text, 'utf8');
  if (set.initial === 'latin1') return singleByte(text, LATIN1);
  const table = reverseTable(set.initial);
  const bytes: number[] = [];
  for (const character of text) {
    const code = table.get(character) ?? (set.initial === 'gb18030' ? fourByteCode(character) : undefined);
    if (code === undefined) throw notEncodable();
    for (let shift = 24; shift >= 0; shift -= 8) if (shift === 0 || code >>> shift > 0) bytes.push((code >>> shift) & 0xff);
  }
  return Buffer.from(bytes);
}

/** Writes a person name in a declared character set. @throws MeshError INVALID_ARGUMENT / DICOM_TEXT_NOT_ENCODABLE */
export function encodePersonName(name: DicomJsonPersonName, set: CharacterSet): Buffer {
  return encodeText(personNameText(name), set);
}

function notEncodable(): MeshError {
  return new MeshError(
    'INVALID_ARGUMENT',
    'DICOM_TEXT_NOT_ENCODABLE',
    'The text has a character that the character set of the data set cannot hold. Use ASCII or a data set in UTF-8.',
  );
}

const LATIN1 = 0xff;

function singleByte(text: string, last: number): Buffer {
  for (const character of text) if ((character.codePointAt(0) as number) > last) throw notEncodable();
  return Buffer.from(text, 'latin1');
}

/**
 * Character to code (one or two bytes as a number), made by decoding the codes of the coding row by row: some ms, spent
 * only on text that is not ASCII.
 */
function reverseTable(coding: Coding): ReadonlyMap<string, number> {
  const table = new Map<string, number>();
  // The default repertoire has no upper half, whatever a reader makes of such bytes.
  if (coding === 'ascii') return table;
  const twoByte = coding === 'gb18030' || coding === 'gbk' || coding === 'euc-kr';
  for (let byte = 0; byte < 0x80; byte++) table.set(String.fromCharCode(byte), byte);
  if (!twoByte) addRow(table, coding, codes(0x80, 0xff));
  else for (let lead = 0x81; lead <= 0xfe; lead++) addRow(table, coding, codes((lead << 8) | 0x40, (lead << 8) | 0xfe));
  return table;
}

function codes(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

function addRow(table: Map<string, number>, coding: Coding, row: readonly number[]): void {
  const bytes = Buffer.from(row.flatMap((code) => (code > 0xff ? [code >>> 8, code & 0xff, 0x0a] : [code, 0x0a])));
  for (const [index, text] of decodeCoding(bytes, coding).split('\n').entries()) {
    const code = row[index];
    if (code !== undefined && Array.from(text).length === 1 && text !== '\ufffd' && !table.has(text)) table.set(text, code);
  }
}

/** The four-byte form of GB18030 for what has no two-byte code: linear above U+FFFF, searched by decoding below it. */
function fourByteCode(character: string): number | undefined {
  const point = character.codePointAt(0) as number;
  if (point >= 0x10000) return pointer(189_000 + point - 0x10000);
  // 39,420 codes hold the rest of the plane in the order of their code points: halve until found.
  let low = 0;
  let high = 39_419;
  while (low <= high) {
    const middle = (low + high) >>> 1;
    const code = pointer(middle);
    const found = decodeCoding(Buffer.from([code >>> 24, (code >>> 16) & 0xff, (code >>> 8) & 0xff, code & 0xff]), 'gb18030').codePointAt(
      0,
    ) as number;
    if (found === point) return code;
    if (found < point) low = middle + 1;
    else high = middle - 1;
  }
  return undefined;
}

function pointer(index: number): number {
  const [first, second, third, fourth] = [
    Math.floor(index / 12_600),
    Math.floor(index / 1260) % 10,
    Math.floor(index / 10) % 126,
    index % 10,
  ];
  return (((0x81 + first) << 24) | ((0x30 + second) << 16) | ((0x81 + third) << 8) | (0x30 + fourth)) >>> 0;
}
