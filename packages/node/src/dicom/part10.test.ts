import { expect, test } from '@jest/globals';
import { testNeeding } from '@meridian/shared/testing/needs';
import { keywordOfTag, tagOfAttributeId, tagOfKeyword, implicitVr } from './dictionary.ts';
import { identityOf } from './identity.ts';
import { part10Prefix, readPart10Start } from './part10.ts';
import { sopClassName, isStorageSopClass } from './sop-classes.ts';
import { TAG } from './tags.ts';
import { element, identityElements } from './testing/build-dataset.ts';
import { datasetOf, readDataset, readFile, sample, samples } from './testing/sample-files.ts';
import {
  EXPLICIT_VR_BIG_ENDIAN,
  EXPLICIT_VR_LITTLE_ENDIAN,
  IMPLICIT_VR_LITTLE_ENDIAN,
  TRANSFER_SYNTAXES,
  isEncapsulated,
  transferSyntax,
} from './transfer-syntaxes.ts';

const META = { sopClassUid: '1.2.840.10008.5.1.4.1.1.2', sopInstanceUid: '1.2.3.45', transferSyntaxUid: EXPLICIT_VR_LITTLE_ENDIAN };

test('a prefix is the same each time and reads back', () => {
  const prefix = part10Prefix(META);
  expect(part10Prefix(META)).toEqual(prefix);
  const file = Buffer.concat([prefix, identityElements()]);
  expect(readPart10Start(file)).toEqual({ ...META, metaEndOffset: prefix.length, guessed: false });
  expect(identityOf(readFile(file).dataset).sopInstanceUid).toBe('1.2.3.4');
});

test('the start is read from as few bytes as tell it, and the answer does not change with more', () => {
  const file = Buffer.concat([part10Prefix(META), identityElements()]);
  const whole = readPart10Start(file);
  const starts = Array.from({ length: file.length + 1 }, (_, length) => readPart10Start(file.subarray(0, length)));
  const first = starts.findIndex((start) => start !== 'need-more');
  expect(first).toBe(part10Prefix(META).length + 8);
  for (const start of starts.slice(first)) expect(start).toEqual(whole);
});

test('files without preamble or meta information are told from their first element', () => {
  const guess = (bytes: Buffer): string => {
    const start = readPart10Start(bytes, { ended: true });
    return start === 'need-more' ? start : `${start.transferSyntaxUid} at ${start.metaEndOffset}${start.guessed ? ' guessed' : ''}`;
  };
  expect(guess(identityElements())).toBe(`${EXPLICIT_VR_LITTLE_ENDIAN} at 0 guessed`);
  expect(guess(identityElements({ explicit: false }))).toBe(`${IMPLICIT_VR_LITTLE_ENDIAN} at 0 guessed`);
  expect(guess(identityElements({ littleEndian: false }))).toBe(`${EXPLICIT_VR_BIG_ENDIAN} at 0 guessed`);
  const prefix = part10Prefix(META);
  expect(guess(Buffer.concat([prefix.subarray(132), identityElements()]))).toBe(`${EXPLICIT_VR_LITTLE_ENDIAN} at ${prefix.length - 132}`);
  expect(() => readPart10Start(Buffer.from('GIF89a no DICOM at all'), { ended: true })).toThrow(
    expect.objectContaining({ reason: 'DICOM_NOT_PART10' }),
  );
  expect(() => readPart10Start(Buffer.alloc(0), { ended: true })).toThrow(expect.objectContaining({ reason: 'DICOM_NOT_PART10' }));
  expect(() => readPart10Start(prefix.subarray(0, 200), { ended: true })).toThrow(expect.objectContaining({ reason: 'DICOM_TRUNCATED' }));
  const endless = Buffer.concat([prefix.subarray(0, 132), element(0x00020102, 'OB', '', { length: 0x7fff_ffff }), Buffer.alloc(1_100_000)]);
  expect(() => readPart10Start(endless)).toThrow(expect.objectContaining({ reason: 'DICOM_TRUNCATED' }));
});

testNeeding('shared data', 'every sample states or lets us tell the transfer syntax that the collection lists', () => {
  const different: string[] = [];
  for (const { name, transferSyntax: listed, note } of samples()) {
    if (listed === '' || note.startsWith('malformed')) continue;
    const { transferSyntaxUid } = datasetOf(sample(name));
    if (transferSyntaxUid !== listed) different.push(`${name} ${transferSyntaxUid} ${listed}`);
  }
  expect(different).toEqual([]);
});

test('keywords and tags are found both ways; every named tag has its PS3.6 keyword', () => {
  for (const [keyword, tag] of Object.entries(TAG)) expect(`${keywordOfTag(tag)} ${tagOfKeyword(keyword)}`).toBe(`${keyword} ${tag}`);
  expect(tagOfAttributeId('0020000d')).toBe('0020000D');
  expect(tagOfAttributeId('StudyInstanceUID')).toBe('0020000D');
  expect(tagOfAttributeId('Nonsense')).toBeUndefined();
  expect([
    implicitVr(0x6002_3000),
    implicitVr(0x0009_0010),
    implicitVr(0x0009_1001),
    implicitVr(0x0008_0000),
    implicitVr(0x0028_0106),
  ]).toEqual(['OB|OW', 'LO', 'UN', 'UL', 'US|SS']);
});

test('transfer syntaxes and SOP classes are known by their UIDs', () => {
  expect(new Set(TRANSFER_SYNTAXES.map(({ uid }) => uid)).size).toBe(TRANSFER_SYNTAXES.length);
  expect(isEncapsulated('1.2.840.10008.1.2.4.201')).toBe(true);
  expect(isEncapsulated(IMPLICIT_VR_LITTLE_ENDIAN)).toBe(false);
  expect(transferSyntax('1.2.840.10008.1.2.4.90')?.lossy).toBe(false);
  expect(sopClassName('1.2.840.10008.5.1.4.1.1.2')).toBe('CT Image Storage');
  expect(isStorageSopClass('1.2.840.10008.5.1.4.1.1.2')).toBe(true);
  expect(isStorageSopClass('1.2.840.10008.1.1')).toBe(false);
  expect(readDataset(identityElements(), EXPLICIT_VR_LITTLE_ENDIAN).bulk).toEqual([]);
});
