/** Values of a made CT-like data set, explicit VR little endian. */
export interface MadeInstance {
  readonly study?: string;
  readonly series?: string;
  readonly sop?: string;
  readonly patientId?: string;
  readonly patientName?: string;
  readonly birthDate?: string;
  readonly sex?: string;
  readonly issuer?: string;
  /** Resident ids of Other Patient IDs (0010,1002). */
  readonly residentId?: string;
  readonly studyDate?: string;
  readonly studyTime?: string;
  readonly accession?: string;
  readonly description?: string;
  readonly modality?: string;
  readonly seriesNumber?: number;
  readonly instanceNumber?: number;
  readonly pixelBytes?: number;
  /** Seeds the pixels. */
  readonly fill?: number;
}

export const EXPLICIT_LE = '1.2.840.10008.1.2.1';
export const CT_IMAGE_STORAGE = '1.2.840.10008.5.1.4.1.1.2';
export const RESIDENT_ID_ISSUER = '2.16.156.10011.1.3';

/** Bytes of the data set before its pixels' value; the value has `pixelBytes` bytes. */
export function makeHeader(made: MadeInstance): Buffer {
  const pixelBytes = made.pixelBytes ?? 2048;
  const elements: [number, string, string | Buffer][] = [
    [0x00080005, 'CS', 'ISO_IR 192'],
    [0x00080016, 'UI', CT_IMAGE_STORAGE],
    [0x00080018, 'UI', made.sop ?? '1.2.3.1.1'],
    [0x00080020, 'DA', made.studyDate ?? '20260102'],
    [0x00080030, 'TM', made.studyTime ?? '101500'],
    [0x00080050, 'SH', made.accession ?? 'ACC1'],
    [0x00080060, 'CS', made.modality ?? 'CT'],
    [0x00080090, 'PN', 'DOC^TOR'],
    [0x00081030, 'LO', made.description ?? '胸部平扫'],
    [0x00100010, 'PN', made.patientName ?? 'Wang^XiaoMing=王^小明'],
    [0x00100020, 'LO', made.patientId ?? 'P1'],
    ...(made.issuer === undefined ? [] : [[0x00100021, 'LO', made.issuer] as [number, string, string]]),
    [0x00100030, 'DA', made.birthDate ?? '19900307'],
    [0x00100040, 'CS', made.sex ?? 'M'],
    ...(made.residentId === undefined
      ? []
      : [
          [
            0x00101002,
            'SQ',
            item([
              [0x00100020, 'LO', made.residentId],
              [0x00100021, 'LO', RESIDENT_ID_ISSUER],
            ]),
          ] as [number, string, Buffer],
        ]),
    [0x00180015, 'CS', 'CHEST'],
    [0x0020000d, 'UI', made.study ?? '1.2.3'],
    [0x0020000e, 'UI', made.series ?? '1.2.3.1'],
    [0x00200010, 'SH', 'S1'],
    [0x00200011, 'IS', String(made.seriesNumber ?? 1)],
    [0x00200013, 'IS', String(made.instanceNumber ?? 1)],
    [0x00280010, 'US', short(32)],
    [0x00280011, 'US', short(32)],
  ];
  const head = Buffer.alloc(12);
  head.writeUInt16LE(0x7fe0, 0);
  head.writeUInt16LE(0x0010, 2);
  head.write('OW', 4, 'latin1');
  head.writeUInt32LE(pixelBytes, 8);
  return Buffer.concat([...elements.map(([tag, vr, value]) => element(tag, vr, value)), head]);
}

/** A whole data set. */
export function makeInstance(made: MadeInstance = {}): Buffer {
  const pixels = Buffer.alloc(made.pixelBytes ?? 2048, made.fill ?? 7);
  return Buffer.concat([makeHeader(made), pixels]);
}

function item(elements: [number, string, string | Buffer][]): Buffer {
  const content = Buffer.concat(elements.map(([tag, vr, value]) => element(tag, vr, value)));
  const head = Buffer.alloc(8);
  head.writeUInt16LE(0xfffe, 0);
  head.writeUInt16LE(0xe000, 2);
  head.writeUInt32LE(content.length, 4);
  return Buffer.concat([head, content]);
}

function short(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

function element(tag: number, vr: string, value: string | Buffer): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value) : value;
  const padded = bytes.length % 2 === 0 ? bytes : Buffer.concat([bytes, Buffer.from(vr === 'UI' ? '\0' : ' ')]);
  const isLong = vr === 'SQ';
  const head = Buffer.alloc(isLong ? 12 : 8);
  head.writeUInt16LE(tag >>> 16, 0);
  head.writeUInt16LE(tag & 0xffff, 2);
  head.write(vr, 4, 'latin1');
  if (isLong) head.writeUInt32LE(padded.length, 8);
  else head.writeUInt16LE(padded.length, 6);
  return Buffer.concat([head, padded]);
}
