/** One element to write: tag (0xGGGGEEEE), VR, value. Sequences hold lists of elements; bytes are written as they are. */
export type Element = readonly [tag: number, vr: string, value: ElementValue];
export type ElementValue = string | number | readonly (string | number)[] | Buffer | readonly (readonly Element[])[];

/** How text becomes bytes: the value of Specific Character Set and its encoder. */
export interface TextCoding {
  readonly specificCharacterSet: string;
  encode(text: string): Buffer;
}

const LONG_FORM = new Set(['OB', 'OD', 'OF', 'OL', 'OV', 'OW', 'SQ', 'SV', 'UC', 'UN', 'UR', 'UT', 'UV']);
const CODED_TEXT = new Set(['LO', 'LT', 'PN', 'SH', 'ST', 'UC', 'UT']);
const NUMBER_BYTES: Readonly<Record<string, number>> = { US: 2, SS: 2, UL: 4, SL: 4, FL: 4, FD: 8 };

/**
 * A data set in Explicit VR Little Endian, in order of tag (PS3.5 7.1.2).
 * @returns bytes without preamble and file meta information.
 */
export function writeDataSet(elements: readonly Element[], coding: TextCoding): Buffer {
  return Buffer.concat(elements.toSorted((a, b) => a[0] - b[0]).map((element) => writeElement(element, coding)));
}

function writeElement([tag, vr, value]: Element, coding: TextCoding): Buffer {
  const bytes = padded(valueBytes(vr, value, coding), vr);
  const head = Buffer.alloc(LONG_FORM.has(vr) ? 12 : 8);
  head.writeUInt16LE(tag >>> 16, 0);
  head.writeUInt16LE(tag & 0xffff, 2);
  head.write(vr, 4, 'latin1');
  if (LONG_FORM.has(vr)) head.writeUInt32LE(bytes.length, 8);
  else head.writeUInt16LE(bytes.length, 6);
  return Buffer.concat([head, bytes]);
}

function valueBytes(vr: string, value: ElementValue, coding: TextCoding): Buffer {
  if (Buffer.isBuffer(value)) return value;
  if (vr === 'SQ') return Buffer.concat((value as readonly (readonly Element[])[]).map((item) => writeItem(item, coding)));
  const values = (Array.isArray(value) ? value : [value]) as readonly (string | number)[];
  const width = NUMBER_BYTES[vr];
  if (width !== undefined) return numberBytes(vr, width, values.map(Number));
  const text = values.join('\\');
  return CODED_TEXT.has(vr) ? coding.encode(text) : Buffer.from(text, 'latin1');
}

function writeItem(elements: readonly Element[], coding: TextCoding): Buffer {
  const bytes = writeDataSet(elements, coding);
  const head = Buffer.alloc(8);
  head.writeUInt16LE(0xfffe, 0);
  head.writeUInt16LE(0xe000, 2);
  head.writeUInt32LE(bytes.length, 4);
  return Buffer.concat([head, bytes]);
}

function numberBytes(vr: string, width: number, values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(width * values.length);
  values.forEach((value, at) => {
    if (vr === 'US') bytes.writeUInt16LE(value, at * width);
    else if (vr === 'SS') bytes.writeInt16LE(value, at * width);
    else if (vr === 'UL') bytes.writeUInt32LE(value, at * width);
    else if (vr === 'SL') bytes.writeInt32LE(value, at * width);
    else if (vr === 'FL') bytes.writeFloatLE(value, at * width);
    else bytes.writeDoubleLE(value, at * width);
  });
  return bytes;
}

function padded(bytes: Buffer, vr: string): Buffer {
  if (bytes.length % 2 === 0) return bytes;
  return Buffer.concat([bytes, Buffer.from(vr === 'UI' || vr === 'OB' || vr === 'UN' ? '\0' : ' ')]);
}

/** UTF-8 (ISO_IR 192). */
export const utf8: TextCoding = { specificCharacterSet: 'ISO_IR 192', encode: (text) => Buffer.from(text, 'utf8') };

/** GB18030, through a table made from the platform's decoder (the two-byte area, which is all of GBK). */
export function gb18030(): TextCoding {
  const table = new Map<string, number>();
  const decoder = new TextDecoder('gb18030');
  for (let lead = 0x81; lead <= 0xfe; lead += 1) {
    for (let trail = 0x40; trail <= 0xfe; trail += 1) {
      if (trail === 0x7f) continue;
      const text = decoder.decode(Uint8Array.of(lead, trail));
      if (text.length === 1 && text !== '�' && !table.has(text)) table.set(text, (lead << 8) | trail);
    }
  }
  const encode = (text: string): Buffer =>
    Buffer.from(
      Array.from(text).flatMap((character) => {
        const point = character.codePointAt(0) ?? 0;
        if (point < 0x80) return [point];
        const pair = table.get(character);
        if (pair === undefined) throw new Error(`no two-byte GB18030 code for U+${point.toString(16)}`);
        return [pair >> 8, pair & 0xff];
      }),
    );
  return { specificCharacterSet: 'GB18030', encode };
}
