import type { SelectQueryBuilder } from 'kysely';
import { MeshError } from '@meridian/shared/errors';
import { MANIFEST_COLUMNS, visibleStudies, type StudyRow } from '../manifests/studies.ts';
import type { IndexConnection, IndexTables } from '../tables.ts';

/** A page ends early rather than fill the channel with large manifests. */
const MAX_PAGE_BYTES = 8 * 1024 * 1024;

/** Place of an entry in the order: newest first, then by UID, then by holder. */
export interface Place {
  readonly sortKey: string;
  readonly studyInstanceUid: string;
  readonly custodianNode: string;
}

/** Which page is wanted. */
export interface PageRequest {
  readonly patientKeys: readonly Buffer[];
  /** The last entry of the page before. */
  readonly after: Place | undefined;
  readonly limit: number;
}

/** One page of a history, each study once however many of the keys name it. */
export interface Page {
  readonly rows: readonly StudyRow[];
  readonly next: Place | undefined;
}

/** Rows of a page and one more, found by the patient keys alone: the cost grows with the person's studies, not with the nation's. */
export function historyQuery(connection: IndexConnection, page: PageRequest): SelectQueryBuilder<IndexTables, 'study', StudyRow> {
  const { after } = page;
  return (
    visibleStudies(connection)
      .select(MANIFEST_COLUMNS)
      .where('patient_key', 'in', [...page.patientKeys])
      .$if(after !== undefined, (query) =>
        query.where((where) => {
          const { sortKey, studyInstanceUid, custodianNode } = after as Place;
          return where.or([
            where('sort_key', '<', sortKey),
            where.and([where('sort_key', '=', sortKey), where('study_instance_uid', '>', studyInstanceUid)]),
            where.and([
              where('sort_key', '=', sortKey),
              where('study_instance_uid', '=', studyInstanceUid),
              where('custodian_node', '>', custodianNode),
            ]),
          ]);
        }),
      )
      .orderBy('sort_key', 'desc')
      .orderBy('study_instance_uid')
      .orderBy('custodian_node')
      // A study under two of the keys comes twice, side by side.
      .limit(page.limit * page.patientKeys.length + 1)
  );
}

/** Reads one page. */
export async function historyPage(connection: IndexConnection, page: PageRequest): Promise<Page> {
  const found = await historyQuery(connection, page).execute();
  const rows: StudyRow[] = [];
  let bytes = 0;
  for (const row of found) {
    const last = rows.at(-1);
    if (last !== undefined && last.study_instance_uid === row.study_instance_uid && last.custodian_node === row.custodian_node) continue;
    bytes += row.payload.length;
    if (last !== undefined && (rows.length >= page.limit || bytes > MAX_PAGE_BYTES)) {
      return { rows, next: { sortKey: last.sort_key, studyInstanceUid: last.study_instance_uid, custodianNode: last.custodian_node } };
    }
    rows.push(row);
  }
  return { rows, next: undefined };
}

/** A place as the token of the next page. */
export function tokenOf(place: Place): string {
  return Buffer.from(JSON.stringify([place.sortKey, place.studyInstanceUid, place.custodianNode])).toString('base64url');
}

/** The place that a token names. @throws MeshError INVALID_ARGUMENT / PAGE_TOKEN_INVALID */
export function placeOf(token: string): Place | undefined {
  if (token === '') return undefined;
  try {
    const parsed: unknown = JSON.parse(Buffer.from(token, 'base64url').toString('utf8'));
    if (!Array.isArray(parsed) || parsed.length !== 3 || !parsed.every((part): part is string => typeof part === 'string'))
      throw new Error('not three texts');
    const [sortKey, studyInstanceUid, custodianNode] = parsed as [string, string, string];
    return { sortKey, studyInstanceUid, custodianNode };
  } catch (cause) {
    throw new MeshError(
      'INVALID_ARGUMENT',
      'PAGE_TOKEN_INVALID',
      'This page token is none that the index gave out. Begin with the first page.',
      { cause },
    );
  }
}
