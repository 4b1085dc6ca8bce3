import { MeshError } from '@meridian/shared/errors';
import { firstNumber, firstString, personName, sequenceItems } from './json.ts';
import type { DicomJson, DicomJsonPersonName } from './json.ts';
import { TAG } from './tags.ts';

/** One item of Other Patient IDs Sequence (0010,1002). */
export interface OtherPatientId {
  readonly id: string;
  readonly issuer?: string;
  /** Unique identifier of the issuer, often an OID, and its type (ISO, DNS…): from Issuer of Patient ID Qualifiers (0010,0024). */
  readonly universalEntityId?: string;
  readonly universalEntityIdType?: string;
  /** Type of Patient ID (0010,0022): TEXT, RFID, BARCODE. */
  readonly type?: string;
}

/** What says which patient, study, series and instance a data set belongs to, and how they are listed. Texts are trimmed; DA and TM stay as written. */
export interface DicomIdentity {
  /** Empty where the data set has none. */
  readonly patientId: string;
  readonly issuerOfPatientId?: string;
  readonly issuerUniversalEntityId?: string;
  readonly issuerUniversalEntityIdType?: string;
  readonly otherPatientIds: readonly OtherPatientId[];
  readonly patientName: { readonly alphabetic: string; readonly ideographic: string; readonly phonetic: string };
  readonly patientBirthDate: string;
  readonly patientSex: string;
  readonly studyInstanceUid: string;
  readonly seriesInstanceUid: string;
  readonly sopInstanceUid: string;
  readonly sopClassUid: string;
  readonly studyDate: string;
  readonly studyTime: string;
  readonly accessionNumber: string;
  readonly studyDescription: string;
  readonly studyId: string;
  readonly referringPhysicianName: string;
  readonly modality: string;
  readonly seriesNumber?: number;
  readonly seriesDescription: string;
  readonly bodyPartExamined: string;
  readonly instanceNumber?: number;
  readonly numberOfFrames: number;
  readonly rows?: number;
  readonly columns?: number;
  /** `&ZZXX` as in `+0800` (0008,0201). */
  readonly timezoneOffsetFromUtc?: string;
}

/**
 * Identity of a data set.
 * @throws MeshError INVALID_ARGUMENT / DICOM_UID_MISSING where SOP class, SOP instance, study or series UID is absent or no UID
 */
export function identityOf(dataset: DicomJson): DicomIdentity {
  const qualifiers = sequenceItems(dataset, TAG.IssuerOfPatientIDQualifiersSequence)[0] ?? {};
  return {
    patientId: text(dataset, TAG.PatientID),
    ...optional('issuerOfPatientId', firstString(dataset, TAG.IssuerOfPatientID)),
    ...optional('issuerUniversalEntityId', firstString(qualifiers, TAG.UniversalEntityID)),
    ...optional('issuerUniversalEntityIdType', firstString(qualifiers, TAG.UniversalEntityIDType)),
    otherPatientIds: sequenceItems(dataset, TAG.OtherPatientIDsSequence).flatMap(otherPatientId),
    patientName: representations(personName(dataset, TAG.PatientName)),
    patientBirthDate: text(dataset, TAG.PatientBirthDate),
    patientSex: text(dataset, TAG.PatientSex),
    studyInstanceUid: requiredUid(dataset, TAG.StudyInstanceUID, 'study instance UID (0020,000D)'),
    seriesInstanceUid: requiredUid(dataset, TAG.SeriesInstanceUID, 'series instance UID (0020,000E)'),
    sopInstanceUid: requiredUid(dataset, TAG.SOPInstanceUID, 'SOP instance UID (0008,0018)'),
    sopClassUid: requiredUid(dataset, TAG.SOPClassUID, 'SOP class UID (0008,0016)'),
    studyDate: text(dataset, TAG.StudyDate),
    studyTime: text(dataset, TAG.StudyTime),
    accessionNumber: text(dataset, TAG.AccessionNumber),
    studyDescription: text(dataset, TAG.StudyDescription),
    studyId: text(dataset, TAG.StudyID),
    referringPhysicianName: oneName(personName(dataset, TAG.ReferringPhysicianName)),
    modality: text(dataset, TAG.Modality),
    ...optional('seriesNumber', firstNumber(dataset, TAG.SeriesNumber)),
    seriesDescription: text(dataset, TAG.SeriesDescription),
    bodyPartExamined: text(dataset, TAG.BodyPartExamined),
    ...optional('instanceNumber', firstNumber(dataset, TAG.InstanceNumber)),
    numberOfFrames: Math.max(1, Math.trunc(firstNumber(dataset, TAG.NumberOfFrames) ?? 1)),
    ...optional('rows', firstNumber(dataset, TAG.Rows)),
    ...optional('columns', firstNumber(dataset, TAG.Columns)),
    ...optional('timezoneOffsetFromUtc', firstString(dataset, TAG.TimezoneOffsetFromUTC)),
  };
}

/** True for what this mesh takes as a UID: digits and dots, 1 to 64 (PS3.5 9.1, without its finer rules, which real files break). */
export function isUid(uid: string): boolean {
  return /^[0-9.]{1,64}$/.test(uid);
}

function requiredUid(dataset: DicomJson, tag: string, name: string): string {
  const uid = firstString(dataset, tag)?.replace(/[\0\s]+$/, '');
  if (uid !== undefined && isUid(uid)) return uid;
  throw new MeshError(
    'INVALID_ARGUMENT',
    'DICOM_UID_MISSING',
    `The data set has no valid ${name}. Correct it at its source and send it again.`,
  );
}

function text(dataset: DicomJson, tag: string): string {
  return firstString(dataset, tag) ?? '';
}

function optional<Key extends string, Value>(key: Key, value: Value | undefined): { [K in Key]?: Value } {
  return (value === undefined ? {} : { [key]: value }) as { [K in Key]?: Value };
}

function representations(name: DicomJsonPersonName | undefined): DicomIdentity['patientName'] {
  return { alphabetic: name?.Alphabetic ?? '', ideographic: name?.Ideographic ?? '', phonetic: name?.Phonetic ?? '' };
}

function oneName(name: DicomJsonPersonName | undefined): string {
  return name?.Alphabetic ?? name?.Ideographic ?? name?.Phonetic ?? '';
}

function otherPatientId(item: DicomJson): OtherPatientId[] {
  const id = firstString(item, TAG.PatientID);
  if (id === undefined) return [];
  const qualifiers = sequenceItems(item, TAG.IssuerOfPatientIDQualifiersSequence)[0] ?? {};
  return [
    {
      id,
      ...optional('issuer', firstString(item, TAG.IssuerOfPatientID)),
      ...optional('universalEntityId', firstString(qualifiers, TAG.UniversalEntityID)),
      ...optional('universalEntityIdType', firstString(qualifiers, TAG.UniversalEntityIDType)),
      ...optional('type', firstString(item, TAG.TypeOfPatientID)),
    },
  ];
}
