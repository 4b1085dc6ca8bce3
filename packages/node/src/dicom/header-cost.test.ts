import { expect, test } from '@jest/globals';
import { testNeeding } from '@meridian/shared/testing/needs';
import { createHeaderReader, type DicomHeader } from './header-reader.ts';
import { jsonTextOf } from './json-text.ts';
import { element, identityElements } from './testing/build-dataset.ts';
import { readDataset, readFile, sample, samples } from './testing/sample-files.ts';
import { EXPLICIT_VR_LITTLE_ENDIAN } from './transfer-syntaxes.ts';

const ELE = EXPLICIT_VR_LITTLE_ENDIAN;
const jsonBytesOf = ({ dataset }: DicomHeader): number => Buffer.byteLength(JSON.stringify(dataset));

test.each([
  ['PN', '\u0001\\'],
  ['PN', 'a=b=c\\'],
  ['LO', 'a\\'],
  ['IS', '1\\'],
  ['DS', '1e20\\'],
  ['SH', '\u0001\u0002\u0003\\'],
  ['US', '\0\0'],
  ['FD', '\u0001\u0002\u0003\u0004\u0005\u0006\u0007\u0008'],
])('few bytes that are many values are refused before they are made: %s %j', (vr, pattern) => {
  const value = Buffer.from(pattern.repeat(Math.floor(65_532 / pattern.length)), 'latin1');
  const reader = createHeaderReader({ transferSyntaxUid: ELE });
  let lowest = Number.POSITIVE_INFINITY;
  let peak = 0;
  const look = (): void => {
    const { heapUsed } = process.memoryUsage();
    lowest = Math.min(lowest, heapUsed);
    peak = Math.max(peak, heapUsed - lowest);
  };
  expect(() => {
    // 16 MiB, as many as a header may have.
    for (let at = 0; at < 250; at++) {
      reader.push(element(0x00111000 + at, vr, value));
      look();
    }
  }).toThrow(expect.objectContaining({ reason: 'DICOM_TOO_LARGE_HEADER' }));
  expect(peak).toBeLessThan(192 * 1024 * 1024);
});

testNeeding(
  'shared data',
  'the count is never below the JSON of a real header, and a large one is written as JSON.stringify would',
  async () => {
    let looked = 0;
    for (const { name } of samples()) {
      let header: DicomHeader;
      try {
        header = readFile(sample(name));
      } catch {
        continue;
      }
      looked++;
      expect(`${name} ${jsonBytesOf(header) <= header.jsonBytes}`).toBe(`${name} true`);
      expect((await jsonTextOf(header.dataset, Number.POSITIVE_INFINITY)) === JSON.stringify(header.dataset)).toBe(true);
    }
    expect(looked).toBeGreaterThan(200);
  },
);

test('other work has its turn while a large header is written', async () => {
  const values = Buffer.from('a\\'.repeat(32_766), 'latin1');
  const header = readDataset(
    Buffer.concat([identityElements(), ...Array.from({ length: 50 }, (_, at) => element(0x00111000 + at, 'LO', values))]),
    ELE,
  );
  let turns = 0;
  const ticking = setInterval(() => turns++, 0);
  try {
    expect(await jsonTextOf(header.dataset, header.jsonBytes)).toBe(JSON.stringify(header.dataset));
  } finally {
    clearInterval(ticking);
  }
  expect(turns).toBeGreaterThan(2);
});
