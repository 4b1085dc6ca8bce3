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
    replace: { patientId: linkedPatient.patientId, issuerOfPatientId: linkedPatient.assigningAuthority },
    modifyingSystem: modifyingSystem.slice(0, 64),
    sourceOfPreviousValues: study.patient.assigningAuthority.slice(0, 64),
    at: dateTimeOf(study.firstReceivedAt),
  };
}

/** DT in UTC (PS3.5 6.2). */
function dateTimeOf(epochMs: number): string {
  return `${new Date(epochMs).toISOString().slice(0, 19).replace(/[-:T]/g, '')}+0000`;
}
