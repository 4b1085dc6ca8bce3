import { spawnSync } from 'node:child_process';
import { deflateRawSync } from 'node:zlib';
import { expect, test } from '@jest/globals';
import { MeshError } from '@meridian/shared/errors';
import { testNeeding } from '@meridian/shared/testing/needs';
import { identityOf } from './identity.ts';
import { createHeaderReader } from './header-reader.ts';
import { element, identityElements, item } from './testing/build-dataset.ts';
import { datasetOf, readDataset, readFile, sample, samples } from './testing/sample-files.ts';
import {
  DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
  EXPLICIT_VR_BIG_ENDIAN,
  EXPLICIT_VR_LITTLE_ENDIAN,
  IMPLICIT_VR_LITTLE_ENDIAN,
} from './transfer-syntaxes.ts';

const ELE = EXPLICIT_VR_LITTLE_ENDIAN;
const reasonOf = (run: () => unknown): string => {
  try {
    run();
  } catch (thrown) {
    if (thrown instanceof MeshError) return thrown.reason;
    throw thrown;
  }
  return 'accepted';
};

testNeeding(
  ['shared data', 'dcmtk'],
  'every real file that dcmdump reads to its end is read, and damaged ones are refused with a reason',
  () => {
    const wronglyRefused: string[] = [];
    const refused: Record<string, string> = {};
    for (const { name, file } of samples()) {
      const reason = reasonOf(() => readFile(sample(name)));
      if (reason === 'accepted') continue;
      refused[name] = reason;
      if (spawnSync('dcmdump', ['-q', file], { stdio: 'ignore' }).status === 0) wronglyRefused.push(`${name} ${reason}`);
    }
    expect(wronglyRefused).toEqual([]);
    expect(refused).toMatchObject({
      'derived/malformed_trunc_in_pixels.dcm': 'DICOM_TRUNCATED',
      'derived/malformed_trunc_mid_dataset.dcm': 'DICOM_TRUNCATED',
      'derived/malformed_trunc_in_meta.dcm': 'DICOM_TRUNCATED',
      'derived/malformed_preamble_only.dcm': 'DICOM_TRUNCATED',
      'derived/malformed_empty.dcm': 'DICOM_NOT_PART10',
      'derived/malformed_text_file.dcm': 'DICOM_NOT_PART10',
      'derived/malformed_length_lie_4GB.dcm': 'DICOM_LENGTH_LIE',
      'derived/malformed_wrong_ts_says_implicit.dcm': 'DICOM_WRONG_TRANSFER_SYNTAX',
      'odd/pydicom__MR_truncated.dcm': 'DICOM_TRUNCATED',
    });
    expect(Object.keys(refused).length).toBeLessThanOrEqual(15);
  },
);

testNeeding('shared data', 'feeding byte by byte, or in odd pieces, gives what one piece gives', () => {
  const names = [
    'derived/same_sop_uid_original.dcm',
    'derived/charset_GBK_2.dcm',
    'derived/deep_nested_sequences.dcm',
    'OT/pydicom__chrH31.dcm',
    'none/pydicom__nested_priv_SQ.dcm',
    'odd/pydicom__ExplVR_BigEndNoMeta.dcm',
    'odd/pydicom__rtstruct.dcm',
    'MR/pydicom__MR_small_RLE.dcm',
    'ECG/dicomParser__wave_dfl.dcm',
    'CT/dicomParser__CT0012.fragmented_no_bot_jpeg_ls.81.dcm',
  ];
  for (const name of names) {
    const file = sample(name);
    const whole = readFile(file, { chunkBytes: file.length });
    for (const chunkBytes of [1, 7, 4099]) expect(readFile(file, { chunkBytes })).toEqual(whole);
  }
});

testNeeding('shared data', 'identity is read from real files: missing UIDs are refused, an empty patient id is not', () => {
  expect(reasonOf(() => identityOf(readFile(sample('derived/missing_study_uid.dcm')).dataset))).toBe('DICOM_UID_MISSING');
  expect(identityOf(readFile(sample('derived/empty_patient_id.dcm')).dataset)).toMatchObject({
    patientId: '',
    patientName: { alphabetic: '', ideographic: '', phonetic: '' },
    modality: 'CT',
    numberOfFrames: 1,
  });
  let whole = 0;
  for (const { name } of samples()) if (reasonOf(() => identityOf(readFile(sample(name)).dataset)) === 'accepted') whole++;
  expect(whole).toBeGreaterThanOrEqual(250);
});

testNeeding('shared data', 'a truncated file is refused wherever it is cut, but for cuts between elements', () => {
  const { dataset, transferSyntaxUid } = datasetOf(sample('derived/same_sop_uid_original.dcm'));
  const { topLevel } = readDataset(dataset, transferSyntaxUid);
  const borders = new Set(topLevel.offsets);
  for (let cut = 1; cut < 6200; cut++) {
    const reason = reasonOf(() => readDataset(dataset.subarray(0, cut), transferSyntaxUid));
    expect(`${cut} ${reason}`).toBe(
      borders.has(cut) ? `${cut} accepted` : `${cut} ${reason === 'DICOM_LENGTH_LIE' ? reason : 'DICOM_TRUNCATED'}`,
    );
  }
});

testNeeding('shared data', 'random damage is met with a refusal or a header, never with another error, and quickly', () => {
  let seed = 20_260_101;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  const originals = [
    'derived/same_sop_uid_original.dcm',
    'odd/pydicom__rtstruct.dcm',
    'OT/pydicom__chrH31.dcm',
    'MR/pydicom__MR_small_RLE.dcm',
    'SR/pydicom__test-SR.dcm',
    'ECG/dicomParser__wave_dfl.dcm',
  ].map((name) => datasetOf(sample(name)));
  let slowestMs = 0;
  for (let round = 0; round < 2000; round++) {
    const { dataset, transferSyntaxUid } = originals[round % originals.length] as { dataset: Buffer; transferSyntaxUid: string };
    let damaged = Buffer.from(dataset);
    const within = random(2) === 0 ? Math.min(damaged.length, 8192) : damaged.length;
    for (let count = 1 + random(8); count > 0; count--) damaged[random(within)] = random(3) === 0 ? 0xff : random(256);
    if (random(4) === 0) damaged = damaged.subarray(0, random(damaged.length));
    // The quickest of three: what a collection of garbage took is not the reader's.
    let leastMs = Number.POSITIVE_INFINITY;
    for (let attempt = 0; attempt < 3 && leastMs > 100; attempt += 1) {
      const before = process.threadCpuUsage();
      reasonOf(() => identityOf(readDataset(damaged, transferSyntaxUid).dataset));
      const spent = process.threadCpuUsage(before);
      leastMs = Math.min(leastMs, (spent.user + spent.system) / 1000);
    }
    slowestMs = Math.max(slowestMs, leastMs);
  }
  expect(slowestMs).toBeLessThan(200);
});

test('50,000 nested sequences are refused, of stated and of undefined length', () => {
  const open = Buffer.concat([element(0x00400555, 'SQ', '', { length: 0xffff_ffff }), item(0xfffe_e000, 0xffff_ffff)]);
  expect(reasonOf(() => readDataset(Buffer.concat([identityElements(), ...Array.from({ length: 50_000 }, () => open)]), ELE))).toBe(
    'DICOM_TOO_DEEP',
  );
  let nested = Buffer.alloc(0);
  for (let depth = 0; depth < 100; depth++)
    nested = Buffer.concat([element(0x00400555, 'SQ', '', { length: nested.length + 8 }), item(0xfffe_e000, nested.length), nested]);
  expect(reasonOf(() => readDataset(nested, ELE))).toBe('DICOM_TOO_DEEP');
});

test('lying lengths are refused: longer than the object, than the item, than the sequence', () => {
  expect(
    reasonOf(() => readDataset(Buffer.concat([identityElements(), element(0x00204000, 'UT', 'x', { length: 0xffff_fff0 })]), ELE)),
  ).toBe('DICOM_LENGTH_LIE');
  expect(
    reasonOf(() => readDataset(Buffer.concat([identityElements(), element(0x7fe00010, 'OW', 'xx', { length: 0xffff_fff0 })]), ELE)),
  ).toBe('DICOM_LENGTH_LIE');
  const inner = element(0x00100020, 'LO', 'ABCD', { length: 4000 });
  const inItem = Buffer.concat([
    element(0x00101002, 'SQ', '', { length: 8 + inner.length }),
    item(0xfffe_e000, inner.length),
    inner,
    Buffer.alloc(8000),
  ]);
  expect(reasonOf(() => readDataset(inItem, ELE))).toBe('DICOM_LENGTH_LIE');
  const inSequence = Buffer.concat([element(0x00101002, 'SQ', '', { length: 16 }), item(0xfffe_e000, 400), Buffer.alloc(8000)]);
  expect(reasonOf(() => readDataset(inSequence, ELE))).toBe('DICOM_LENGTH_LIE');
});

test('too many elements and too large a header are refused while they come', () => {
  const many = element(0x00204000, 'LT', 'xx');
  const reader = createHeaderReader({ transferSyntaxUid: ELE, limits: { maxElements: 1000 } });
  expect(
    reasonOf(() => {
      for (;;) reader.push(many);
    }),
  ).toBe('DICOM_TOO_MANY_ELEMENTS');
  const large = element(0x00204000, 'LT', Buffer.alloc(60_000, 0x41));
  const second = createHeaderReader({ transferSyntaxUid: ELE });
  expect(
    reasonOf(() => {
      for (;;) second.push(large);
    }),
  ).toBe('DICOM_TOO_LARGE_HEADER');
});

test('a deflate bomb is refused after a few MiB; broken and cut deflate streams have their own reasons', () => {
  const bomb = deflateRawSync(Buffer.concat([identityElements(), element(0x7fe00010, 'OW', Buffer.alloc(120 * 1024 * 1024))]));
  const before = process.threadCpuUsage();
  expect(reasonOf(() => readDataset(bomb, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN))).toBe('DICOM_DEFLATE_BOMB');
  expect(process.threadCpuUsage(before).user / 1000).toBeLessThan(1000);
  const good = deflateRawSync(
    Buffer.concat([
      identityElements(),
      element(0x7fe00010, 'OW', Buffer.from(Array.from({ length: 90_000 }, (_, index) => (index * 7919) % 251))),
    ]),
  );
  expect(identityOf(readDataset(good, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN).dataset).patientId).toBe('ID1');
  expect(reasonOf(() => readDataset(good.subarray(0, good.length - 9), DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN))).toBe('DICOM_TRUNCATED');
  expect(reasonOf(() => readDataset(Buffer.alloc(9000, 0xff), DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN))).toBe('DICOM_DEFLATE_BROKEN');
});

test('long values are walked over and their places recorded, in nested items too', () => {
  const long = element(0x00282000, 'OB', Buffer.alloc(70_000, 7));
  const nested = Buffer.concat([
    element(0x00400555, 'SQ', '', { length: 0xffff_ffff }),
    item(0xfffe_e000, 0xffff_ffff),
    long,
    item(0xfffe_e00d, 0),
    item(0xfffe_e0dd, 0),
  ]);
  const dataset = Buffer.concat([
    identityElements(),
    nested,
    element(0x7fe00010, 'OW', Buffer.alloc(100)),
    element(0xfffcfffc, 'OB', 'end '),
  ]);
  const header = readDataset(dataset, ELE, { chunkBytes: 1000 });
  expect(header.bulk).toEqual([{ path: '00400555/0/00282000', vr: 'OB', offset: identityElements().length + 12 + 8 + 12, length: 70_000 }]);
  expect(header.pixelData).toMatchObject({ tag: '7FE00010', vr: 'OW', length: 100, offset: header.headerBytes + 12 });
  expect(header.totalBytes).toBe(dataset.length);
  expect(header.dataset['FFFCFFFC']).toBeDefined();
});

test('fragments are walked to their delimiter and counted; NULs after the last element are padding', () => {
  const fragments = (...parts: Buffer[]): Buffer =>
    Buffer.concat([identityElements(), element(0x7fe00010, 'OB', '', { length: 0xffff_ffff }), item(0xfffe_e000, 0), ...parts]);
  const whole = fragments(item(0xfffe_e000, 6), Buffer.alloc(6, 1), item(0xfffe_e000, 4), Buffer.alloc(4, 1), item(0xfffe_e0dd, 0));
  const jpeg = '1.2.840.10008.1.2.4.50';
  expect(readDataset(Buffer.concat([whole, Buffer.alloc(21)]), jpeg).pixelData).toMatchObject({
    length: 'undefined',
    fragments: 2,
    totalBytes: 8 + 14 + 12 + 8,
  });
  expect(reasonOf(() => readDataset(whole.subarray(0, -8), jpeg))).toBe('DICOM_TRUNCATED');
  expect(reasonOf(() => readDataset(Buffer.concat([whole, Buffer.from('garbage after all')]), jpeg))).not.toBe('accepted');
  expect(reasonOf(() => readDataset(fragments(item(0xfffe_e000, 0xffff_ffff)), jpeg))).toBe('DICOM_MALFORMED');
});

test('implicit elements in an explicit data set, UN of undefined length, and big endian are read', () => {
  const mixed = Buffer.concat([
    element(0x00080016, 'UI', '1.2.840.10008.5.1.4.1.1.7'),
    element(0x00080060, 'CS', 'CT', { explicit: false }),
    element(0x00100020, 'LO', 'ID1'),
  ]);
  expect(readDataset(mixed, ELE).dataset).toMatchObject({
    '00080060': { vr: 'CS', Value: ['CT'] },
    '00100020': { vr: 'LO', Value: ['ID1'] },
  });
  const inner = element(0x00100020, 'LO', 'OTHER', { explicit: false });
  const unknown = Buffer.concat([
    identityElements(),
    element(0x00101002, 'UN', '', { length: 0xffff_ffff }),
    item(0xfffe_e000, inner.length),
    inner,
    item(0xfffe_e0dd, 0),
  ]);
  expect(identityOf(readDataset(unknown, ELE).dataset).otherPatientIds).toEqual([{ id: 'OTHER' }]);
  expect(identityOf(readDataset(identityElements({ littleEndian: false }), EXPLICIT_VR_BIG_ENDIAN).dataset).studyInstanceUid).toBe('1.2.3');
  expect(identityOf(readDataset(identityElements({ explicit: false }), IMPLICIT_VR_LITTLE_ENDIAN).dataset).patientName.alphabetic).toBe(
    'Test^Person',
  );
});

test('elements of the standard that were passed on as UN are read by their own VR', () => {
  const inner = element(0x00100020, 'LO', 'N-9', { explicit: false });
  const asUnknown = [
    element(0x00100010, 'UN', 'Li^Wei'),
    element(0x00100020, 'UN', 'ID9'),
    element(0x00101002, 'UN', Buffer.concat([item(0xfffe_e000, inner.length), inner])),
    element(0x00101004, 'UN', 'no item '),
    element(0x00280010, 'UN', Buffer.from([0, 2])),
  ];
  const { dataset } = readDataset(Buffer.concat(asUnknown), ELE, { chunkBytes: 3 });
  expect(dataset).toMatchObject({
    '00100010': { vr: 'PN', Value: [{ Alphabetic: 'Li^Wei' }] },
    '00100020': { vr: 'LO', Value: ['ID9'] },
    '00101002': { vr: 'SQ', Value: [{ '00100020': { vr: 'LO', Value: ['N-9'] } }] },
    '00280010': { vr: 'US', Value: [512] },
  });
  const explicitInside = element(0x00100020, 'LO', 'N-8');
  const forgot = readDataset(element(0x00101002, 'UN', Buffer.concat([item(0xfffe_e000, explicitInside.length), explicitInside])), ELE);
  expect(forgot.dataset['00101002']).toEqual({ vr: 'SQ', Value: [{ '00100020': { vr: 'LO', Value: ['N-8'] } }] });
});

test('of an element that stands twice the first counts', () => {
  const twice = Buffer.concat([
    element(0x00080005, 'CS', 'ISO_IR 192'),
    element(0x00080005, 'CS', 'ISO_IR 100'),
    element(0x00100010, 'PN', Buffer.from('李^伟')),
    element(0x00100020, 'LO', 'FIRST'),
    element(0x00100020, 'LO', 'SECOND'),
  ]);
  expect(readDataset(twice, ELE).dataset).toMatchObject({
    '00100010': { Value: [{ Alphabetic: '李^伟' }] },
    '00100020': { Value: ['FIRST'] },
  });
});

test('identity needs its UIDs; qualifiers and types of other ids are read', () => {
  const qualified = Buffer.concat([
    element(0x00100020, 'LO', 'N-1'),
    element(0x00100021, 'LO', 'National'),
    element(0x00100022, 'CS', 'TEXT'),
    element(
      0x00100024,
      'SQ',
      Buffer.concat([
        item(0xfffe_e000, 0xffff_ffff),
        element(0x00400032, 'UT', '1.2.156.1'),
        element(0x00400033, 'CS', 'ISO'),
        item(0xfffe_e00d, 0),
      ]),
    ),
  ]);
  const dataset = Buffer.concat([
    identityElements(),
    element(0x00101002, 'SQ', Buffer.concat([item(0xfffe_e000, qualified.length), qualified])),
  ]);
  expect(identityOf(readDataset(dataset, ELE).dataset).otherPatientIds).toEqual([
    { id: 'N-1', issuer: 'National', type: 'TEXT', universalEntityId: '1.2.156.1', universalEntityIdType: 'ISO' },
  ]);
  expect(reasonOf(() => identityOf(readDataset(element(0x00100020, 'LO', 'X'), ELE).dataset))).toBe('DICOM_UID_MISSING');
});
