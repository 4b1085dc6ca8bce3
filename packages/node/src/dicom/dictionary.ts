import { DICTIONARY_ENTRIES } from './dictionary-entries.ts';

/** One data element of PS3.6. */
export interface DictionaryEntry {
  /** Eight hexadecimal digits, capitals: `00100010`. */
  readonly tag: string;
  /** The VR, or alternatives joined by a bar where the data set decides: `US|SS`, `OB|OW`, `US|OW`. */
  readonly vr: string;
  /** Value multiplicity as written in PS3.6: `1`, `1-n`, `2-2n`. */
  readonly vm: string;
  readonly keyword: string;
}

const byTag = new Map<number, DictionaryEntry>();
const byKeyword = new Map<string, DictionaryEntry>();
for (const line of DICTIONARY_ENTRIES.split('\n')) {
  const [tag, vr, vm, keyword] = line.split(' ');
  if (tag === undefined || vr === undefined || vm === undefined || keyword === undefined) continue;
  const entry = { tag, vr, vm, keyword };
  byTag.set(Number.parseInt(tag, 16), entry);
  if (!byKeyword.has(keyword)) byKeyword.set(keyword, entry);
}

const HEX = Array.from({ length: 65_536 }, (_, number) => number.toString(16).toUpperCase().padStart(4, '0'));

/** A tag given as a 32-bit number in eight hexadecimal digits, capitals. */
export function tagText(tag: number): string {
  return byTag.get(tag)?.tag ?? `${HEX[tag >>> 16]}${HEX[tag & 0xffff]}`;
}

/** The PS3.6 entry of a tag given as a 32-bit number, or undefined. Curve (50xx) and overlay (60xx) groups are folded on their first. */
export function dictionaryEntry(tag: number): DictionaryEntry | undefined {
  const known = byTag.get(tag);
  if (known !== undefined) return known;
  const group = tag >>> 16;
  const repeating = group & 0xff00;
  // Repeating groups: even groups 5000-50FF and 6000-60FF (PS3.5 7.6).
  if ((repeating === 0x5000 || repeating === 0x6000) && (group & 1) === 0) return byTag.get(((repeating << 16) | (tag & 0xffff)) >>> 0);
  return undefined;
}

/**
 * The VR an element has where the encoding does not state it (implicit VR): from PS3.6, else the private-creator and
 * group-length rules of PS3.5 7.8, else UN. Alternatives stay joined by a bar for the reader to decide.
 */
export function implicitVr(tag: number): string {
  const element = tag & 0xffff;
  if (element === 0) return 'UL';
  if ((tag & 0x10000) !== 0) return element >= 0x10 && element <= 0xff ? 'LO' : 'UN';
  return dictionaryEntry(tag)?.vr ?? 'UN';
}

/** The tag (`00100020`) of a PS3.6 keyword (`PatientID`), or undefined. */
export function tagOfKeyword(keyword: string): string | undefined {
  return byKeyword.get(keyword)?.tag;
}

/** The PS3.6 keyword of a tag (`00100020`, any case), or undefined. */
export function keywordOfTag(tag: string): string | undefined {
  return /^[0-9A-Fa-f]{8}$/.test(tag) ? dictionaryEntry(Number.parseInt(tag, 16))?.keyword : undefined;
}

/** The tag that a QIDO-RS attribute id names: a keyword or eight hexadecimal digits (PS3.18 8.3.4.1); undefined if it names none. */
export function tagOfAttributeId(attributeId: string): string | undefined {
  return /^[0-9A-Fa-f]{8}$/.test(attributeId) ? attributeId.toUpperCase() : tagOfKeyword(attributeId);
}
