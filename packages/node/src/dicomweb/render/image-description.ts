import { MeshError } from '@meridian/shared/errors';
import { dictionaryEntry } from '../../dicom/dictionary.ts';
import { allStrings, firstNumber as firstKnownNumber, firstString, sequenceItems, valuesOf, type DicomJson } from '../../dicom/json.ts';
import { TAG } from '../../dicom/tags.ts';

/** How a window maps values (PS3.3 C.11.2.1.3). */
export type WindowFunction = 'LINEAR' | 'LINEAR_EXACT' | 'SIGMOID';

/** A window over modality values. */
export interface Window {
  readonly center: number;
  readonly width: number;
  readonly function: WindowFunction;
}

/** A look-up table (PS3.3 C.11.1.1): value `first + n` becomes `entries[n]`, values beyond the ends the end's. */
export interface LookupTable {
  readonly first: number;
  readonly bits: number;
  readonly entries: Uint16Array;
}

/** What the pixels of a frame mean: everything that rendering needs besides the bytes. Plain, so that it can go to a thread. */
export interface ImageDescription {
  readonly transferSyntaxUid: string;
  readonly rows: number;
  readonly columns: number;
  readonly samplesPerPixel: number;
  readonly photometricInterpretation: string;
  /** 1: plane after plane; only where a pixel has several samples. */
  readonly planarConfiguration: number;
  readonly bitsAllocated: number;
  readonly bitsStored: number;
  readonly highBit: number;
  readonly signed: boolean;
  readonly rescaleSlope: number;
  readonly rescaleIntercept: number;
  readonly modalityTable?: LookupTable;
  readonly window?: Window;
  readonly windowTable?: LookupTable;
  readonly inverted: boolean;
  /** Stored values that stand for no measurement (0028,0120)-(0028,0121). */
  readonly padding?: { readonly from: number; readonly to: number };
  readonly palette?: { readonly red: LookupTable; readonly green: LookupTable; readonly blue: LookupTable };
}

const PIXEL_PADDING_VALUE = '00280120';
const PIXEL_PADDING_RANGE_LIMIT = '00280121';
const VOI_LUT_FUNCTION = '00281056';
const MODALITY_LUT_SEQUENCE = '00283000';
const VOI_LUT_SEQUENCE = '00283010';
const LUT_DESCRIPTOR = '00283002';
const LUT_DATA = '00283006';
const PRESENTATION_LUT_SHAPE = '20500020';
const PALETTE = { red: ['00281101', '00281201'], green: ['00281102', '00281202'], blue: ['00281103', '00281203'] } as const;
const SHARED_GROUPS = '52009229';
const PER_FRAME_GROUPS = '52009230';
const PIXEL_VALUE_TRANSFORMATION = '00289145';
const FRAME_VOI_LUT = '00289132';

/**
 * Reads what the header says of a frame. Enhanced objects state slope and window in functional groups, per frame first.
 * @param frame from 1.
 * @throws MeshError FAILED_PRECONDITION / NOT_AN_IMAGE | IMAGE_ATTRIBUTES_INVALID
 */
export function describeImage(header: DicomJson, transferSyntaxUid: string, frame: number): ImageDescription {
  const rows = firstNumber(header, TAG.Rows);
  const columns = firstNumber(header, TAG.Columns);
  if (rows === undefined || columns === undefined)
    throw new MeshError('FAILED_PRECONDITION', 'NOT_AN_IMAGE', 'This object has no pixels to show.');
  const bitsAllocated = firstNumber(header, TAG.BitsAllocated) ?? 16;
  const bitsStored = firstNumber(header, TAG.BitsStored) ?? bitsAllocated;
  const highBit = firstNumber(header, TAG.HighBit) ?? bitsStored - 1;
  const samplesPerPixel = firstNumber(header, TAG.SamplesPerPixel) ?? 1;
  const consistent =
    [1, 8, 16, 32].includes(bitsAllocated) &&
    bitsStored >= 1 &&
    bitsStored <= bitsAllocated &&
    highBit < bitsAllocated &&
    highBit >= bitsStored - 1 &&
    (samplesPerPixel === 1 || samplesPerPixel === 3) &&
    Number.isInteger(rows) &&
    Number.isInteger(columns) &&
    rows > 0 &&
    columns > 0;
  if (!consistent)
    throw new MeshError(
      'FAILED_PRECONDITION',
      'IMAGE_ATTRIBUTES_INVALID',
      'The attributes that describe the pixels of this object are absent or contradict each other.',
    );
  const transformation = group(header, frame, PIXEL_VALUE_TRANSFORMATION) ?? header;
  const voi = group(header, frame, FRAME_VOI_LUT) ?? header;
  const photometricInterpretation = firstString(header, TAG.PhotometricInterpretation) ?? (samplesPerPixel === 3 ? 'RGB' : 'MONOCHROME2');
  const signed = firstNumber(header, TAG.PixelRepresentation) === 1;
  return {
    transferSyntaxUid,
    rows,
    columns,
    samplesPerPixel,
    photometricInterpretation,
    bitsAllocated,
    bitsStored,
    highBit,
    signed,
    planarConfiguration: firstNumber(header, TAG.PlanarConfiguration) ?? 0,
    rescaleSlope: firstNumber(transformation, TAG.RescaleSlope) ?? 1,
    rescaleIntercept: firstNumber(transformation, TAG.RescaleIntercept) ?? 0,
    ...optional('modalityTable', tableOf(sequenceItems(header, MODALITY_LUT_SEQUENCE)[0], LUT_DESCRIPTOR, LUT_DATA, signed)),
    ...optional('window', windowOf(voi)),
    ...optional('windowTable', tableOf(sequenceItems(header, VOI_LUT_SEQUENCE)[0], LUT_DESCRIPTOR, LUT_DATA, signed)),
    inverted: photometricInterpretation === 'MONOCHROME1' || firstString(header, PRESENTATION_LUT_SHAPE) === 'INVERSE',
    ...optional('padding', paddingOf(header)),
    ...optional('palette', photometricInterpretation === 'PALETTE COLOR' ? paletteOf(header) : undefined),
  };
}

/** First value as a number, also where a converter wrote a known attribute as UN (PS3.5 6.2.2 note 2): little endian. */
function firstNumber(dataset: DicomJson, tag: string): number | undefined {
  const element = dataset[tag];
  if (element?.vr !== 'UN' || element.InlineBinary === undefined) return firstKnownNumber(dataset, tag);
  const bytes = Buffer.from(element.InlineBinary, 'base64');
  const vr = dictionaryEntry(Number.parseInt(tag, 16))?.vr ?? '';
  if (vr.startsWith('US')) return bytes.length >= 2 ? bytes.readUInt16LE(0) : undefined;
  const text = bytes.toString('latin1').split('\\')[0]?.trim() ?? '';
  return text !== '' && Number.isFinite(Number(text)) ? Number(text) : undefined;
}

function group(header: DicomJson, frame: number, sequence: string): DicomJson | undefined {
  const perFrame = sequenceItems(header, PER_FRAME_GROUPS)[frame - 1];
  return (
    (perFrame === undefined ? undefined : sequenceItems(perFrame, sequence)[0]) ??
    sequenceItems(sequenceItems(header, SHARED_GROUPS)[0] ?? {}, sequence)[0]
  );
}

function windowOf(dataset: DicomJson): Window | undefined {
  const center = firstNumber(dataset, TAG.WindowCenter);
  const width = firstNumber(dataset, TAG.WindowWidth);
  if (center === undefined || width === undefined || width <= 0) return undefined;
  const named = firstString(dataset, VOI_LUT_FUNCTION);
  return { center, width, function: named === 'SIGMOID' || named === 'LINEAR_EXACT' ? named : 'LINEAR' };
}

function paddingOf(header: DicomJson): { from: number; to: number } | undefined {
  const value = firstNumber(header, PIXEL_PADDING_VALUE);
  if (value === undefined) return undefined;
  const limit = firstNumber(header, PIXEL_PADDING_RANGE_LIMIT) ?? value;
  return { from: Math.min(value, limit), to: Math.max(value, limit) };
}

function paletteOf(header: DicomJson): ImageDescription['palette'] {
  const red = tableOf(header, PALETTE.red[0], PALETTE.red[1], false);
  const green = tableOf(header, PALETTE.green[0], PALETTE.green[1], false);
  const blue = tableOf(header, PALETTE.blue[0], PALETTE.blue[1], false);
  return red === undefined || green === undefined || blue === undefined ? undefined : { red, green, blue };
}

function tableOf(dataset: DicomJson | undefined, descriptorTag: string, dataTag: string, signedFirst: boolean): LookupTable | undefined {
  if (dataset === undefined) return undefined;
  const [count, first, bits] = allStrings(dataset, descriptorTag).map(Number);
  if (count === undefined || first === undefined || bits === undefined) return undefined;
  // 0 stands for 65,536 (PS3.3 C.11.1.1.1); the second value is signed where the pixels are.
  const length = count === 0 ? 65_536 : count;
  const entries = tableEntries(dataset, dataTag, length);
  return entries === undefined ? undefined : { first: signedFirst && first > 32_767 ? first - 65_536 : first, bits, entries };
}

function tableEntries(dataset: DicomJson, tag: string, length: number): Uint16Array | undefined {
  const values = valuesOf(dataset, tag);
  if (values.length >= length) return Uint16Array.from(values.slice(0, length), Number);
  const inline = dataset[tag]?.InlineBinary;
  if (inline === undefined) return undefined;
  const bytes = Buffer.from(inline, 'base64');
  if (bytes.length >= length * 2) return Uint16Array.from({ length }, (_, index) => bytes.readUInt16LE(index * 2));
  // Entries of 8 bits, two in each word.
  return bytes.length >= length ? Uint16Array.from(bytes.subarray(0, length)) : undefined;
}

function optional<Key extends string, Value>(key: Key, value: Value | undefined): { [K in Key]?: Value } {
  return (value === undefined ? {} : { [key]: value }) as { [K in Key]?: Value };
}
