import { MeshError } from '@meridian/shared/errors';
import { characterSetOf } from './character-sets.ts';
import { UNDEFINED_LENGTH, emptyElementHeader, readElementHeader } from './element-header.ts';
import { write32, writeElement, writeItem } from './element-writer.ts';
import type { ElementEncoding } from './element-writer.ts';
import { encodePersonName, encodeText } from './encode-text.ts';
import { createHeaderReader } from './header-reader.ts';
import { personNameText } from './json.ts';
import type { DicomJson, DicomJsonPersonName } from './json.ts';
import { TAG } from './tags.ts';
import { EXPLICIT_VR_LITTLE_ENDIAN, encodingOf } from './transfer-syntaxes.ts';

/** Values to serve in place of the stored ones; what is not named stays. An empty text empties the element. */
export interface ReplacedAttributes {
  readonly patientId?: string;
  /** Replacing it also takes out the qualifiers (0010,0024), which describe the former issuer. */
  readonly issuerOfPatientId?: string;
  readonly patientName?: DicomJsonPersonName;
  readonly patientBirthDate?: string;
  readonly patientSex?: string;
}

/** What is replaced, and what is said about it in Original Attributes Sequence (PS3.3 C.12.1.1.9). */
export interface Coercion {
  readonly replace: ReplacedAttributes;
  /** Reason for the Attribute Modification (0400,0565); COERCE where absent. */
  readonly reason?: 'COERCE' | 'CORRECT';
  /** Modifying System (0400,0563): who replaces, at most 64 characters. */
  readonly modifyingSystem: string;
  /** Source of Previous Values (0400,0564): whose values were replaced; may be unknown. */
  readonly sourceOfPreviousValues?: string;
  /** Attribute Modification DateTime (0400,0562), a DT: `20260102030405+0800`. */
  readonly at: string;
}

const QUALIFIERS = 0x0010_0024;
const ORIGINAL_ATTRIBUTES = 0x0400_0561;

/** One replaced attribute: its new value, or taken out where it has none. */
interface Replacement {
  readonly tag: number;
  readonly vr: string;
  readonly value?: string | DicomJsonPersonName;
}

function replacementsOf(replace: ReplacedAttributes): Replacement[] {
  const named: [number, string, string | DicomJsonPersonName | undefined][] = [
    [0x0010_0010, 'PN', replace.patientName],
    [0x0010_0020, 'LO', replace.patientId],
    [0x0010_0021, 'LO', replace.issuerOfPatientId],
    [0x0010_0030, 'DA', replace.patientBirthDate],
    [0x0010_0040, 'CS', replace.patientSex],
  ];
  const all: Replacement[] = named.flatMap(([tag, vr, value]) => (value === undefined ? [] : [{ tag, vr, value }]));
  if (replace.issuerOfPatientId !== undefined) all.push({ tag: QUALIFIERS, vr: 'SQ' });
  return all.toSorted((first, second) => first.tag - second.tag);
}

/** A change of the bytes: at `at`, `remove` bytes give way to `insert`. */
interface Edit {
  readonly at: number;
  readonly remove: number;
  readonly insert: Buffer;
  readonly tag: number;
}

/**
 * Rewrites the header of a data set, that is the bytes before its pixel data, so that it shows the replaced values and
 * tells the stored ones in Original Attributes Sequence (0400,0561). Every other byte stays.
 * @param headerBytes whole elements; of a deflated data set inflated ones.
 * @throws MeshError INVALID_ARGUMENT: a reason of the header reader, DICOM_TEXT_NOT_ENCODABLE, DICOM_CANNOT_COERCE
 */
export function coerceDataset(options: Coercion & { readonly headerBytes: Buffer; readonly transferSyntaxUid: string }): Buffer {
  const syntax = encodingOf(options.transferSyntaxUid);
  const reader = createHeaderReader({ transferSyntaxUid: syntax.deflated ? EXPLICIT_VR_LITTLE_ENDIAN : options.transferSyntaxUid });
  reader.push(options.headerBytes);
  const header = reader.finish();
  const places = { bytes: options.headerBytes, end: header.headerBytes, tags: header.topLevel.tags, offsets: header.topLevel.offsets };
  const characterSet = characterSetOf(
    (header.dataset[TAG.SpecificCharacterSet]?.Value ?? []).map((value) => (typeof value === 'string' ? value : '')),
  );
  const replacements = replacementsOf(options.replace);
  const edits = [
    ...replacements.map(({ tag, vr, value }): Edit => {
      const insert =
        value === undefined
          ? Buffer.alloc(0)
          : writeElement(
              tag,
              vr,
              typeof value === 'string' ? encodeText(value, characterSet) : encodePersonName(value, characterSet),
              syntax,
            );
      return { ...rangeOf(places, tag), tag, insert };
    }),
    extendSequence(
      places,
      originalAttributesItem(options, places, replacements, (value) => encodeText(value, characterSet)),
      syntax,
    ),
  ];
  return applyEdits(options.headerBytes, [...edits, ...groupLengthEdits(places, edits, syntax)]);
}

/** The item that tells the stored values, byte for byte, and who replaced them when and why. */
function originalAttributesItem(
  coercion: Coercion & { readonly transferSyntaxUid: string },
  places: Places,
  replacements: readonly Replacement[],
  text: (value: string) => Buffer,
): Buffer {
  const encoding = encodingOf(coercion.transferSyntaxUid);
  const originals = replacements.flatMap(({ tag, vr }) => {
    const { at, remove } = rangeOf(places, tag);
    if (remove > 0) return [places.bytes.subarray(at, at + remove)];
    // A value that was absent is told as empty (PS3.3 C.12.1.1.9); what was to be taken out and is not there is not told.
    return vr === 'SQ' ? [] : [writeElement(tag, vr, Buffer.alloc(0), encoding)];
  });
  return writeItem(
    Buffer.concat([
      writeElement(0x0400_0550, 'SQ', writeItem(Buffer.concat(originals), encoding), encoding),
      writeElement(0x0400_0562, 'DT', text(coercion.at), encoding),
      writeElement(0x0400_0563, 'LO', text(coercion.modifyingSystem), encoding),
      writeElement(0x0400_0564, 'LO', text(coercion.sourceOfPreviousValues ?? ''), encoding),
      writeElement(0x0400_0565, 'CS', text(coercion.reason ?? 'COERCE'), encoding),
    ]),
    encoding,
  );
}

interface Places {
  readonly bytes: Buffer;
  /** Where the last element ends. */
  readonly end: number;
  readonly tags: readonly number[];
  readonly offsets: readonly number[];
}

/** Bytes of a top-level element, or the place where it belongs in tag order with nothing to remove. */
function rangeOf({ end, tags, offsets }: Places, tag: number): { at: number; remove: number } {
  const found = tags.indexOf(tag);
  if (found >= 0) return { at: offsets[found] as number, remove: (offsets[found + 1] ?? end) - (offsets[found] as number) };
  const next = tags.findIndex((other) => other > tag);
  return { at: next < 0 ? end : (offsets[next] as number), remove: 0 };
}

/** Adds an item at the end of Original Attributes Sequence, or the sequence with it. */
function extendSequence(places: Places, item: Buffer, encoding: ElementEncoding): Edit {
  const range = rangeOf(places, ORIGINAL_ATTRIBUTES);
  const { tags, bytes } = places;
  if (range.remove === 0) return { ...range, tag: ORIGINAL_ATTRIBUTES, insert: writeElement(ORIGINAL_ATTRIBUTES, 'SQ', item, encoding) };
  const header = emptyElementHeader();
  readElementHeader(header, bytes, range.at, { explicit: encoding.explicitVr, littleEndian: encoding.littleEndian });
  if (
    header.vr !== 'SQ' ||
    header.explicit !== encoding.explicitVr ||
    tags.lastIndexOf(ORIGINAL_ATTRIBUTES) !== tags.indexOf(ORIGINAL_ATTRIBUTES)
  ) {
    throw new MeshError(
      'INVALID_ARGUMENT',
      'DICOM_CANNOT_COERCE',
      'The data set has Original Attributes in a form that cannot be extended.',
    );
  }
  const old = Buffer.from(bytes.subarray(range.at, range.at + range.remove));
  if (header.length === UNDEFINED_LENGTH) {
    // The last eight bytes are the sequence delimiter.
    return { ...range, tag: ORIGINAL_ATTRIBUTES, insert: Buffer.concat([old.subarray(0, -8), item, old.subarray(-8)]) };
  }
  write32(old, header.length + item.length, header.headerBytes - 4, encoding);
  return { ...range, tag: ORIGINAL_ATTRIBUTES, insert: Buffer.concat([old, item]) };
}

/** Retired group lengths (gggg,0000) of the groups that grow or shrink are kept right, for readers that trust them. */
function groupLengthEdits({ bytes, tags, offsets }: Places, edits: readonly Edit[], encoding: ElementEncoding): Edit[] {
  return [0x0010_0000, 0x0400_0000].flatMap((tag) => {
    const at = offsets[tags.indexOf(tag)];
    if (at === undefined) return [];
    const header = emptyElementHeader();
    readElementHeader(header, bytes, at, { explicit: encoding.explicitVr, littleEndian: encoding.littleEndian });
    if (header.length !== 4) return [];
    const valueAt = at + header.headerBytes;
    const old = encoding.littleEndian ? bytes.readUInt32LE(valueAt) : bytes.readUInt32BE(valueAt);
    const grown = edits.filter((edit) => edit.tag >>> 16 === tag >>> 16).reduce((sum, edit) => sum + edit.insert.length - edit.remove, 0);
    const insert = Buffer.alloc(4);
    write32(insert, Math.max(0, old + grown), 0, encoding);
    return [{ at: valueAt, remove: 4, insert, tag }];
  });
}

function applyEdits(bytes: Buffer, edits: readonly Edit[]): Buffer {
  const parts: Buffer[] = [];
  let at = 0;
  for (const edit of edits.toSorted((first, second) => first.at - second.at || first.tag - second.tag)) {
    parts.push(bytes.subarray(at, edit.at), edit.insert);
    at = edit.at + edit.remove;
  }
  parts.push(bytes.subarray(at));
  return Buffer.concat(parts);
}

/** The same on DICOM JSON: a new data set with the replaced values and one more item of Original Attributes Sequence. */
export function coerceJson(dataset: DicomJson, coercion: Coercion): DicomJson {
  const coerced: DicomJson = { ...dataset };
  const originals: DicomJson = {};
  for (const { tag, vr, value } of replacementsOf(coercion.replace)) {
    const key = tag.toString(16).toUpperCase().padStart(8, '0');
    const old = dataset[key];
    if (old !== undefined || vr !== 'SQ') originals[key] = old ?? { vr };
    if (value === undefined) delete coerced[key];
    else coerced[key] = value === '' || (typeof value === 'object' && personNameText(value) === '') ? { vr } : { vr, Value: [value] };
  }
  const item: DicomJson = {
    [TAG.ModifiedAttributesSequence]: { vr: 'SQ', Value: [originals] },
    [TAG.AttributeModificationDateTime]: { vr: 'DT', Value: [coercion.at] },
    [TAG.ModifyingSystem]: { vr: 'LO', Value: [coercion.modifyingSystem] },
    [TAG.SourceOfPreviousValues]:
      coercion.sourceOfPreviousValues === undefined || coercion.sourceOfPreviousValues === ''
        ? { vr: 'LO' }
        : { vr: 'LO', Value: [coercion.sourceOfPreviousValues] },
    [TAG.ReasonForTheAttributeModification]: { vr: 'CS', Value: [coercion.reason ?? 'COERCE'] },
  };
  const earlier = dataset[TAG.OriginalAttributesSequence]?.Value ?? [];
  coerced[TAG.OriginalAttributesSequence] = { vr: 'SQ', Value: [...earlier, item] };
  return inTagOrder(coerced);
}

function inTagOrder(dataset: DicomJson): DicomJson {
  return Object.fromEntries(Object.entries(dataset).toSorted(([first], [second]) => (first < second ? -1 : 1)));
}
