import { maskPersonId, parsePersonId } from '@meridian/shared/person-id';

/** What can be told of a person id without asking anybody: for the second look before the search. */
export interface Candidate {
  readonly personId: string;
  readonly masked: string;
  /** YYYYMMDD, where the id carries it (GB 11643). */
  readonly birthDate?: string;
  readonly sex?: 'M' | 'F';
}

/**
 * Reads a typed person id.
 * @throws MeshError INVALID_ARGUMENT PERSON_ID_CHECK_DIGIT | PERSON_ID_UNKNOWN_FORM
 */
export function candidateOf(text: string): Candidate {
  const id = parsePersonId(text.trim());
  const masked = maskPersonId(id);
  if (id.type !== 'cn-resident-id' || id.value.length !== 18) return { personId: text.trim(), masked };
  // GB 11643: digits 7-14 are the birth date, digit 17 is odd for men.
  return { personId: text.trim(), masked, birthDate: id.value.slice(6, 14), sex: Number(id.value[16]) % 2 === 1 ? 'M' : 'F' };
}
