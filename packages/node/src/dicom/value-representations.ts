/** How the header of an explicit element and its value are shaped (PS3.5 6.2, 7.1.2). */
export interface ValueRepresentation {
  readonly name: string;
  /** Two reserved bytes and a 32-bit length follow the VR. */
  readonly long: boolean;
}

const SHORT = [
  'AE',
  'AS',
  'AT',
  'CS',
  'DA',
  'DS',
  'DT',
  'FL',
  'FD',
  'IS',
  'LO',
  'LT',
  'PN',
  'SH',
  'SL',
  'SS',
  'ST',
  'TM',
  'UI',
  'UL',
  'US',
];
const LONG = ['OB', 'OD', 'OF', 'OL', 'OV', 'OW', 'SQ', 'SV', 'UC', 'UN', 'UR', 'UT', 'UV'];

const byCode = Array.from<ValueRepresentation | undefined>({ length: 65_536 });
for (const name of SHORT) byCode[codeOf(name)] = { name, long: false };
for (const name of LONG) byCode[codeOf(name)] = { name, long: true };

function codeOf(name: string): number {
  return (name.charCodeAt(0) << 8) | name.charCodeAt(1);
}

/** The VR of two letters given as one number (first letter high), or undefined. */
export function vrOfCode(code: number): ValueRepresentation | undefined {
  return byCode[code];
}

/** True where a VR of this name has the 32-bit length form in explicit encoding. */
export function isLongVr(name: string): boolean {
  return byCode[codeOf(name)]?.long ?? true;
}

/** Bytes of one word, for VRs whose bytes turn with the byte order. */
export const WORD_BYTES: Readonly<Record<string, 2 | 4 | 8>> = {
  US: 2,
  SS: 2,
  OW: 2,
  AT: 2,
  UL: 4,
  SL: 4,
  FL: 4,
  OL: 4,
  OF: 4,
  FD: 8,
  OD: 8,
  OV: 8,
  SV: 8,
  UV: 8,
};
