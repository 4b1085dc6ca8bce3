import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { DicomJson } from '../dicom/json.ts';
import { TAG } from '../dicom/tags.ts';
import { ask, openArchive, store, type Answer, type Archive } from './testing/open-archive.ts';
import { instanceFile } from './testing/instance-file.ts';

let archive: Archive;
beforeAll(async () => {
  archive = await openArchive();
  const made = [
    instanceFile(
      { study: '1.2.1', series: '1.2.1.1', instance: '1.2.1.1.1' },
      { patientId: 'P-1', studyDate: '20260101', modality: 'CT', accessionNumber: 'A1' },
    ),
    instanceFile(
      { study: '1.2.1', series: '1.2.1.1', instance: '1.2.1.1.2' },
      { patientId: 'P-1', studyDate: '20260101', modality: 'CT', accessionNumber: 'A1', instanceNumber: 2 },
    ),
    instanceFile(
      { study: '1.2.1', series: '1.2.1.2', instance: '1.2.1.2.1' },
      { patientId: 'P-1', studyDate: '20260101', modality: 'SR', accessionNumber: 'A1' },
    ),
    instanceFile(
      { study: '1.2.2', series: '1.2.2.1', instance: '1.2.2.1.1' },
      { patientId: 'P-2', studyDate: '20260215', modality: 'MR', accessionNumber: 'A2', patientName: 'Li^Na=李^娜' },
    ),
    instanceFile(
      { study: '1.2.3', series: '1.2.3.1', instance: '1.2.3.1.1' },
      { patientId: 'P-3', studyDate: '20251231', modality: 'DX', accessionNumber: 'A3', patientName: 'Sima^Yi=司马^懿' },
    ),
  ];
  await store(archive, made);
});
afterAll(() => archive.close());

const get = (address: string): Promise<Answer> => ask(archive, address, { headers: { accept: 'application/dicom+json' } });
const column = async (address: string, tag: string): Promise<unknown[]> => {
  const answer = await get(address);
  expect([address, answer.status, answer.headers['content-type']]).toEqual([address, 200, 'application/dicom+json']);
  return answer.json<DicomJson[]>().map((row) => row[tag]?.Value?.[0]);
};
const studies = (query: string): Promise<unknown[]> => column(`/studies?${query}`, TAG.StudyInstanceUID);

test('studies are found by every key, newest first', async () => {
  expect(await studies('')).toEqual(['1.2.2', '1.2.1', '1.2.3']);
  for (const [query, found] of [
    ['PatientID=P-1', ['1.2.1']],
    ['00100020=P-1', ['1.2.1']],
    ['PatientID=P-*', ['1.2.2', '1.2.1', '1.2.3']],
    ['PatientID=P-?&AccessionNumber=A2', ['1.2.2']],
    ['PatientName=li*', ['1.2.2']],
    [`PatientName=${encodeURIComponent('*司马*')}`, ['1.2.3']],
    ['StudyDate=20260101', ['1.2.1']],
    ['StudyDate=20260101-20260228', ['1.2.2', '1.2.1']],
    ['StudyDate=-20260101', ['1.2.1', '1.2.3']],
    ['StudyDate=20260201-', ['1.2.2']],
    ['StudyTime=1015-1016', ['1.2.2', '1.2.1', '1.2.3']],
    ['StudyTime=11-', []],
    ['ModalitiesInStudy=CT', ['1.2.1']],
    ['ModalitiesInStudy=SR,MR', ['1.2.2', '1.2.1']],
    ['StudyInstanceUID=1.2.1,1.2.3', ['1.2.1', '1.2.3']],
    ['StudyInstanceUID=1.2.1%5C1.2.2', ['1.2.2', '1.2.1']],
    ['StudyInstanceUID=1.2.1&StudyInstanceUID=1.2.3', ['1.2.1', '1.2.3']],
    ['PatientID=', ['1.2.2', '1.2.1', '1.2.3']],
    ['IssuerOfPatientID=HOSPITAL%20A&PatientBirthDate=19800101&PatientSex=M&StudyID=S1&StudyDescription=Ch*', ['1.2.2', '1.2.1', '1.2.3']],
    ['PatientID=absent', []],
  ] as const)
    expect([query, await studies(query)]).toEqual([query, found]);
});

test('rows carry what the standard requires, and what is asked for beside', async () => {
  const [row] = (await get('/studies?PatientID=P-1&includefield=Rows&includefield=StudyDescription,00280004')).json<DicomJson[]>() as [
    DicomJson,
  ];
  expect(row).toEqual({
    '00080020': { vr: 'DA', Value: ['20260101'] },
    '00080030': { vr: 'TM', Value: ['101530'] },
    '00080050': { vr: 'SH', Value: ['A1'] },
    '00080056': { vr: 'CS', Value: ['ONLINE'] },
    '00080061': { vr: 'CS', Value: ['CT', 'SR'] },
    '00080090': { vr: 'PN' },
    '00081030': { vr: 'LO', Value: ['Chest'] },
    '00081190': { vr: 'UR', Value: [`${archive.http.address}/dicomweb/studies/1.2.1`] },
    '00100010': { vr: 'PN', Value: [{ Alphabetic: 'Wang^Xiaoming', Ideographic: '王^小明' }] },
    '00100020': { vr: 'LO', Value: ['P-1'] },
    '00100021': { vr: 'LO', Value: ['HOSPITAL A'] },
    '00100030': { vr: 'DA', Value: ['19800101'] },
    '00100040': { vr: 'CS', Value: ['M'] },
    '0020000D': { vr: 'UI', Value: ['1.2.1'] },
    '00200010': { vr: 'SH', Value: ['S1'] },
    '00201206': { vr: 'IS', Value: [2] },
    '00201208': { vr: 'IS', Value: [3] },
    '00280004': { vr: 'CS', Value: ['MONOCHROME2'] },
    '00280010': { vr: 'US', Value: [8] },
  });
  const [series] = (await get('/studies/1.2.1/series?Modality=CT')).json<DicomJson[]>() as [DicomJson];
  expect([series[TAG.SeriesInstanceUID]?.Value, series[TAG.NumberOfSeriesRelatedInstances]?.Value, series[TAG.PatientID]]).toEqual([
    ['1.2.1.1'],
    [2],
    undefined,
  ]);
  const all = (await get('/studies/1.2.1/series/1.2.1.1/instances?includefield=all')).json<DicomJson[]>();
  expect(all.map((each) => [each[TAG.InstanceNumber]?.Value, each[TAG.BitsAllocated]?.Value, each[TAG.PixelData]])).toEqual([
    [[1], [8], undefined],
    [[2], [8], undefined],
  ]);
});

test('series and instances are found across studies and within one', async () => {
  expect(await column('/series?Modality=MR', TAG.StudyInstanceUID)).toEqual(['1.2.2']);
  expect(await column('/series?PatientID=P-1', TAG.SeriesInstanceUID)).toEqual(['1.2.1.1', '1.2.1.2']);
  expect((await get('/series?Modality=MR')).json<DicomJson[]>()[0]?.[TAG.PatientID]?.Value).toEqual(['P-2']);
  expect(await column('/instances?SOPInstanceUID=1.2.1.1.2,1.2.2.1.1', TAG.SOPInstanceUID)).toEqual(['1.2.2.1.1', '1.2.1.1.2']);
  expect(await column('/studies/1.2.1/instances?InstanceNumber=2', TAG.SOPInstanceUID)).toEqual(['1.2.1.1.2']);
  expect(await column('/studies/1.2.1/series/1.2.1.2/instances', TAG.SOPInstanceUID)).toEqual(['1.2.1.2.1']);
  expect((await get('/studies/9.9/series')).json<{ reason: string }>().reason).toBe('STUDY_UNKNOWN');
});

test('pages are stable, tell that there is more, and fuzzy matching is answered with a warning', async () => {
  expect(await studies('limit=2')).toEqual(['1.2.2', '1.2.1']);
  expect((await get('/studies?limit=2')).headers['warning']).toContain('additional results');
  expect(await studies('limit=2&offset=2')).toEqual(['1.2.3']);
  expect((await get('/studies?limit=2&offset=2')).headers['warning']).toBeUndefined();
  expect(await studies('limit=0')).toEqual([]);
  const fuzzy = await get('/studies?fuzzymatching=true&PatientName=Li*');
  expect([fuzzy.json<unknown[]>().length, fuzzy.headers['warning']]).toEqual([1, expect.stringContaining('fuzzymatching')]);
});

test('what is not understood is refused with a reason, not ignored', async () => {
  for (const [query, reason] of [
    ['Nonsense=1', 'ATTRIBUTE_UNKNOWN'],
    ['includefield=Nonsense', 'ATTRIBUTE_UNKNOWN'],
    ['Manufacturer=ACME', 'ATTRIBUTE_NOT_SEARCHABLE'],
    ['Modality=CT', 'ATTRIBUTE_NOT_SEARCHABLE'],
    ['StudyDate=yesterday', 'QUERY_VALUE_INVALID'],
    ['StudyDate=2026-01-01', 'QUERY_VALUE_INVALID'],
    ['StudyTime=25h', 'QUERY_VALUE_INVALID'],
    ['StudyInstanceUID=../x', 'QUERY_VALUE_INVALID'],
    ['limit=-1', 'QUERY_VALUE_INVALID'],
    ['offset=x', 'QUERY_VALUE_INVALID'],
    ['fuzzymatching=yes', 'QUERY_VALUE_INVALID'],
    ['PatientID=1&PatientID=2', 'QUERY_VALUE_INVALID'],
    [Array.from({ length: 300 }, () => 'includefield=Rows').join('&'), 'QUERY_TOO_LONG'],
    [`PatientID=${'x'.repeat(20_000)}`, 'QUERY_TOO_LONG'],
  ] as const) {
    const answer = await get(`/studies?${query}`);
    expect([query.slice(0, 40), answer.status, answer.json<{ reason: string }>().reason]).toEqual([query.slice(0, 40), 400, reason]);
  }
  expect((await get(`/studies?PatientID=${'x'.repeat(100_000)}`)).status).toBe(431);
  expect((await ask(archive, '/studies', { headers: { accept: 'application/dicom+xml' } })).status).toBe(406);
  for (const injection of ["x' OR '1'='1", '%" OR 1=1 --', '\\'])
    expect(await studies(`PatientID=${encodeURIComponent(injection)}`)).toEqual([]);
});
