import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { testNeeding } from '@meridian/shared/testing/needs';
import { coerceDataset, coerceJson } from './coerce.ts';
import type { Coercion } from './coerce.ts';
import { identityOf } from './identity.ts';
import { firstString, sequenceItems } from './json.ts';
import type { DicomJson } from './json.ts';
import { part10Prefix } from './part10.ts';
import { pixelDataOf } from './pixel-data-place.ts';
import { TAG } from './tags.ts';
import { element, identityElements, item } from './testing/build-dataset.ts';
import { datasetOf, readDataset, sample } from './testing/sample-files.ts';
import { EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN } from './transfer-syntaxes.ts';

const COERCION: Coercion = {
  replace: { patientId: 'LOCAL-77', issuerOfPatientId: 'HospitalC' },
  modifyingSystem: 'MERIDIAN_C',
  sourceOfPreviousValues: 'HospitalA',
  at: '20260102030405+0800',
};
const withoutCoercion = (dataset: DicomJson): DicomJson =>
  Object.fromEntries(
    Object.entries(dataset).filter(
      ([tag, { BulkDataURI }]) => !['00100020', '00100021', '00100024', '04000561'].includes(tag) && BulkDataURI === undefined,
    ),
  );

testNeeding('shared data', 'real data sets are rewritten in every encoding; all but the told elements stay byte for byte', () => {
  for (const name of [
    'derived/same_sop_uid_original.dcm',
    'derived/charset_GBK_2.dcm',
    'odd/pydicom__rtstruct.dcm',
    'odd/pydicom__ExplVR_BigEndNoMeta.dcm',
    'MR/pydicom__MR_small_RLE.dcm',
    'SR/pydicom__test-SR.dcm',
    'CT/RAD.MADO__I12.dcm',
    'OT/pydicom__SC_rgb_jpeg.dcm',
  ]) {
    const { dataset, transferSyntaxUid } = datasetOf(sample(name));
    const before = readDataset(dataset, transferSyntaxUid);
    const header = coerceDataset({ ...COERCION, headerBytes: dataset.subarray(0, before.headerBytes), transferSyntaxUid });
    const after = readDataset(Buffer.concat([header, dataset.subarray(before.headerBytes)]), transferSyntaxUid);
    expect(withoutCoercion(after.dataset)).toEqual(withoutCoercion(before.dataset));
    expect(firstString(after.dataset, TAG.PatientID)).toBe('LOCAL-77');
    expect(firstString(after.dataset, TAG.IssuerOfPatientID)).toBe('HospitalC');
    expect(after.topLevel.tags.toSorted((first, second) => first - second)).toEqual(after.topLevel.tags);
    const told = sequenceItems(after.dataset, TAG.OriginalAttributesSequence).at(-1) ?? {};
    expect(told[TAG.ReasonForTheAttributeModification]?.Value).toEqual(['COERCE']);
    expect(told[TAG.SourceOfPreviousValues]?.Value).toEqual(['HospitalA']);
    const originals = sequenceItems(told, TAG.ModifiedAttributesSequence)[0] ?? {};
    expect(originals[TAG.PatientID]).toEqual(before.dataset[TAG.PatientID] ?? { vr: 'LO' });
    expect(coerceJson(before.dataset, COERCION)).toMatchObject(withoutCoercion(after.dataset));
    expect(coerceJson(before.dataset, COERCION)[TAG.OriginalAttributesSequence]).toEqual(after.dataset[TAG.OriginalAttributesSequence]);
    expect(pixelDataOf(before.dataset, transferSyntaxUid)?.elementOffset).toBe(before.pixelData?.elementOffset);
  }
});

testNeeding(['shared data', 'dcmtk'], 'dcmdump reads the rewritten file to its end', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'meridian-coerce-'));
  try {
    for (const name of [
      'derived/charset_GB18030_3.dcm',
      'odd/pydicom__rtstruct.dcm',
      'MR/pydicom__MR_small_RLE.dcm',
      'MR/dcmjs-dimse__ebe.dcm',
    ]) {
      const { dataset, transferSyntaxUid } = datasetOf(sample(name));
      const before = readDataset(dataset, transferSyntaxUid);
      const once = coerceDataset({ ...COERCION, headerBytes: dataset.subarray(0, before.headerBytes), transferSyntaxUid });
      const twice = coerceDataset({ ...COERCION, replace: { patientId: 'LOCAL-88' }, headerBytes: once, transferSyntaxUid });
      const { sopClassUid, sopInstanceUid } = identityOf(before.dataset);
      const file = path.join(folder, 'coerced.dcm');
      writeFileSync(
        file,
        Buffer.concat([part10Prefix({ sopClassUid, sopInstanceUid, transferSyntaxUid }), twice, dataset.subarray(before.headerBytes)]),
      );
      const dump = spawnSync('dcmdump', ['+L', '+P', '0010,0020', '+P', '0400,0561', file], { encoding: 'latin1' });
      expect({ name, status: dump.status, errors: dump.stderr }).toEqual({ name, status: 0, errors: '' });
      expect(dump.stdout).toContain('[LOCAL-88]');
      expect(dump.stdout).toContain('(Sequence with explicit length #=2)');
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('an earlier sequence of undefined length, group lengths, qualifiers and absent elements are kept right', () => {
  const earlierItem = element(0x04000563, 'LO', 'OTHER');
  const tail = [
    element(0x00400275, 'SQ', ''),
    element(0x04000561, 'SQ', '', { length: 0xffff_ffff }),
    item(0xfffe_e000, earlierItem.length),
    earlierItem,
    item(0xfffe_e0dd, 0),
  ];
  const groupOf = (...elements: Buffer[]): Buffer => {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(Buffer.concat(elements).length);
    return Buffer.concat([element(0x00100000, 'UL', length), ...elements]);
  };
  const qualifiers = element(0x00100024, 'SQ', '');
  const headerBytes = Buffer.concat([element(0x00080018, 'UI', '1.2'), groupOf(element(0x00100010, 'PN', 'A^B'), qualifiers), ...tail]);
  const coerced = coerceDataset({ ...COERCION, headerBytes, transferSyntaxUid: EXPLICIT_VR_LITTLE_ENDIAN });
  const { dataset, topLevel } = readDataset(coerced, EXPLICIT_VR_LITTLE_ENDIAN);
  expect(topLevel.tags.map((tag) => tag.toString(16))).toEqual(['80018', '100000', '100010', '100020', '100021', '400275', '4000561']);
  const groupAt = topLevel.offsets[1] as number;
  expect(coerced.readUInt32LE(groupAt + 8)).toBe((topLevel.offsets[5] as number) - (groupAt + 12));
  expect(sequenceItems(dataset, TAG.OriginalAttributesSequence).map((told) => firstString(told, TAG.ModifyingSystem))).toEqual([
    'OTHER',
    'MERIDIAN_C',
  ]);
  expect(sequenceItems(sequenceItems(dataset, TAG.OriginalAttributesSequence)[1] ?? {}, TAG.ModifiedAttributesSequence)).toEqual([
    { '00100020': { vr: 'LO' }, '00100021': { vr: 'LO' }, '00100024': { vr: 'SQ' } },
  ]);
});

test('names are written in the character set of the data set, or refused', () => {
  const withSet = (term: string): Buffer => Buffer.concat([element(0x00080005, 'CS', term), identityElements()]);
  const replace = { patientName: { Alphabetic: 'Xian^Cheng', Ideographic: '冼^誠' } };
  const read = readDataset(
    coerceDataset({ ...COERCION, replace, headerBytes: withSet('GB18030'), transferSyntaxUid: EXPLICIT_VR_LITTLE_ENDIAN }),
    EXPLICIT_VR_LITTLE_ENDIAN,
  );
  expect(read.dataset[TAG.PatientName]?.Value).toEqual([replace.patientName]);
  expect(() =>
    coerceDataset({ ...COERCION, replace, headerBytes: withSet('ISO_IR 100'), transferSyntaxUid: EXPLICIT_VR_LITTLE_ENDIAN }),
  ).toThrow(expect.objectContaining({ reason: 'DICOM_TEXT_NOT_ENCODABLE' }));
  for (const [transferSyntaxUid, writing] of [
    [IMPLICIT_VR_LITTLE_ENDIAN, { explicit: false }],
    [EXPLICIT_VR_BIG_ENDIAN, { littleEndian: false }],
  ] as const) {
    const padded = Buffer.concat([identityElements(writing), Buffer.alloc(32)]);
    const coerced = readDataset(coerceDataset({ ...COERCION, headerBytes: padded, transferSyntaxUid }), transferSyntaxUid);
    expect(identityOf(coerced.dataset)).toMatchObject({ patientId: 'LOCAL-77', issuerOfPatientId: 'HospitalC' });
    expect(coerced.totalBytes - coerced.headerBytes).toBe(32);
  }
});
