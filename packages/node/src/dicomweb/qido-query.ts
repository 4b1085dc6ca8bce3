import { MeshError } from '@meridian/shared/errors';
import { dictionaryEntry, keywordOfTag, tagOfAttributeId } from '../dicom/dictionary.ts';
import { TAG } from '../dicom/tags.ts';

/** Level of a search. */
export type QidoLevel = 'study' | 'series' | 'instance';

/** A search as the client asked for it (PS3.18 8.3.4), checked. */
export interface QidoQuery {
  /** Matching keys by tag; text as given, never empty. */
  readonly matches: ReadonlyMap<string, string>;
  readonly includeAll: boolean;
  readonly includeTags: ReadonlySet<string>;
  readonly limit: number;
  readonly offset: number;
  readonly fuzzyMatchingAsked: boolean;
}

/** Rows of one answer at most, and where the client states no limit. */
export const QIDO_LIMITS = { rows: 5_000, defaultRows: 1_000, parameters: 200, valueCharacters: 16_384, uids: 1_000 } as const;

const STUDY_KEYS = [
  TAG.StudyDate,
  TAG.StudyTime,
  TAG.AccessionNumber,
  TAG.ModalitiesInStudy,
  TAG.ReferringPhysicianName,
  TAG.PatientName,
  TAG.PatientID,
  TAG.IssuerOfPatientID,
  TAG.PatientBirthDate,
  TAG.PatientSex,
  TAG.StudyInstanceUID,
  TAG.StudyID,
  TAG.StudyDescription,
] as const;
const SERIES_KEYS = [TAG.Modality, TAG.SeriesInstanceUID, TAG.SeriesNumber, TAG.SeriesDescription, TAG.BodyPartExamined] as const;
const INSTANCE_KEYS = [TAG.SOPClassUID, TAG.SOPInstanceUID, TAG.InstanceNumber] as const;
const KEYS: Readonly<Record<QidoLevel, ReadonlySet<string>>> = {
  study: new Set(STUDY_KEYS),
  series: new Set([...STUDY_KEYS, ...SERIES_KEYS]),
  instance: new Set([...STUDY_KEYS, ...SERIES_KEYS, ...INSTANCE_KEYS]),
};

/**
 * Reads the query of a search address.
 * @param search what stands behind the question mark; percent-encoded.
 * @throws MeshError INVALID_ARGUMENT / ATTRIBUTE_UNKNOWN | ATTRIBUTE_NOT_SEARCHABLE | QUERY_VALUE_INVALID | QUERY_TOO_LONG
 */
export function parseQidoQuery(search: string, level: QidoLevel): QidoQuery {
  const parameters = [...new URLSearchParams(search)];
  if (parameters.length > QIDO_LIMITS.parameters)
    throw new MeshError('INVALID_ARGUMENT', 'QUERY_TOO_LONG', `A search takes at most ${QIDO_LIMITS.parameters} parameters.`);
  const matches = new Map<string, string>();
  const includeTags = new Set<string>();
  let includeAll = false;
  let limit: number = QIDO_LIMITS.defaultRows;
  let offset = 0;
  let fuzzyMatchingAsked = false;
  for (const [name, value] of parameters) {
    switch (name) {
      case 'limit':
        limit = Math.min(wholeNumber(name, value), QIDO_LIMITS.rows);
        break;
      case 'offset':
        offset = wholeNumber(name, value);
        break;
      case 'fuzzymatching':
        fuzzyMatchingAsked = flag(name, value);
        break;
      case 'accept':
      case 'charset':
        // How to answer, not what.
        break;
      case 'emptyvaluematching':
      case 'multiplevaluematching':
        if (flag(name, value)) throw new MeshError('INVALID_ARGUMENT', 'QUERY_VALUE_INVALID', `This node does not offer ${name}.`);
        break;
      case 'includefield':
        for (const field of value
          .split(',')
          .map((text) => text.trim())
          .filter((text) => text !== '')) {
          if (field === 'all') includeAll = true;
          else includeTags.add(attribute(field));
        }
        break;
      default:
        addMatch(matches, attribute(name), value, level);
    }
  }
  return { matches, includeAll, includeTags, limit, offset, fuzzyMatchingAsked };
}

/** A date or time, or a range with at least one end. */
export interface ValueRange {
  readonly from?: string;
  readonly to?: string;
  /** A single value, in `from`. */
  readonly exact: boolean;
}

/**
 * A list of UIDs, separated by commas or backslashes (PS3.18 8.3.4.1, PS3.4 C.2.2.2.2).
 * @throws MeshError INVALID_ARGUMENT / QUERY_VALUE_INVALID
 */
export function uidList(tag: string, value: string): string[] {
  const uids = value
    .split(/[,\\]/)
    .map((uid) => uid.trim())
    .filter((uid) => uid !== '');
  if (uids.length > QIDO_LIMITS.uids || uids.some((uid) => !/^[0-9.]{1,64}$/.test(uid)))
    throw invalidValue(tag, 'digits and dots, 1 to 64 characters; several are separated by commas');
  return uids;
}

/**
 * A date or a range of dates (PS3.4 C.2.2.2.5).
 * @throws MeshError INVALID_ARGUMENT / QUERY_VALUE_INVALID
 */
export function dateRange(tag: string, value: string): ValueRange {
  return range(tag, value, /^\d{8}$/, 'a date YYYYMMDD or a range YYYYMMDD-YYYYMMDD');
}

/** A time or a range of times, HH[MM[SS[.FFFFFF]]]; errors as {@link dateRange}. */
export function timeRange(tag: string, value: string): ValueRange {
  return range(tag, value.replaceAll(':', ''), /^\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?$/, 'a time HHMMSS or a range HHMMSS-HHMMSS');
}

/** A whole number key (IS); errors as {@link dateRange}. */
export function integerKey(tag: string, value: string): number {
  if (!/^[+-]?\d{1,9}$/.test(value.trim())) throw invalidValue(tag, 'a whole number');
  return Number(value);
}

function range(tag: string, value: string, shape: RegExp, words: string): ValueRange {
  const [from = '', to = '', ...rest] = value.split('-').map((text) => text.trim());
  const bounds = [from, to].filter((bound) => bound !== '');
  if (rest.length > 0 || bounds.length === 0 || bounds.some((bound) => !shape.test(bound))) throw invalidValue(tag, words);
  return { ...(from === '' ? {} : { from }), ...(to === '' ? {} : { to }), exact: !value.includes('-') };
}

function addMatch(matches: Map<string, string>, tag: string, value: string, level: QidoLevel): void {
  const name = keywordOfTag(tag) ?? tag;
  if (!KEYS[level].has(tag)) {
    throw new MeshError(
      'INVALID_ARGUMENT',
      'ATTRIBUTE_NOT_SEARCHABLE',
      `This node cannot search ${level === 'study' ? 'studies' : level === 'series' ? 'series' : 'instances'} by ${name}.`,
      { details: { attribute: name } },
    );
  }
  if (value.length > QIDO_LIMITS.valueCharacters)
    throw new MeshError('INVALID_ARGUMENT', 'QUERY_TOO_LONG', `The value for ${name} is too long.`, { details: { attribute: name } });
  // An empty value matches everything (PS3.4 C.2.2.2.3).
  if (value.trim() === '') return;
  const before = matches.get(tag);
  const isList = dictionaryEntry(Number.parseInt(tag, 16))?.vr === 'UI' || tag === TAG.ModalitiesInStudy;
  if (before !== undefined && !isList)
    throw new MeshError('INVALID_ARGUMENT', 'QUERY_VALUE_INVALID', `${name} is given twice.`, { details: { attribute: name } });
  matches.set(tag, before === undefined ? value.trim() : `${before},${value.trim()}`);
}

function attribute(id: string): string {
  // A path into a sequence (`00400275.00400009`) names its first element; we search none inside sequences.
  const tag = id.includes('.') ? undefined : tagOfAttributeId(id);
  if (tag !== undefined) return tag;
  throw new MeshError(
    'INVALID_ARGUMENT',
    'ATTRIBUTE_UNKNOWN',
    'The search names an attribute that DICOM does not know. Use a keyword such as PatientID, or a tag such as 00100020.',
    { details: { attribute: id.slice(0, 64) } },
  );
}

function wholeNumber(name: string, value: string): number {
  if (!/^\d{1,9}$/.test(value))
    throw new MeshError('INVALID_ARGUMENT', 'QUERY_VALUE_INVALID', `${name} must be a whole number.`, { details: { attribute: name } });
  return Number(value);
}

function flag(name: string, value: string): boolean {
  if (value === 'true' || value === 'false') return value === 'true';
  throw new MeshError('INVALID_ARGUMENT', 'QUERY_VALUE_INVALID', `${name} must be true or false.`, { details: { attribute: name } });
}

function invalidValue(tag: string, words: string): MeshError {
  const name = keywordOfTag(tag) ?? tag;
  return new MeshError('INVALID_ARGUMENT', 'QUERY_VALUE_INVALID', `The value for ${name} must be ${words}.`, {
    details: { attribute: name },
  });
}
