import type { PatientRow } from '../store/rows.ts';

/** One difference between the local patient and the fetched one, shown before anything is opened. */
export interface Mismatch {
  readonly field: 'name' | 'sex' | 'birthDate';
  readonly local: string;
  readonly fetched: string;
}

/**
 * Compares the person a copy was fetched for with the one it names. What either side leaves out says nothing. Names are
 * equal when one representation that both have is: hospitals write Latin names in many ways, ideographs in one.
 */
export function compareDemographics(local: PatientRow, fetched: PatientRow): Mismatch[] {
  const found: Mismatch[] = [];
  if (!sameName(local, fetched)) found.push({ field: 'name', local: nameText(local), fetched: nameText(fetched) });
  if (differs(local.sex, fetched.sex)) found.push({ field: 'sex', local: local.sex, fetched: fetched.sex });
  if (differs(local.birthDate, fetched.birthDate)) found.push({ field: 'birthDate', local: local.birthDate, fetched: fetched.birthDate });
  return found;
}

function sameName(local: PatientRow, fetched: PatientRow): boolean {
  const ideographs = [local, fetched].map(ideographsOf);
  if (ideographs[0] !== '' && ideographs[1] !== '') return ideographs[0] === ideographs[1];
  return !differs(latinOf(local), latinOf(fetched));
}

/** Ideographs without component marks, wherever they stand: some modalities write them into the first group. */
function ideographsOf({ name }: PatientRow): string {
  const text = name.ideographic === '' ? name.alphabetic : name.ideographic;
  return (text.normalize('NFKC').match(/\p{Script=Han}/gu) ?? []).join('');
}

function latinOf({ name }: PatientRow): string {
  return name.alphabetic
    .normalize('NFKD')
    .replace(/\p{M}/gu, '')
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]/gu, '');
}

function differs(left: string, right: string): boolean {
  return left !== '' && right !== '' && left.toUpperCase() !== right.toUpperCase();
}

function nameText({ name }: PatientRow): string {
  return [name.alphabetic, name.ideographic].filter((part) => part !== '').join(' = ');
}
