import { parseBulkUri } from './json.ts';
import type { DicomJson } from './json.ts';
import { TAG } from './tags.ts';
import { encodingOf } from './transfer-syntaxes.ts';
import { isLongVr } from './value-representations.ts';

/** Where pixel data stands in the bytes of a data set, told from its header JSON. */
export interface StoredPixelData {
  readonly tag: string;
  readonly vr: string;
  /** Where the element begins: the bytes before it are the header. */
  readonly elementOffset: number;
  /** Where the value begins. */
  readonly offset: number;
  /** Bytes of the value, delimiters included. */
  readonly totalBytes: number;
}

/** Pixel data of a data set read by the header reader, or undefined where it has none or an empty one. */
export function pixelDataOf(dataset: DicomJson, transferSyntaxUid: string): StoredPixelData | undefined {
  for (const tag of [TAG.PixelData, TAG.FloatPixelData, TAG.DoubleFloatPixelData]) {
    const element = dataset[tag];
    const place = element?.BulkDataURI === undefined ? undefined : parseBulkUri(element.BulkDataURI);
    if (element === undefined || place === undefined) continue;
    const headerBytes = place.headerBytes ?? (encodingOf(transferSyntaxUid).explicitVr && isLongVr(element.vr) ? 12 : 8);
    return { tag, vr: element.vr, elementOffset: place.offset - headerBytes, offset: place.offset, totalBytes: place.length };
  }
  return undefined;
}
