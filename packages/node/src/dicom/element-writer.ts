import { MeshError } from '@meridian/shared/errors';
import { isLongVr } from './value-representations.ts';

/** How elements are written. */
export interface ElementEncoding {
  readonly explicitVr: boolean;
  readonly littleEndian: boolean;
}

/**
 * One element with a value of stated length, padded to even (PS3.5 7.1, 6.2).
 * @throws MeshError INVALID_ARGUMENT / DICOM_VALUE_TOO_LONG where a 16-bit length cannot state it
 */
export function writeElement(tag: number, vr: string, value: Buffer, encoding: ElementEncoding): Buffer {
  const padded =
    value.length % 2 === 0 ? value : Buffer.concat([value, Buffer.from(vr === 'UI' || vr === 'OB' || vr === 'UN' ? '\0' : ' ', 'latin1')]);
  const long = encoding.explicitVr && isLongVr(vr);
  if (encoding.explicitVr && !long && padded.length > 0xfffe)
    throw new MeshError('INVALID_ARGUMENT', 'DICOM_VALUE_TOO_LONG', 'A value is longer than its VR can state.');
  const header = Buffer.alloc(long ? 12 : 8);
  writeTag(header, tag, encoding);
  if (!encoding.explicitVr) write32(header, padded.length, 4, encoding);
  else {
    header.write(vr, 4, 'latin1');
    if (long) write32(header, padded.length, 8, encoding);
    else if (encoding.littleEndian) header.writeUInt16LE(padded.length, 6);
    else header.writeUInt16BE(padded.length, 6);
  }
  return Buffer.concat([header, padded]);
}

/** One item of stated length around the elements of a data set (PS3.5 7.5). */
export function writeItem(elements: Buffer, encoding: ElementEncoding): Buffer {
  const header = Buffer.alloc(8);
  writeTag(header, 0xfffe_e000, encoding);
  write32(header, elements.length, 4, encoding);
  return Buffer.concat([header, elements]);
}

/** Writes a 32-bit number in the byte order of the data set. */
export function write32(into: Buffer, value: number, at: number, encoding: ElementEncoding): void {
  if (encoding.littleEndian) into.writeUInt32LE(value, at);
  else into.writeUInt32BE(value, at);
}

function writeTag(into: Buffer, tag: number, { littleEndian }: ElementEncoding): void {
  if (littleEndian) {
    into.writeUInt16LE(tag >>> 16, 0);
    into.writeUInt16LE(tag & 0xffff, 2);
  } else into.writeUInt32BE(tag, 0);
}
