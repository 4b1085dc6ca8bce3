import type { DicomJson, DicomJsonElement, DicomJsonValue } from '../dicom/json.ts';
import { TAG } from '../dicom/tags.ts';
import type { InstanceRow, SeriesRow, StudyRow } from '../store/rows.ts';
import { instanceUrl } from './addresses.ts';

/** Attributes of a study that every search returns (PS3.18 Table 10.6.3-3), and its description. */
export function studyAttributes(study: StudyRow, baseUrl: string): DicomJson {
  const { name } = study.patient;
  return {
    [TAG.StudyDate]: text('DA', study.studyDate),
    [TAG.StudyTime]: text('TM', study.studyTime),
    [TAG.AccessionNumber]: text('SH', study.accessionNumber),
    [TAG.InstanceAvailability]: text('CS', study.locked ? 'UNAVAILABLE' : 'ONLINE'),
    [TAG.ModalitiesInStudy]: values('CS', study.modalities),
    [TAG.ReferringPhysicianName]: personName({ alphabetic: study.referringPhysicianName, ideographic: '', phonetic: '' }),
    ...(study.timezoneOffset === '' ? {} : { [TAG.TimezoneOffsetFromUTC]: text('SH', study.timezoneOffset) }),
    [TAG.StudyDescription]: text('LO', study.studyDescription),
    [TAG.RetrieveURL]: text('UR', `${baseUrl}/studies/${study.studyInstanceUid}`),
    [TAG.PatientName]: personName(name),
    [TAG.PatientID]: text('LO', study.patient.patientId),
    [TAG.IssuerOfPatientID]: text('LO', study.patient.assigningAuthority),
    [TAG.PatientBirthDate]: text('DA', study.patient.birthDate),
    [TAG.PatientSex]: text('CS', study.patient.sex),
    [TAG.StudyInstanceUID]: text('UI', study.studyInstanceUid),
    [TAG.StudyID]: text('SH', study.studyId),
    [TAG.NumberOfStudyRelatedSeries]: values('IS', [study.seriesCount]),
    [TAG.NumberOfStudyRelatedInstances]: values('IS', [study.instanceCount]),
  };
}

/** Attributes of a series that every search returns (PS3.18 Table 10.6.3-4). */
export function seriesAttributes(series: SeriesRow, baseUrl: string): DicomJson {
  return {
    [TAG.Modality]: text('CS', series.modality),
    [TAG.SeriesDescription]: text('LO', series.seriesDescription),
    [TAG.RetrieveURL]: text('UR', `${baseUrl}/studies/${series.studyInstanceUid}/series/${series.seriesInstanceUid}`),
    [TAG.BodyPartExamined]: text('CS', series.bodyPartExamined),
    [TAG.StudyInstanceUID]: text('UI', series.studyInstanceUid),
    [TAG.SeriesInstanceUID]: text('UI', series.seriesInstanceUid),
    [TAG.SeriesNumber]: values('IS', series.seriesNumber === undefined ? [] : [series.seriesNumber]),
    [TAG.NumberOfSeriesRelatedInstances]: values('IS', [series.instanceCount]),
  };
}

/** Attributes of an instance that every search returns (PS3.18 Table 10.6.3-5). */
export function instanceAttributes(instance: InstanceRow, baseUrl: string): DicomJson {
  return {
    [TAG.SOPClassUID]: text('UI', instance.sopClassUid),
    [TAG.SOPInstanceUID]: text('UI', instance.sopInstanceUid),
    [TAG.InstanceAvailability]: text('CS', 'ONLINE'),
    [TAG.RetrieveURL]: text('UR', instanceUrl(baseUrl, instance)),
    [TAG.StudyInstanceUID]: text('UI', instance.studyInstanceUid),
    [TAG.SeriesInstanceUID]: text('UI', instance.seriesInstanceUid),
    [TAG.InstanceNumber]: values('IS', instance.instanceNumber === undefined ? [] : [instance.instanceNumber]),
    ...(instance.rows === undefined ? {} : { [TAG.Rows]: values('US', [instance.rows]) }),
    ...(instance.columns === undefined ? {} : { [TAG.Columns]: values('US', [instance.columns]) }),
    ...(instance.numberOfFrames > 1 ? { [TAG.NumberOfFrames]: values('IS', [instance.numberOfFrames]) } : {}),
  };
}

/** A data set with its elements in the order of their tags (PS3.18 F.2.2). */
export function inTagOrder(dataset: DicomJson): DicomJson {
  return Object.fromEntries(Object.entries(dataset).sort(([first], [second]) => (first < second ? -1 : 1)));
}

function values(vr: string, list: readonly DicomJsonValue[]): DicomJsonElement {
  return list.length === 0 ? { vr } : { vr, Value: [...list] };
}

function text(vr: string, value: string): DicomJsonElement {
  return values(vr, value === '' ? [] : [value]);
}

function personName(name: { readonly alphabetic: string; readonly ideographic: string; readonly phonetic: string }): DicomJsonElement {
  const value = {
    ...(name.alphabetic === '' ? {} : { Alphabetic: name.alphabetic }),
    ...(name.ideographic === '' ? {} : { Ideographic: name.ideographic }),
    ...(name.phonetic === '' ? {} : { Phonetic: name.phonetic }),
  };
  return values('PN', Object.keys(value).length === 0 ? [] : [value]);
}
