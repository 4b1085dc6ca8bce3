import type { Coercion } from '../dicom/coerce.ts';
import type { StudyRow } from '../store/rows.ts';

/**
 * Under which id a linked copy is served, or undefined where a study is served as it is. What was replaced is told in
 * Original Attributes (PS3.3 C.12.1.1.9); name, sex and birth date stay as the holder wrote them. The same study always
 * gives the same bytes.
 */
export function coercionFor(study: StudyRow, modifyingSystem: string): Coercion | undefined {
  const { linkedPatient } = study;
  if (linkedPatient === undefined) return undefined;
  return {
    // An issuer that cannot be written is left empty: the holder's would be wrong beside our id.
    replace: { patientId: linkedPatient.patientId, issuerOfPatientId: asciiOf(linkedPatient.assigningAuthority) ?? '' },
    modifyingSystem: asciiOf(modifyingSystem) ?? 'MERIDIAN',
    sourceOfPreviousValues: asciiOf(study.patient.assigningAuthority) ?? study.copyOf?.holderNode ?? '',
    at: dateTimeOf(study.firstReceivedAt),
  };
}

/** The text as an LO that every character set can hold, where it is one: the data set's own set is the holder's choice. */
function asciiOf(text: string): string | undefined {
  return /^[\x20-\x5b\x5d-\x7e]+$/.test(text) ? text.slice(0, 64) : undefined;
}

/** DT in UTC (PS3.5 6.2). */
function dateTimeOf(epochMs: number): string {
  return `${new Date(epochMs).toISOString().slice(0, 19).replace(/[-:T]/g, '')}+0000`;
}
