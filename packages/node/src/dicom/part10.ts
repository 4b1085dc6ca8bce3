import { MeshError } from '@meridian/shared/errors';
import { dictionaryEntry } from './dictionary.ts';
import { emptyElementHeader, readElementHeader } from './element-header.ts';
import { EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, encodingOf } from './transfer-syntaxes.ts';
import { isLongVr, vrOfCode } from './value-representations.ts';

/** Implementation Class UID of this product (PS3.7 D.3.3.2), a UUID under 2.25 (PS3.5 B.2). */
export const IMPLEMENTATION_CLASS_UID = '2.25.113323238466912201151997189762558006232';
/** Implementation Version Name, at most 16 characters. */
export const IMPLEMENTATION_VERSION_NAME = 'MERIDIAN_0_1';

const PREAMBLE_BYTES = 128;
/** File meta information of real files is below 1 KiB; private information may make it longer. */
const MAX_META_BYTES = 1024 * 1024;

/** Identity of a data set that a Part 10 file states before it. */
export interface FileMeta {
  readonly sopClassUid: string;
  readonly sopInstanceUid: string;
  readonly transferSyntaxUid: string;
}

/**
 * What stands before the data set in a Part 10 file: preamble, `DICM` and file meta information (PS3.10 7.1). The same
 * input always gives the same bytes.
 */
export function part10Prefix({ sopClassUid, sopInstanceUid, transferSyntaxUid }: FileMeta): Buffer {
  const elements = Buffer.concat([
    metaElement(0x0001, 'OB', Buffer.from([0, 1])),
    metaElement(0x0002, 'UI', uid(sopClassUid)),
    metaElement(0x0003, 'UI', uid(sopInstanceUid)),
    metaElement(0x0010, 'UI', uid(transferSyntaxUid)),
    metaElement(0x0012, 'UI', uid(IMPLEMENTATION_CLASS_UID)),
    metaElement(0x0013, 'SH', Buffer.from(IMPLEMENTATION_VERSION_NAME, 'latin1')),
  ]);
  const groupLength = Buffer.alloc(4);
  groupLength.writeUInt32LE(elements.length);
  return Buffer.concat([Buffer.alloc(PREAMBLE_BYTES), Buffer.from('DICM', 'latin1'), metaElement(0x0000, 'UL', groupLength), elements]);
}

function uid(text: string): Buffer {
  return Buffer.from(text.length % 2 === 0 ? text : `${text}\0`, 'latin1');
}

function metaElement(element: number, vr: string, value: Buffer): Buffer {
  const header = Buffer.alloc(isLongVr(vr) ? 12 : 8);
  header.writeUInt16LE(0x0002, 0);
  header.writeUInt16LE(element, 2);
  header.write(vr, 4, 'latin1');
  if (isLongVr(vr)) header.writeUInt32LE(value.length, 8);
  else header.writeUInt16LE(value.length, 6);
  return Buffer.concat([header, value]);
}

/** Where the data set of a file begins and how it is written. */
export interface Part10Start {
  /** Offset of the data set in the file. */
  readonly metaEndOffset: number;
  readonly transferSyntaxUid: string;
  readonly sopClassUid?: string;
  readonly sopInstanceUid?: string;
  /** The file did not state its transfer syntax: it was told from the first element. */
  readonly guessed: boolean;
}

/**
 * Reads the beginning of a file: with or without preamble, with or without file meta information (PS3.10 7.1). Give all
 * bytes from the start each time; a few KiB are enough for every ordinary file.
 * @param ended there are no more bytes: then the answer is never `need-more`.
 * @throws MeshError INVALID_ARGUMENT / DICOM_NOT_PART10 where the bytes are no DICOM file, DICOM_TRUNCATED where it ends in its meta information
 */
export function readPart10Start(bytes: Buffer, { ended = false }: { readonly ended?: boolean } = {}): Part10Start | 'need-more' {
  if (bytes.length < PREAMBLE_BYTES + 4 && !ended) return 'need-more';
  const metaStart =
    bytes.toString('latin1', PREAMBLE_BYTES, PREAMBLE_BYTES + 4) === 'DICM'
      ? PREAMBLE_BYTES + 4
      : bytes.toString('latin1', 0, 4) === 'DICM'
        ? 4
        : 0;
  const meta = readMeta(bytes, metaStart);
  if (meta === undefined) {
    if (!ended && bytes.length < metaStart + MAX_META_BYTES) return 'need-more';
    throw bytes.length === 0 || metaStart === 0
      ? notPart10()
      : new MeshError('INVALID_ARGUMENT', 'DICOM_TRUNCATED', 'The file ends within its meta information. Send it again in full.');
  }
  const stated = meta.values.get(0x0010);
  if (stated !== undefined) return start(meta, stated, false);
  const guessed = guessSyntax(bytes, meta.end);
  // With meta information it is a DICOM file whatever its first element is; implicit is what its writer left unsaid.
  if (guessed === undefined && meta.end === 0) throw notPart10();
  return start(meta, guessed ?? IMPLICIT_VR_LITTLE_ENDIAN, true);
}

interface Meta {
  readonly end: number;
  readonly values: ReadonlyMap<number, string>;
}

function start(meta: Meta, transferSyntaxUid: string, guessed: boolean): Part10Start {
  const sopClassUid = meta.values.get(0x0002);
  const sopInstanceUid = meta.values.get(0x0003);
  return {
    metaEndOffset: meta.end,
    transferSyntaxUid,
    guessed,
    ...(sopClassUid === undefined ? {} : { sopClassUid }),
    ...(sopInstanceUid === undefined ? {} : { sopInstanceUid }),
  };
}

/** Walks the elements of group 2; its stated length is believed only where an element begins there, for writers get it wrong. */
function readMeta(bytes: Buffer, from: number): Meta | undefined {
  const values = new Map<number, string>();
  const header = emptyElementHeader();
  let at = from;
  let statedEnd = -1;
  for (;;) {
    // A deflated data set may begin with any bytes, so the stated end counts there.
    if (at === statedEnd && encodingOf(values.get(0x0010) ?? '').deflated) return { end: at, values };
    if (bytes.length - at < 8) return undefined;
    if (bytes.readUInt16LE(at) !== 0x0002) return { end: at, values };
    const needed = readElementHeader(header, bytes, at, { explicit: true, littleEndian: true });
    const valueAt = at + header.headerBytes;
    if (bytes.length - at < needed || valueAt + header.length > bytes.length) return undefined;
    const element = header.tag & 0xffff;
    if (element === 0 && header.length === 4) statedEnd = valueAt + 4 + bytes.readUInt32LE(valueAt);
    else if (header.length <= 256) {
      const text = bytes.toString('latin1', valueAt, valueAt + header.length).replace(/[\0 ]+$/, '');
      if (text !== '' && !values.has(element)) values.set(element, text);
    }
    at = valueAt + header.length;
  }
}

/** Tells the transfer syntax from the first element: a known VR, and the byte order that makes its group the smaller number. */
function guessSyntax(bytes: Buffer, at: number): string | undefined {
  const little = bytes.readUInt16LE(at);
  const big = bytes.readUInt16BE(at);
  if (vrOfCode(bytes.readUInt16BE(at + 4)) !== undefined) return big < little ? EXPLICIT_VR_BIG_ENDIAN : EXPLICIT_VR_LITTLE_ENDIAN;
  const tag = ((little << 16) | bytes.readUInt16LE(at + 2)) >>> 0;
  return (tag & 0xffff) === 0 || dictionaryEntry(tag) !== undefined ? IMPLICIT_VR_LITTLE_ENDIAN : undefined;
}

function notPart10(): MeshError {
  return new MeshError(
    'INVALID_ARGUMENT',
    'DICOM_NOT_PART10',
    'The bytes are not a DICOM file: no file meta information and no data element at the start.',
  );
}
