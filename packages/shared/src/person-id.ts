import { MeshError } from './errors.ts';

/** A person's identifier with what kind it is and who issued it. Two ids join only when all three are equal. */
export interface TypedPersonId {
  readonly type: 'cn-resident-id' | 'insurance' | 'passport' | 'mrn';
  /** An OID, or a name of the authority. */
  readonly issuer: string;
  readonly value: string;
}

/** Issuer of the Chinese resident id: the OID of the identity card register. */
export const CN_RESIDENT_ID_ISSUER = '2.16.156.10011.1.3';

const TYPES: readonly TypedPersonId['type'][] = ['cn-resident-id', 'insurance', 'passport', 'mrn'];
const CHECK_WEIGHTS = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
const CHECK_CHARACTERS = '10X98765432';
const MAX_ISSUER_LENGTH = 128;
const MAX_VALUE_LENGTH = 64;

/**
 * A person id as people type it: a resident id of 18 (or of the old 15) characters, or "type:issuer:value".
 * @throws MeshError INVALID_ARGUMENT / PERSON_ID_CHECK_DIGIT when one character of a resident id is wrong,
 *   PERSON_ID_UNKNOWN_FORM when it is neither.
 * @see GB 11643-1999
 */
export function parsePersonId(text: string): TypedPersonId {
  const typed = text.normalize('NFKC').trim();
  const compact = typed.replace(/[\s-]/g, '').toUpperCase();
  if (/^(\d{17}[\dX]|\d{15})$/.test(compact)) return residentId(compact);
  const [, type, issuer, value] = /^([a-z-]+):([^:]+):(.+)$/.exec(typed) ?? [];
  const known = TYPES.find((name) => name === type);
  if (known === undefined || issuer === undefined || value === undefined) throw unknownForm();
  if (known === 'cn-resident-id') {
    if (issuer.trim() !== CN_RESIDENT_ID_ISSUER || !/^(\d{17}[\dXx]|\d{15})$/.test(value.trim())) throw unknownForm();
    return residentId(value.trim().toUpperCase());
  }
  const id = { type: known, issuer: issuer.trim(), value: value.trim() };
  if (!isPlain(id.issuer, MAX_ISSUER_LENGTH) || !isPlain(id.value, MAX_VALUE_LENGTH)) throw unknownForm();
  return id;
}

/** What the pseudonym is made of: `TYPE|ISSUER|VALUE`, upper-cased, each trimmed. No part may hold "|". */
export function normalisedPersonId(id: TypedPersonId): string {
  const parts = [id.type, id.issuer, id.value].map((part) => part.normalize('NFKC').trim().toUpperCase());
  if (parts.some((part) => part === '' || part.includes('|'))) throw unknownForm();
  return parts.join('|');
}

/** A person id for screens and stories: enough to recognise one's own, not enough to look a person up. */
export function maskPersonId(id: TypedPersonId): string {
  const { value } = id;
  if (id.type === 'cn-resident-id') return `${value.slice(0, 6)}${'*'.repeat(Math.max(value.length - 10, 0))}${value.slice(-4)}`;
  const shown = value.length > 4 ? 2 : 0;
  return `${'*'.repeat(value.length - shown)}${value.slice(value.length - shown)}`;
}

function residentId(compact: string): TypedPersonId {
  const value = compact.length === 15 ? lengthened(compact) : compact;
  if (!isDate(value.slice(6, 14))) throw unknownForm();
  if (checkCharacter(value) !== value[17]) {
    throw new MeshError(
      'INVALID_ARGUMENT',
      'PERSON_ID_CHECK_DIGIT',
      'The last character of this resident id does not fit the others (GB 11643): one character is mistyped. Read it again from the card.',
    );
  }
  return { type: 'cn-resident-id', issuer: CN_RESIDENT_ID_ISSUER, value };
}

/** Ids of 15 digits (before 1999) lack the century and the check character; all their holders were born in the 1900s. */
function lengthened(fifteen: string): string {
  const seventeen = `${fifteen.slice(0, 6)}19${fifteen.slice(6)}`;
  return seventeen + checkCharacter(seventeen);
}

function checkCharacter(value: string): string | undefined {
  const sum = CHECK_WEIGHTS.reduce((total, weight, place) => total + weight * Number(value[place]), 0);
  return CHECK_CHARACTERS[sum % 11];
}

function isDate(yyyymmdd: string): boolean {
  const [year, month, day] = [yyyymmdd.slice(0, 4), yyyymmdd.slice(4, 6), yyyymmdd.slice(6, 8)].map(Number) as [number, number, number];
  const date = new Date(Date.UTC(year, month - 1, day));
  return year >= 1800 && date.getUTCFullYear() === year && date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
}

function isPlain(text: string, maxLength: number): boolean {
  // eslint-disable-next-line no-control-regex
  return text.length > 0 && text.length <= maxLength && !/[\u0000-\u001f\u007f|\\^]/.test(text);
}

function unknownForm(): MeshError {
  return new MeshError(
    'INVALID_ARGUMENT',
    'PERSON_ID_UNKNOWN_FORM',
    'This is no person id that Meridian knows. Give a resident id of 18 characters, or "type:issuer:value" with the type insurance, passport or mrn.',
  );
}
