import { createHash } from 'node:crypto';
import { CN_RESIDENT_ID_ISSUER } from '@meridian/shared/identifiers';
import { type Element, type TextCoding, gb18030, utf8, writeDataSet } from './data-set-writer.ts';
import { ctSlice, mrSlice, type Picture, radiograph } from './phantom.ts';

/** Somebody who is examined: the same person may have another local id at every hospital. */
export interface Person {
  /** DICOM PN: alphabetic=ideographic. */
  readonly name: string;
  readonly birthDate: string;
  readonly sex: 'F' | 'M';
  /** Resident id (GB 11643); studies of a person without one stay local. */
  readonly residentId?: string;
}

/** One study to make. */
export interface StudyOrder {
  readonly seed: number;
  readonly kind: 'ct' | 'mr' | 'dx';
  readonly person: Person;
  /** The hospital's own id of this person. */
  readonly patientId: string;
  readonly issuerOfPatientId?: string;
  /** DICOM DA and TM. */
  readonly date: string;
  readonly time: string;
  readonly institution: string;
  readonly description: string;
  /** Images a series; DX makes one image a view. */
  readonly slices: number;
  readonly size: number;
  readonly charset: 'gb18030' | 'utf8';
}

/** One image, ready to send. */
export interface GeneratedInstance {
  readonly studyInstanceUid: string;
  readonly seriesInstanceUid: string;
  readonly sopInstanceUid: string;
  readonly sopClassUid: string;
  readonly transferSyntaxUid: string;
  /** Data set bytes in that transfer syntax. */
  readonly dataSet: Buffer;
}

const EXPLICIT_VR_LITTLE_ENDIAN = '1.2.840.10008.1.2.1';
const SOP_CLASS = { ct: '1.2.840.10008.5.1.4.1.1.2', mr: '1.2.840.10008.5.1.4.1.1.4', dx: '1.2.840.10008.5.1.4.1.1.1.1' } as const;

/** A UID under 2.25 (PS3.5 B.2) that is the same for the same words. */
export function uidFrom(...words: readonly (string | number)[]): string {
  const digest = createHash('sha256').update(words.join('|')).digest().subarray(0, 16);
  digest[6] = ((digest[6] ?? 0) & 0x0f) | 0x40;
  digest[8] = ((digest[8] ?? 0) & 0x3f) | 0x80;
  return `2.25.${BigInt(`0x${digest.toString('hex')}`).toString()}`;
}

/** The StudyInstanceUID that an order will have. */
export function studyUidOf(order: Pick<StudyOrder, 'seed' | 'kind'>): string {
  return uidFrom('study', order.kind, order.seed);
}

/** The images of one study, one by one; the same order makes the same bytes. */
export function* generateStudy(order: StudyOrder): Generator<GeneratedInstance> {
  const coding = order.charset === 'utf8' ? utf8 : gb18030();
  const series = SERIES[order.kind];
  for (const [seriesAt, seriesDescription] of series.entries()) {
    for (let at = 0; at < (order.kind === 'dx' ? 1 : order.slices); at += 1) {
      const picture = pictureOf(order, seriesAt, at);
      const seriesInstanceUid = uidFrom('series', order.kind, order.seed, seriesAt);
      const sopInstanceUid = uidFrom('instance', order.kind, order.seed, seriesAt, at);
      const elements = [
        ...patientElements(order),
        ...studyElements(order, coding),
        ...seriesElements(order, seriesInstanceUid, seriesAt, seriesDescription),
        ...imageElements(order, picture, at),
        [0x00080016, 'UI', SOP_CLASS[order.kind]],
        [0x00080018, 'UI', sopInstanceUid],
      ] satisfies Element[];
      yield {
        studyInstanceUid: studyUidOf(order),
        seriesInstanceUid,
        sopInstanceUid,
        sopClassUid: SOP_CLASS[order.kind],
        transferSyntaxUid: EXPLICIT_VR_LITTLE_ENDIAN,
        dataSet: writeDataSet(elements, coding),
      };
    }
  }
}

const SERIES: Readonly<Record<StudyOrder['kind'], readonly string[]>> = {
  ct: ['胸部平扫 1.0mm'],
  mr: ['T1 轴位', 'T2 轴位'],
  dx: ['胸部正位', '胸部侧位'],
};

function pictureOf(order: StudyOrder, seriesAt: number, at: number): Picture {
  const seed = order.seed * 100 + seriesAt;
  const level = (at + 0.5) / order.slices;
  if (order.kind === 'ct') return ctSlice({ size: order.size, level, seed });
  if (order.kind === 'mr') return mrSlice({ size: order.size, level, seed });
  return radiograph({ size: order.size, seed });
}

function patientElements(order: StudyOrder): Element[] {
  const { person } = order;
  const national: Element[] = [
    [0x00100020, 'LO', person.residentId ?? ''],
    [0x00100021, 'LO', CN_RESIDENT_ID_ISSUER],
    [0x00100022, 'CS', 'TEXT'],
    [
      0x00100024,
      'SQ',
      [
        [
          [0x00400032, 'UT', CN_RESIDENT_ID_ISSUER],
          [0x00400033, 'CS', 'ISO'],
        ],
      ],
    ],
  ];
  return [
    [0x00100010, 'PN', person.name],
    [0x00100020, 'LO', order.patientId],
    ...(order.issuerOfPatientId === undefined ? [] : [[0x00100021, 'LO', order.issuerOfPatientId] as const]),
    [0x00100030, 'DA', person.birthDate],
    [0x00100040, 'CS', person.sex],
    ...(person.residentId === undefined ? [] : [[0x00101002, 'SQ', [national]] as const]),
  ];
}

function studyElements(order: StudyOrder, coding: TextCoding): Element[] {
  return [
    [0x00080005, 'CS', coding.specificCharacterSet],
    [0x0020000d, 'UI', studyUidOf(order)],
    [0x00080020, 'DA', order.date],
    [0x00080030, 'TM', order.time],
    [0x00080050, 'SH', `A${order.seed}`],
    [0x00080090, 'PN', ''],
    [0x00080201, 'SH', '+0800'],
    [0x00081030, 'LO', order.description],
    [0x00200010, 'SH', String(order.seed)],
    [0x00080080, 'LO', order.institution],
    [0x00080070, 'LO', 'Phantom Works'],
  ];
}

function seriesElements(order: StudyOrder, seriesInstanceUid: string, seriesAt: number, description: string): Element[] {
  return [
    [0x0020000e, 'UI', seriesInstanceUid],
    [0x00080060, 'CS', order.kind.toUpperCase()],
    [0x00200011, 'IS', String(seriesAt + 1)],
    [0x0008103e, 'LO', description],
    [0x00180015, 'CS', order.kind === 'mr' ? 'HEAD' : 'CHEST'],
    [0x00200060, 'CS', ''],
    ...(order.kind === 'dx'
      ? [[0x00185101, 'CS', seriesAt === 0 ? 'PA' : 'LL'] as const, [0x00080068, 'CS', 'FOR PRESENTATION'] as const]
      : [[0x00185100, 'CS', 'HFS'] as const]),
  ];
}

function imageElements(order: StudyOrder, picture: Picture, at: number): Element[] {
  const spacing = (360 / picture.columns).toFixed(4);
  const placed: Element[] =
    order.kind === 'dx'
      ? [
          [0x00181164, 'DS', [spacing, spacing]],
          [0x00282110, 'CS', '00'],
          [0x20500020, 'CS', 'IDENTITY'],
        ]
      : [
          [0x00200052, 'UI', uidFrom('frame-of-reference', order.kind, order.seed)],
          [0x00200032, 'DS', ['-180', '-180', String(-at)]],
          [0x00200037, 'DS', ['1', '0', '0', '0', '1', '0']],
          [0x00180050, 'DS', '1'],
          [0x00280030, 'DS', [spacing, spacing]],
          [0x00201041, 'DS', String(-at)],
        ];
  const window = { ct: ['40', '400'], mr: ['400', '800'], dx: ['1700', '2600'] }[order.kind];
  return [
    [0x00080008, 'CS', ['ORIGINAL', 'PRIMARY', ...(order.kind === 'dx' ? [] : ['AXIAL'])]],
    [0x00200013, 'IS', String(at + 1)],
    ...placed,
    [0x00280002, 'US', 1],
    [0x00280004, 'CS', 'MONOCHROME2'],
    [0x00280010, 'US', picture.rows],
    [0x00280011, 'US', picture.columns],
    [0x00280100, 'US', 16],
    [0x00280101, 'US', 12],
    [0x00280102, 'US', 11],
    [0x00280103, 'US', 0],
    [0x00281050, 'DS', window[0] ?? ''],
    [0x00281051, 'DS', window[1] ?? ''],
    [0x00281052, 'DS', order.kind === 'ct' ? '-1024' : '0'],
    [0x00281053, 'DS', '1'],
    ...(order.kind === 'ct' ? [[0x00281054, 'LO', 'HU'] as const] : []),
    [0x7fe00010, 'OW', picture.pixels],
  ];
}
