import { part10Prefix } from '../../dicom/part10.ts';
import { element } from '../../dicom/testing/build-dataset.ts';

/** UIDs of a made instance. */
export interface InstanceUids {
  readonly study: string;
  readonly series: string;
  readonly instance: string;
}

/** What else is made different. */
export interface InstanceOptions {
  /** Value of every pixel of a 16 x 8 picture of 8 bits. */
  readonly pixel?: number;
  /** Pixel data as given. */
  readonly pixels?: Buffer;
  readonly patientName?: string;
  readonly patientId?: string;
  readonly studyDate?: string;
  readonly modality?: string;
  readonly accessionNumber?: string;
  readonly instanceNumber?: number;
  /** A private element of so many bytes: a long value. */
  readonly bulkBytes?: number;
}

const u16 = (value: number): Buffer => {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
};

/** A small valid secondary capture image as a Part 10 file, UTF-8, explicit VR little endian. */
export function instanceFile(uids: InstanceUids, options: InstanceOptions = {}): Buffer {
  const transferSyntaxUid = '1.2.840.10008.1.2.1';
  const sopClassUid = '1.2.840.10008.5.1.4.1.1.7';
  const name = Buffer.from(options.patientName ?? 'Wang^Xiaoming=王^小明', 'utf8');
  return Buffer.concat([
    part10Prefix({ sopClassUid, sopInstanceUid: uids.instance, transferSyntaxUid }),
    element(0x00080005, 'CS', 'ISO_IR 192'),
    element(0x00080016, 'UI', sopClassUid),
    element(0x00080018, 'UI', uids.instance),
    element(0x00080020, 'DA', options.studyDate ?? '20260102'),
    element(0x00080030, 'TM', '101530'),
    element(0x00080050, 'SH', options.accessionNumber ?? 'ACC1'),
    element(0x00080060, 'CS', options.modality ?? 'OT'),
    element(0x00081030, 'LO', 'Chest'),
    element(0x00100010, 'PN', name),
    element(0x00100020, 'LO', options.patientId ?? 'P-1'),
    element(0x00100030, 'DA', '19800101'),
    element(0x00100040, 'CS', 'M'),
    element(0x0020000d, 'UI', uids.study),
    element(0x0020000e, 'UI', uids.series),
    element(0x00200010, 'SH', 'S1'),
    element(0x00200011, 'IS', '1'),
    element(0x00200013, 'IS', String(options.instanceNumber ?? 1)),
    element(0x00280002, 'US', u16(1)),
    element(0x00280004, 'CS', 'MONOCHROME2'),
    element(0x00280010, 'US', u16(8)),
    element(0x00280011, 'US', u16(16)),
    element(0x00280100, 'US', u16(8)),
    element(0x00280101, 'US', u16(8)),
    element(0x00280102, 'US', u16(7)),
    element(0x00280103, 'US', u16(0)),
    ...(options.bulkBytes === undefined
      ? []
      : [element(0x00290010, 'LO', 'MERIDIAN TEST'), element(0x00291001, 'OB', Buffer.alloc(options.bulkBytes, 7))]),
    element(0x7fe00010, 'OB', options.pixels ?? Buffer.alloc(128, options.pixel ?? 5)),
  ]);
}
