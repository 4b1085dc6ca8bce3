import { CN_RESIDENT_ID_ISSUER, parsePersonId, type TypedPersonId } from '@meridian/shared/identifiers';
import type { DicomIdentity } from '../dicom/identity.ts';

/** What a source's rule says of its PatientID. */
export interface PersonIdRule {
  /** PatientID is the national id. */
  readonly nationalIdIn?: 'patient-id';
}

/**
 * Ids that name the person beyond one hospital: items of Other Patient IDs (0010,1002) with an issuer, and PatientID
 * only where the source's rule says that it is the national id. An id without issuer, or with a wrong check character,
 * never links anybody and is left out.
 */
export function personIdsOf(identity: DicomIdentity, rule: PersonIdRule): TypedPersonId[] {
  const found: TypedPersonId[] = [];
  const add = (text: string): void => {
    const id = parsed(text);
    if (id !== undefined && !found.some((other) => other.type === id.type && other.issuer === id.issuer && other.value === id.value))
      found.push(id);
  };
  for (const other of identity.otherPatientIds) {
    const issuer = other.universalEntityId ?? other.issuer;
    if (issuer === undefined) continue;
    add(issuer === CN_RESIDENT_ID_ISSUER || other.issuer === CN_RESIDENT_ID_ISSUER ? other.id : `mrn:${issuer}:${other.id}`);
  }
  if (rule.nationalIdIn === 'patient-id' && identity.patientId !== '') add(identity.patientId);
  return found;
}

function parsed(text: string): TypedPersonId | undefined {
  try {
    return parsePersonId(text);
  } catch {
    // What a modality wrote cannot be corrected here; the study stays local until it is linked.
    return undefined;
  }
}
