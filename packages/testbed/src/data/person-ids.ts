const WEIGHTS = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];

/**
 * A resident id (GB 11643-1999) that is right in form and belongs to nobody we know: the area code 999999 is not given out.
 * @param birthDate YYYYMMDD
 * @param sequence 0–999; odd for men, even for women
 */
export function madeUpResidentId(birthDate: string, sequence: number): string {
  const body = `999999${birthDate}${String(sequence).padStart(3, '0')}`;
  const sum = Array.from(body, Number).reduce((total, digit, at) => total + digit * (WEIGHTS[at] ?? 0), 0);
  return `${body}${'10X98765432'[sum % 11]}`;
}
