import { isLongVr } from '../value-representations.ts';

/** How to write: explicit or implicit VR, little or big endian. */
export interface Writing {
  readonly explicit?: boolean;
  readonly littleEndian?: boolean;
}

/** One element, written for a test. `length` states another length than the value has. */
export function element(
  tag: number,
  vr: string,
  value: Buffer | string,
  { explicit = true, littleEndian = true, length }: Writing & { readonly length?: number } = {},
): Buffer {
  const raw = typeof value === 'string' ? Buffer.from(value, 'latin1') : value;
  const bytes = raw.length % 2 === 0 ? raw : Buffer.concat([raw, Buffer.from(vr === 'UI' || vr === 'OB' ? '\0' : ' ')]);
  const header = Buffer.alloc(explicit && isLongVr(vr) ? 12 : 8);
  const u16 = (number: number, at: number): void =>
    void (littleEndian ? header.writeUInt16LE(number, at) : header.writeUInt16BE(number, at));
  const u32 = (number: number, at: number): void =>
    void (littleEndian ? header.writeUInt32LE(number, at) : header.writeUInt32BE(number, at));
  u16(tag >>> 16, 0);
  u16(tag & 0xffff, 2);
  const stated = length ?? bytes.length;
  if (!explicit) u32(stated, 4);
  else {
    header.write(vr, 4, 'latin1');
    if (header.length === 12) u32(stated, 8);
    else u16(stated, 6);
  }
  return Buffer.concat([header, bytes]);
}

/** An item or delimiter: tag and length. */
export function item(tag: number, length: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt16LE(tag >>> 16, 0);
  bytes.writeUInt16LE(tag & 0xffff, 2);
  bytes.writeUInt32LE(length, 4);
  return bytes;
}

/** Identity elements of a small, valid data set. */
export function identityElements(writing: Writing = {}): Buffer {
  return Buffer.concat([
    element(0x00080016, 'UI', '1.2.840.10008.5.1.4.1.1.7', writing),
    element(0x00080018, 'UI', '1.2.3.4', writing),
    element(0x00100010, 'PN', 'Test^Person', writing),
    element(0x00100020, 'LO', 'ID1', writing),
    element(0x0020000d, 'UI', '1.2.3', writing),
    element(0x0020000e, 'UI', '1.2.3.1', writing),
  ]);
}
