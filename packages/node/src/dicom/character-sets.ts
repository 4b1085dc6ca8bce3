import type { Coding, DecodedText, WhatwgLabel } from './coding.ts';
import { repairText } from './text-repair.ts';

/** How the text of a data set is written: the declared sets, ready to decode with. */
export interface CharacterSet {
  /** What the first value of Specific Character Set names, as a decoder. */
  readonly initial: Coding;
  /** Code extensions by escape sequence are in use (PS3.3 C.12.1.1.2). */
  readonly extended: boolean;
  /** The defined terms as they stand in the data set. */
  readonly terms: readonly string[];
}

/** Defined terms of PS3.3 C.12.1.1.2, single-byte and multi-byte without code extensions, by their `ISO_IR` form. */
const TERMS: Readonly<Record<string, Coding>> = {
  '': 'ascii',
  'ISO_IR 6': 'ascii',
  'ISO_IR 100': 'latin1',
  'ISO_IR 101': 'iso-8859-2',
  'ISO_IR 109': 'iso-8859-3',
  'ISO_IR 110': 'iso-8859-4',
  'ISO_IR 144': 'iso-8859-5',
  'ISO_IR 127': 'iso-8859-6',
  'ISO_IR 126': 'iso-8859-7',
  'ISO_IR 138': 'iso-8859-8',
  'ISO_IR 148': 'windows-1254',
  'ISO_IR 203': 'iso-8859-15',
  'ISO_IR 13': 'jis-x0201',
  'ISO_IR 166': 'windows-874',
  'ISO_IR 192': 'utf-8',
  GB18030: 'gb18030',
  GBK: 'gbk',
  // As a first value these multi-byte sets are not lawful (PS3.3 C.12.1.1.2), but files carry them.
  'ISO_IR 149': 'euc-kr',
  'ISO_IR 58': 'gbk',
  'ISO_IR 87': 'ascii',
  'ISO_IR 159': 'ascii',
};

/** Escape sequences of PS3.3 tables C.12-3 and C.12-4, without the ESC itself. */
const ESCAPES: Readonly<Record<string, Coding>> = {
  '(B': 'ascii',
  '-A': 'latin1',
  '-B': 'iso-8859-2',
  '-C': 'iso-8859-3',
  '-D': 'iso-8859-4',
  '-L': 'iso-8859-5',
  '-G': 'iso-8859-6',
  '-F': 'iso-8859-7',
  '-H': 'iso-8859-8',
  '-M': 'windows-1254',
  '-b': 'iso-8859-15',
  '-T': 'windows-874',
  ')I': 'jis-x0201',
  '(J': 'jis-x0201',
  $B: 'jis-x0208',
  '$@': 'jis-x0208',
  '$(D': 'jis-x0212',
  '$)C': 'euc-kr',
  '$)A': 'gbk',
};

// Made once: opening a decoder costs more than decoding a name. None of them keeps anything between calls.
const LABELS = [...new Set([...Object.values(TERMS), ...Object.values(ESCAPES)])].filter(isWhatwgLabel);
const DECODERS = Object.fromEntries(LABELS.map((label) => [label, new TextDecoder(label, { ignoreBOM: true })])) as Record<
  WhatwgLabel,
  InstanceType<typeof TextDecoder>
>;
const EUC_JP = new TextDecoder('euc-jp');

function isWhatwgLabel(coding: Coding): coding is WhatwgLabel {
  return coding !== 'ascii' && coding !== 'latin1' && !coding.startsWith('jis-');
}

/** The default repertoire: ISO 646. */
export const DEFAULT_CHARACTER_SET: CharacterSet = { initial: 'ascii', extended: false, terms: [] };

/** The set that the values of Specific Character Set (0008,0005) name; unknown terms are read as the default repertoire. */
export function characterSetOf(terms: readonly string[]): CharacterSet {
  const initial = TERMS[normalTerm(terms[0] ?? '')] ?? 'ascii';
  // UTF-8 and the GB sets stand alone: code extensions are forbidden with them.
  const alone = initial === 'utf-8' || initial === 'gb18030' || (initial === 'gbk' && normalTerm(terms[0] ?? '') === 'GBK');
  const extended = !alone && terms.some((term, index) => index > 0 || /^ISO[ _]?2022/i.test(term.trim()));
  return { initial, extended, terms };
}

/** Writes the misspellings that occur (`ISO-IR 100`, `ISO_IR_100`, `iso 2022 ir 100`, `UTF-8`) as the defined term. */
function normalTerm(term: string): string {
  const upper = term.trim().toUpperCase();
  const number = /^ISO[ _-]?(?:2022[ _-]?)?IR[ _-]?(\d+)$/.exec(upper);
  if (number !== null) return `ISO_IR ${number[1]}`;
  if (upper === 'UTF-8' || upper === 'UTF8') return 'ISO_IR 192';
  return upper === 'GB2312' ? 'GBK' : upper;
}

/**
 * Decodes one whole value field. Decode before splitting at `\`, `^` and `=`: in GB18030, GBK and JIS those bytes also
 * occur inside characters.
 * @param personName PN: `^` and `=` also end a code extension (PS3.5 6.1.2.5.3).
 */
export function decodeText(bytes: Buffer, set: CharacterSet, personName = false): DecodedText {
  if (isPlain(bytes)) return { text: bytes.toString('latin1'), repaired: false };
  if (set.extended) return decodeExtended(bytes, set, personName);
  return repairText(bytes, set.initial) ?? { text: decodeCoding(bytes, set.initial), repaired: false };
}

function isPlain(bytes: Buffer): boolean {
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index] as number;
    if (byte >= 0x80 || byte === 0x1b) return false;
  }
  return true;
}

function decodeExtended(bytes: Buffer, set: CharacterSet, personName: boolean): DecodedText {
  if (!bytes.includes(0x1b)) {
    const repaired = repairText(bytes, set.initial);
    if (repaired !== undefined) return repaired;
  }
  let text = '';
  let coding = set.initial;
  let start = 0;
  let index = 0;
  while (index < bytes.length) {
    const byte = bytes[index] as number;
    if (byte === 0x1b) {
      text += decodeCoding(bytes.subarray(start, index), coding);
      const length = bytes[index + 1] === 0x24 && (bytes[index + 2] === 0x28 || bytes[index + 2] === 0x29) ? 3 : 2;
      coding = ESCAPES[bytes.toString('latin1', index + 1, index + 1 + length)] ?? set.initial;
      index += 1 + length;
      start = Math.min(index, bytes.length);
    } else if (coding !== set.initial && !isTwoByteG0(coding) && resetsCoding(byte, personName)) {
      text += decodeCoding(bytes.subarray(start, index), coding);
      coding = set.initial;
      start = index++;
    } else index += isTwoByteG0(coding) && byte > 0x20 ? 2 : 1;
  }
  text += decodeCoding(bytes.subarray(start), coding);
  return { text, repaired: false };
}

/** After a delimiter the first coding is active again (PS3.5 6.1.2.5.3). */
function resetsCoding(byte: number, personName: boolean): boolean {
  return byte === 0x5c || (byte >= 0x09 && byte <= 0x0d) || (personName && (byte === 0x5e || byte === 0x3d));
}

function isTwoByteG0(coding: Coding): boolean {
  return coding === 'jis-x0208' || coding === 'jis-x0212';
}

/** Reads bytes in one coding; what does not fit becomes U+FFFD. */
export function decodeCoding(bytes: Buffer, coding: Coding): string {
  if (bytes.length === 0) return '';
  switch (coding) {
    case 'ascii':
    case 'latin1':
      return bytes.toString('latin1');
    case 'jis-x0201':
      return decodeJisX0201(bytes);
    case 'jis-x0208':
    case 'jis-x0212':
      return decodeJisG0(bytes, coding);
    default:
      return (DECODERS[coding] as InstanceType<typeof TextDecoder>).decode(bytes);
  }
}

/** Half-width katakana in the upper half (U+FF61-FF9F); the lower half is read as ASCII so that `\` still splits values. */
function decodeJisX0201(bytes: Buffer): string {
  let text = '';
  for (const byte of bytes)
    text += byte < 0x80 ? String.fromCharCode(byte) : byte >= 0xa1 && byte <= 0xdf ? String.fromCharCode(0xff61 + byte - 0xa1) : '\ufffd';
  return text;
}

/** Two-byte sets in G0 are the same tables as EUC-JP has with the high bits set. */
function decodeJisG0(bytes: Buffer, coding: 'jis-x0208' | 'jis-x0212'): string {
  const euc: number[] = [];
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index] as number;
    if (byte <= 0x20) euc.push(byte);
    else {
      if (coding === 'jis-x0212') euc.push(0x8f);
      euc.push(byte | 0x80, (bytes[++index] ?? 0x20) | 0x80);
    }
  }
  return EUC_JP.decode(Uint8Array.from(euc));
}
