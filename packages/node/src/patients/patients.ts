import { MeshError } from '@meridian/shared/errors';
import { encodeBase32, type TypedPersonId } from '@meridian/shared/identifiers';
import type { Random } from '@meridian/shared/platform/random';
import type { Coercion } from '../dicom/coerce.ts';
import type { EnsurePatient } from '../store/fetched-jobs.ts';
import type { PatientRow, StudyRow } from '../store/rows.ts';
import type { Store } from '../store/store.ts';
import { coercionFor } from './coercion.ts';
import { compareDemographics, type Mismatch } from './demographics.ts';

export type { Mismatch } from './demographics.ts';

/** This hospital's patients, and the copies that were fetched for them. */
export interface Patients {
  /**
   * The patient of this hospital who carries the person id; made for the copy if there is none.
   * @param options.patientId this hospital's id of the person, where the asker knows it
   * @throws MeshError FAILED_PRECONDITION / PATIENT_IS_ANOTHER_PERSON where that patient carries another id of the same kind
   */
  localPatientFor(personId: TypedPersonId, options?: { readonly patientId?: string }): Promise<PatientRow>;
  /** Serves a fetched study under a local patient. @throws MeshError NOT_FOUND / STUDY_UNKNOWN, PATIENT_UNKNOWN */
  linkFetchedStudy(studyInstanceUid: string, patientPk: number): Promise<void>;
  /** What differs; empty where nothing that both state does. */
  compareDemographics(local: PatientRow, fetched: PatientRow): Mismatch[];
  /** Differences between a linked copy and the patient it is linked to. */
  mismatchesOf(study: StudyRow): Mismatch[];
  coercionFor(study: StudyRow): Coercion | undefined;
}

/**
 * Opens the room.
 * @param parts.assigningAuthority of this hospital's own PatientIDs
 * @param parts.modifyingSystem what Original Attributes name as the system that replaced an id: an AE title, ASCII
 */
export function openPatients(parts: {
  store: Pick<Store, 'studies' | 'database' | 'fetched'>;
  assigningAuthority: string;
  random: Random;
  modifyingSystem?: string;
}): Patients {
  const { store, assigningAuthority, random } = parts;
  let making: Promise<unknown> = Promise.resolve();

  const ensure = async (patientId: string, personId: TypedPersonId): Promise<PatientRow> => {
    const step: EnsurePatient = { assigningAuthority, patientId, personId: { ...personId } };
    const found = await store.studies.patientByPk(await store.database.run<number>('ensurePatient', step));
    if (found === undefined) throw new MeshError('INTERNAL', 'PATIENT_UNKNOWN', 'The patient that was just made is gone.');
    return found;
  };

  const find = async (personId: TypedPersonId, patientId: string | undefined): Promise<PatientRow> => {
    const carriers = (await store.studies.patientsOfPerson(personId)).filter(
      (patient) => patient.assigningAuthority === assigningAuthority && patient.patientId !== '',
    );
    const wanted = patientId?.trim() ?? '';
    if (wanted !== '') {
      // A PatientID that stands for several people has a row for each.
      const carrier = carriers.find((patient) => patient.patientId === wanted);
      if (carrier !== undefined) return carrier;
      await assertSamePerson(wanted, personId);
      return ensure(wanted, personId);
    }
    // Made ids are random: one that followed from the person id would give it away.
    return carriers[0] ?? ensure(`M${encodeBase32(random.bytes(10)).toUpperCase()}`, personId);
  };

  const assertSamePerson = async (patientId: string, personId: TypedPersonId): Promise<void> => {
    const patient = await store.studies.patient(assigningAuthority, patientId);
    if (patient === undefined) return;
    const carried = await store.studies.personIdsOfPatient(patient.pk);
    const sameKind = carried.filter(({ type, issuer }) => type === personId.type && issuer === personId.issuer);
    if (sameKind.length === 0 || sameKind.some(({ value }) => value === personId.value)) return;
    throw new MeshError(
      'FAILED_PRECONDITION',
      'PATIENT_IS_ANOTHER_PERSON',
      'The patient with this local id carries another person id. Check which of the two is right before a study is filed under it.',
    );
  };

  return {
    localPatientFor: (personId, options = {}) => {
      // One at a time: two fetches for one person must not make two patients.
      const result = making.then(() => find(personId, options.patientId));
      making = result.catch(() => undefined);
      return result;
    },
    linkFetchedStudy: async (studyInstanceUid, patientPk) => {
      if ((await store.studies.patientByPk(patientPk)) === undefined)
        throw new MeshError('NOT_FOUND', 'PATIENT_UNKNOWN', 'This node knows no such patient.');
      if (!(await store.fetched.link(studyInstanceUid, patientPk)))
        throw new MeshError('NOT_FOUND', 'STUDY_UNKNOWN', 'This node holds no fetched copy of that study.');
    },
    compareDemographics,
    mismatchesOf: (study) => (study.linkedPatient === undefined ? [] : compareDemographics(study.linkedPatient, study.patient)),
    coercionFor: (study) => coercionFor(study, parts.modifyingSystem ?? 'MERIDIAN'),
  };
}
