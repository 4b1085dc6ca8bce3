import { expect, test } from '@jest/globals';
import { testNeeding } from '@meridian/shared/testing/needs';
import { openFrames } from './frames.ts';
import type { Frames } from './frames.ts';
import { element, item } from './testing/build-dataset.ts';
import { datasetOf, readDataset, sample, samples } from './testing/sample-files.ts';
import { EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, encodingOf } from './transfer-syntaxes.ts';

const u16 = (value: number): Buffer => Buffer.from([value & 0xff, value >>> 8]);
const image = (frames: number, rows: number, columns: number, bits: number, pixels: Buffer): Buffer =>
  Buffer.concat([
    element(0x00280002, 'US', u16(1)),
    element(0x00280008, 'IS', String(frames)),
    element(0x00280010, 'US', u16(rows)),
    element(0x00280011, 'US', u16(columns)),
    element(0x00280100, 'US', u16(bits)),
    pixels,
  ]);
const open = async (dataset: Buffer, transferSyntaxUid: string): Promise<Frames> => {
  const header = readDataset(dataset, transferSyntaxUid);
  return openFrames({
    dataset: header.dataset,
    transferSyntaxUid,
    read: async (offset, length) => dataset.subarray(offset, offset + length),
  });
};
const JPEG = '1.2.840.10008.1.2.4.50';
const fragment = (...bytes: number[]): Buffer => Buffer.concat([item(0xfffe_e000, bytes.length), Buffer.from(bytes)]);
const encapsulated = (table: Buffer, ...fragments: Buffer[]): Buffer =>
  Buffer.concat([
    element(0x7fe00010, 'OB', '', { length: 0xffff_ffff }),
    item(0xfffe_e000, table.length),
    table,
    ...fragments,
    item(0xfffe_e0dd, 0),
  ]);
const SOI = [0xff, 0xd8, 0xff, 0xe0];

test('native frames are found by their size, one-bit frames at any bit', async () => {
  const words = await open(
    image(3, 2, 2, 16, element(0x7fe00010, 'OW', Buffer.from(Array.from({ length: 24 }, (_, index) => index)))),
    EXPLICIT_VR_LITTLE_ENDIAN,
  );
  expect([...(await words.read(2))]).toEqual([8, 9, 10, 11, 12, 13, 14, 15]);
  await expect(words.read(4)).rejects.toMatchObject({ reason: 'FRAME_ABSENT' });
  await expect(words.read(0)).rejects.toMatchObject({ reason: 'FRAME_ABSENT' });
  // Three frames of 3 x 3 bits: 111000111 000111000 101010101, packed lowest bit first.
  const bits = Array.from('111000111' + '000111000' + '101010101', Number);
  const packed = Buffer.alloc(4);
  bits.forEach((bit, index) => {
    packed[index >>> 3] = (packed[index >>> 3] ?? 0) | (bit << (index & 7));
  });
  const masks = await open(image(3, 3, 3, 1, element(0x7fe00010, 'OB', packed)), EXPLICIT_VR_LITTLE_ENDIAN);
  for (const frame of [1, 2, 3]) {
    const bytes = await masks.read(frame);
    expect(Array.from({ length: 9 }, (_, index) => ((bytes[index >>> 3] ?? 0) >>> (index & 7)) & 1)).toEqual(
      bits.slice((frame - 1) * 9, frame * 9),
    );
  }
});

test('big endian frames come as little endian, word by word of their value representation', async () => {
  const big = { littleEndian: false };
  const open64 = async (bits: number, frames: number, columns: number, tag: number, vr: string, pixels: number[]): Promise<Frames> => {
    const be16 = (value: number): Buffer => Buffer.from([value >>> 8, value & 0xff]);
    return open(
      Buffer.concat([
        element(0x00280002, 'US', be16(1), big),
        element(0x00280008, 'IS', String(frames), big),
        element(0x00280010, 'US', be16(1), big),
        element(0x00280011, 'US', be16(columns), big),
        element(0x00280100, 'US', be16(bits), big),
        element(tag, vr, Buffer.from(pixels), big),
      ]),
      EXPLICIT_VR_BIG_ENDIAN,
    );
  };
  expect([...(await (await open64(16, 1, 2, 0x7fe00010, 'OW', [1, 2, 3, 4])).read(1))]).toEqual([2, 1, 4, 3]);
  // Three 8-bit pixels a frame: the second frame begins within a word.
  const bytes = await open64(8, 2, 3, 0x7fe00010, 'OW', [2, 1, 4, 3, 6, 5]);
  expect([[...(await bytes.read(1))], [...(await bytes.read(2))]]).toEqual([
    [1, 2, 3],
    [4, 5, 6],
  ]);
  expect([...(await (await open64(8, 1, 4, 0x7fe00010, 'OB', [1, 2, 3, 4])).read(1))]).toEqual([1, 2, 3, 4]);
  expect([...(await (await open64(32, 1, 1, 0x7fe00008, 'OF', [1, 2, 3, 4])).read(1))]).toEqual([4, 3, 2, 1]);
});

test('a number of frames that the pixel data cannot hold is refused before anything is made of it', async () => {
  const broken = { code: 'DATA_LOSS', reason: 'PIXEL_DATA_BROKEN' };
  for (const [frames, pixels] of [
    [3, Buffer.alloc(100)],
    [2_000_000_000, Buffer.alloc(200 * 200 * 2 * 2)],
  ] as const) {
    await expect(open(image(frames, 200, 200, 16, element(0x7fe00010, 'OW', pixels)), EXPLICIT_VR_LITTLE_ENDIAN)).rejects.toMatchObject(
      broken,
    );
  }
  const parts = [fragment(...SOI, 1, 1), fragment(...SOI, 2, 2)];
  await expect(open(image(2_000_000_000, 1, 1, 8, encapsulated(Buffer.alloc(0), ...parts)), JPEG)).rejects.toMatchObject(broken);
  const oneTooMany = await open(image(3, 1, 1, 8, encapsulated(Buffer.alloc(0), ...parts)), JPEG);
  await expect(oneTooMany.read(1)).rejects.toMatchObject(broken);
});

test('encapsulated frames are found by table, by fragment, and by where code streams begin', async () => {
  const parts = [fragment(...SOI, 1, 1), fragment(2, 2), fragment(...SOI, 3, 3)];
  const table = Buffer.alloc(8);
  table.writeUInt32LE(0, 0);
  table.writeUInt32LE(14 + 10, 4);
  for (const tableBytes of [table, Buffer.alloc(0)]) {
    const frames = await open(image(2, 1, 1, 8, encapsulated(tableBytes, ...parts)), JPEG);
    expect([...(await frames.read(1))]).toEqual([...SOI, 1, 1, 2, 2]);
    expect([...(await frames.read(2))]).toEqual([...SOI, 3, 3]);
    expect((await frames.place(1)).ranges).toHaveLength(2);
  }
  const one = await open(image(1, 1, 1, 8, encapsulated(Buffer.alloc(0), ...parts)), JPEG);
  expect(await one.read(1)).toHaveLength(14);
  const each = await open(image(3, 1, 1, 8, encapsulated(Buffer.alloc(0), ...parts)), JPEG);
  expect([...(await each.read(2))]).toEqual([2, 2]);
  const lost = await open(image(2, 1, 1, 8, encapsulated(Buffer.alloc(0), fragment(1, 1), fragment(2, 2), fragment(3, 3))), JPEG);
  await expect(lost.read(1)).rejects.toMatchObject({ reason: 'FRAMES_NOT_SEPARABLE' });
});

test('places of many frames without an offset table cost some reads a fragment, not a walk a frame', async () => {
  const dataset = image(
    1000,
    1,
    1,
    8,
    encapsulated(Buffer.alloc(0), ...Array.from({ length: 1000 }, () => [fragment(...SOI, 1, 1), fragment(2, 2)]).flat()),
  );
  let reads = 0;
  const frames = await openFrames({
    dataset: readDataset(dataset, JPEG).dataset,
    transferSyntaxUid: JPEG,
    read: async (offset, length) => {
      reads += 1;
      return dataset.subarray(offset, offset + length);
    },
  });
  for (let frame = 1; frame <= 1000; frame += 1) expect((await frames.place(frame)).ranges).toHaveLength(2);
  expect(reads).toBeLessThan(3 * 2000);
});

test('the extended offset table is used, and a lying one is not', async () => {
  const u64 = (...values: number[]): Buffer =>
    Buffer.concat(
      values.map((value) => {
        const bytes = Buffer.alloc(8);
        bytes.writeBigUInt64LE(BigInt(value));
        return bytes;
      }),
    );
  const withTables = (offsets: Buffer, lengths: Buffer): Buffer =>
    image(
      2,
      1,
      1,
      8,
      Buffer.concat([
        element(0x7fe00001, 'OV', offsets),
        element(0x7fe00002, 'OV', lengths),
        encapsulated(Buffer.alloc(0), fragment(1, 2, 3, 0), fragment(4, 5)),
      ]),
    );
  const frames = await open(withTables(u64(0, 12), u64(3, 2)), JPEG);
  expect([...(await frames.read(1))]).toEqual([1, 2, 3]);
  expect([...(await frames.read(2))]).toEqual([4, 5]);
  const lying = await open(withTables(u64(0, 2 ** 40), u64(3, 2 ** 40)), JPEG);
  expect([...(await lying.read(2))]).toEqual([4, 5]);
});

testNeeding('shared data', 'every frame of every real image is found and is inside its pixel data', async () => {
  const failures: string[] = [];
  let read = 0;
  for (const { name } of samples()) {
    let dataset: Buffer;
    let transferSyntaxUid: string;
    let frames: Frames;
    try {
      ({ dataset, transferSyntaxUid } = datasetOf(sample(name)));
      if (encodingOf(transferSyntaxUid).deflated) continue;
      frames = await open(dataset, transferSyntaxUid);
    } catch {
      // Refused files and those without pixel data are the business of other tests.
      continue;
    }
    for (const frame of new Set([1, 2, frames.count].filter((number) => number <= frames.count))) {
      const reason = await frames.read(frame).then(
        (bytes) => (bytes.length > 0 ? undefined : 'empty'),
        (error: unknown) => String(error),
      );
      if (reason === undefined) read++;
      else failures.push(`${name} frame ${frame} of ${frames.count}: ${reason}`);
    }
  }
  // Two data sets have pixel data and no size.
  expect(failures.map((failure) => failure.split(' ')[0])).toEqual([
    'none/pydicom__nested_priv_SQ.dcm',
    'odd/pydicom__meta_missing_tsyntax.dcm',
  ]);
  expect(read).toBeGreaterThan(250);
});
