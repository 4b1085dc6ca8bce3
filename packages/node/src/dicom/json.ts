/** A person name in DICOM JSON: up to three representations, each with components joined by `^` (PS3.18 F.2.2). */
export interface DicomJsonPersonName {
  Alphabetic?: string;
  Ideographic?: string;
  Phonetic?: string;
}

/** One value of an element. SV and UV beyond 2^53 and numbers JSON cannot hold (NaN, infinity) are strings. */
export type DicomJsonValue = string | number | DicomJsonPersonName | DicomJson | null;

/** One element of the DICOM JSON model: at most one of Value, InlineBinary (base64) and BulkDataURI. */
export interface DicomJsonElement {
  vr: string;
  Value?: DicomJsonValue[];
  InlineBinary?: string;
  BulkDataURI?: string;
}

/** A data set in the DICOM JSON model: tag (`00100020`) to element (PS3.18 Annex F). */
export type DicomJson = Record<string, DicomJsonElement>;

/** Values of an element, or an empty list. */
export function valuesOf(dataset: DicomJson, tag: string): readonly DicomJsonValue[] {
  return dataset[tag]?.Value ?? [];
}

/** First value as trimmed text (numbers are written out), or undefined if absent, empty or not text. */
export function firstString(dataset: DicomJson, tag: string): string | undefined {
  const value = valuesOf(dataset, tag)[0];
  if (typeof value === 'number') return String(value);
  if (typeof value !== 'string') return undefined;
  const text = value.trim();
  return text === '' ? undefined : text;
}

/** All non-empty values as text. */
export function allStrings(dataset: DicomJson, tag: string): string[] {
  return valuesOf(dataset, tag)
    .filter((value) => typeof value === 'string' || typeof value === 'number')
    .map(String)
    .filter((text) => text !== '');
}

/** First value as a finite number, or undefined. */
export function firstNumber(dataset: DicomJson, tag: string): number | undefined {
  const value = valuesOf(dataset, tag)[0];
  const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : value;
  return typeof number === 'number' && Number.isFinite(number) ? number : undefined;
}

/** First value as a person name, or undefined. */
export function personName(dataset: DicomJson, tag: string): DicomJsonPersonName | undefined {
  const value = valuesOf(dataset, tag)[0];
  if (value === null || typeof value !== 'object' || dataset[tag]?.vr !== 'PN') return undefined;
  return value as DicomJsonPersonName;
}

/** A person name as one string: the groups joined by `=` without empty ones at the end (PS3.5 6.2.1). */
export function personNameText(name: DicomJsonPersonName): string {
  return [name.Alphabetic ?? '', name.Ideographic ?? '', name.Phonetic ?? ''].join('=').replace(/=+$/, '');
}

/** The items of a sequence, or an empty list. */
export function sequenceItems(dataset: DicomJson, tag: string): readonly DicomJson[] {
  const element = dataset[tag];
  return element?.vr === 'SQ' ? ((element.Value ?? []) as DicomJson[]) : [];
}

/** Where a value that was left out of the JSON stands: bytes of the data set, inflated if it was deflated. */
export interface BulkReference {
  readonly offset: number;
  readonly length: number;
  /** Bytes from the element's tag to its value; stated for pixel data that is not written as its transfer syntax says. */
  readonly headerBytes?: number;
}

/** BulkDataURI that the header reader writes for a value it did not keep. Doors replace it with an address of their own. */
export function bulkUri(reference: BulkReference): string {
  return `?offset=${reference.offset}&length=${reference.length}${reference.headerBytes === undefined ? '' : `&header=${reference.headerBytes}`}`;
}

/** The reference in a BulkDataURI written by {@link bulkUri}, or undefined. */
export function parseBulkUri(uri: string): BulkReference | undefined {
  const match = /^\?offset=(\d{1,15})&length=(\d{1,15})(?:&header=(8|12))?$/.exec(uri);
  if (match === null) return undefined;
  return { offset: Number(match[1]), length: Number(match[2]), ...(match[3] === undefined ? {} : { headerBytes: Number(match[3]) }) };
}

/** A copy that declares UTF-8 (ISO_IR 192) wherever a character set is declared: what DICOM JSON in UTF-8 holds (PS3.18 F.2). */
export function declaringUtf8(dataset: DicomJson): DicomJson {
  const copy: DicomJson = {};
  for (const [tag, element] of Object.entries(dataset)) {
    if (tag === '00080005') copy[tag] = { vr: 'CS', Value: ['ISO_IR 192'] };
    else if (element.vr === 'SQ' && element.Value !== undefined)
      copy[tag] = { vr: 'SQ', Value: (element.Value as DicomJson[]).map(declaringUtf8) };
    else copy[tag] = element;
  }
  return copy;
}
