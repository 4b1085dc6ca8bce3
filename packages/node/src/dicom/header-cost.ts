import { WORD_BYTES } from './value-representations.ts';

/** What the values of a header cost when they are decoded, counted before they are. */
export interface HeaderCost {
  /** Values, a person name counted as {@link PERSON_NAME_WEIGHT}. */
  values: number;
  /** At least the bytes of the DICOM JSON text. */
  jsonBytes: number;
}

/** `"00100010":{"vr":"LO","Value":[]},` */
export const ELEMENT_JSON_BYTES = 36;
/** Offset and length are of up to 16 digits. */
export const BULK_URI_JSON_BYTES = 80;
/** A name is an object of up to three texts. */
const PERSON_NAME_WEIGHT = 16;
/** `"",` or `null,`. */
const TEXT_JSON_BYTES = 5;
/** `{"Alphabetic":""},`, and the two other representations, each behind a `=`. */
const NAME_JSON_BYTES = 20;
const NAME_GROUP_JSON_BYTES = 17;
/** Longest number of each kind as text, with its comma. */
const NUMBER_JSON_BYTES: Readonly<Record<string, number>> = { US: 6, SS: 7, UL: 11, SL: 12, FL: 25, FD: 26, SV: 23, UV: 23, AT: 11 };
/** "1e20" is written in full. */
const EXPONENT_JSON_BYTES = 22;

/** Adds what one value field costs; nothing is decoded. */
export function addCost(cost: HeaderCost, vr: string, bytes: Buffer, start: number, end: number): void {
  const length = end - start;
  if (length === 0) return;
  const number = NUMBER_JSON_BYTES[vr];
  if (number !== undefined) {
    const count = Math.floor(length / (vr === 'AT' ? 4 : (WORD_BYTES[vr] as number)));
    cost.values += count;
    cost.jsonBytes += count * number;
    return;
  }
  if (!TEXTS.has(vr)) {
    cost.values += 1;
    cost.jsonBytes += Math.ceil(length / 3) * 4 + 16;
    return;
  }
  const isName = vr === 'PN';
  let separators = 0;
  let groups = 0;
  let controls = 0;
  let wide = 0;
  let exponents = 0;
  for (let at = start; at < end; at++) {
    const byte = bytes[at] as number;
    if (byte >= 0x80) wide++;
    else if (byte < 0x20 || byte === 0x22) controls++;
    else if (byte === 0x5c) separators++;
    else if (byte === 0x3d) groups++;
    else if (byte === 0x45 || byte === 0x65) exponents++;
  }
  const values = separators + 1;
  cost.values += isName ? values * PERSON_NAME_WEIGHT : values;
  // A control character is written as \u0001; a byte beyond ASCII takes up to three in UTF-8.
  cost.jsonBytes +=
    length +
    controls * 5 +
    wide * 2 +
    values * (isName ? NAME_JSON_BYTES : TEXT_JSON_BYTES) +
    (isName ? groups * NAME_GROUP_JSON_BYTES : 0) +
    (vr === 'DS' || vr === 'IS' ? exponents * EXPONENT_JSON_BYTES : 0);
}

const TEXTS: ReadonlySet<string> = new Set([
  'LO',
  'SH',
  'UC',
  'AE',
  'AS',
  'CS',
  'DA',
  'DT',
  'TM',
  'UI',
  'DS',
  'IS',
  'LT',
  'ST',
  'UT',
  'UR',
  'PN',
]);
