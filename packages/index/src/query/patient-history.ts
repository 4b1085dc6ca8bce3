import type { AuditLog } from '@meridian/shared/audit-log';
import { MeshError } from '@meridian/shared/errors';
import { ConsentOutlook, QueryServiceService, type HistoryEntry, type PatientHistoryRequest, type PatientHistoryResponse, type QueryServiceServer } from '@meridian/shared/generated/meridian/v1/query';
import { unaryHandler } from '@meridian/shared/grpc';
import type { NodeId } from '@meridian/shared/identifiers';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import { patientKeysOfRequest } from '../consent/consent-service.ts';
import { decide, purposeOf, statementsOf } from '../consent/decide.ts';
import { feedStates } from '../manifests/feeds.ts';
import { MANIFEST_COLUMNS, scopeOf, signedManifestOf, visibleStudies, type StudyRow } from '../manifests/studies.ts';
import type { Caller, CallerGate } from '../registry/caller.ts';
import type { TrustKeeper } from '../registry/trust-keeper.ts';
import type { IndexConnection, IndexDatabase } from '../tables.ts';
import { coverageOf } from './coverage.ts';

/** Parts of the query service. */
export interface QueryParts {
  readonly database: IndexDatabase;
  readonly keeper: TrustKeeper;
  readonly gate: CallerGate;
  readonly audit: AuditLog;
  readonly clock: Clock;
  readonly log: Logger;
}

const DEFAULT_PAGE_SIZE = 100;
const MAX_PAGE_SIZE = 500;
/** A page ends early rather than fill the channel with large manifests. */
const MAX_PAGE_BYTES = 8 * 1024 * 1024;
const MAX_SUBJECT_LENGTH = 128;

/** Place of an entry in the order: newest first, then by UID, then by holder. */
interface Place {
  readonly sortKey: string;
  readonly studyInstanceUid: string;
  readonly custodianNode: string;
}

/** The query RPC. */
export function queryService(parts: QueryParts): { definition: typeof QueryServiceService; implementation: QueryServiceServer } {
  return {
    definition: QueryServiceService,
    implementation: { patientHistory: unaryHandler({ log: parts.log, authenticate: parts.gate.authenticate, handle: (request, { caller }) => patientHistory(parts, request, caller) }) },
  };
}

/**
 * Every study that the index knows of a person, newest first, the asking node's own included, with what a grant would
 * meet and how current each member's entries are.
 * @throws MeshError INVALID_ARGUMENT / PATIENT_KEY_INVALID | PURPOSE_UNKNOWN | PAGE_TOKEN_INVALID | SUBJECT_INVALID,
 *   RESOURCE_EXHAUSTED / AUDIT_UNWRITABLE
 */
async function patientHistory(parts: QueryParts, request: PatientHistoryRequest, caller: Caller): Promise<PatientHistoryResponse> {
  const { database, keeper, audit, clock } = parts;
  const patientKeys = patientKeysOfRequest(request.patientKeys);
  const purpose = purposeOf(request.purposeOfUse);
  if (request.subject.length > MAX_SUBJECT_LENGTH) throw new MeshError('INVALID_ARGUMENT', 'SUBJECT_INVALID', `The pseudonym of the person who asks is at most ${MAX_SUBJECT_LENGTH} characters.`);
  const limit = Math.min(request.pageSize === 0 ? DEFAULT_PAGE_SIZE : request.pageSize, MAX_PAGE_SIZE);
  const page = await pageOf(database.read, { patientKeys, after: placeOf(request.pageToken), limit });
  const statements = await statementsOf(database.read, patientKeys);
  const atEpochMs = clock.now();
  const entries = page.rows.map(({ row, patientKeys: keys }): HistoryEntry => {
    const holder = keeper.view().entries.get(row.custodian_node as NodeId);
    const own = row.custodian_node === caller.nodeId;
    const decision = own ? { allow: true as const } : decide({ statements, study: scopeOf(row, keys), askingNode: caller.nodeId, purpose, atEpochMs });
    return {
      manifest: signedManifestOf(row),
      custodianNode: row.custodian_node,
      custodianName: holder?.name ?? '',
      receivedAtEpochMs: BigInt(row.received_at),
      consent: decision.allow ? ConsentOutlook.CONSENT_OUTLOOK_ALLOWED : ConsentOutlook.CONSENT_OUTLOOK_REFUSED,
      consentReason: decision.allow ? '' : decision.reason,
    };
  });
  const coverage = coverageOf(keeper.view().entries.values(), await feedStates(database.read), atEpochMs);
  await audit.append({ type: 'QUERY', peer: caller.nodeId, subject: request.subject, detail: { purpose, entries: entries.length } });
  return { entries, nextPageToken: page.next === undefined ? '' : tokenOf(page.next), coverage, answeredAtEpochMs: BigInt(atEpochMs) };
}

interface Page {
  readonly rows: readonly { readonly row: StudyRow; readonly patientKeys: readonly string[] }[];
  readonly next: Place | undefined;
}

async function pageOf(connection: IndexConnection, page: { readonly patientKeys: readonly Buffer[]; readonly after: Place | undefined; readonly limit: number }): Promise<Page> {
  const { after } = page;
  const found = await visibleStudies(connection)
    .select(MANIFEST_COLUMNS)
    .where('patient_key', 'in', [...page.patientKeys])
    .$if(after !== undefined, (query) =>
      query.where((where) => {
        const { sortKey, studyInstanceUid, custodianNode } = after as Place;
        return where.or([
          where('sort_key', '<', sortKey),
          where.and([where('sort_key', '=', sortKey), where('study_instance_uid', '>', studyInstanceUid)]),
          where.and([where('sort_key', '=', sortKey), where('study_instance_uid', '=', studyInstanceUid), where('custodian_node', '>', custodianNode)]),
        ]);
      }))
    .orderBy('sort_key', 'desc')
    .orderBy('study_instance_uid')
    .orderBy('custodian_node')
    // A study under two of the keys comes twice, side by side.
    .limit(page.limit * page.patientKeys.length + 1)
    .execute();
  const rows: { row: StudyRow; patientKeys: string[] }[] = [];
  let bytes = 0;
  for (const row of found) {
    const last = rows.at(-1);
    if (last !== undefined && last.row.study_instance_uid === row.study_instance_uid && last.row.custodian_node === row.custodian_node) {
      last.patientKeys.push(row.patient_key.toString('hex'));
      continue;
    }
    bytes += row.payload.length;
    if (last !== undefined && (rows.length >= page.limit || bytes > MAX_PAGE_BYTES)) {
      return { rows, next: { sortKey: last.row.sort_key, studyInstanceUid: last.row.study_instance_uid, custodianNode: last.row.custodian_node } };
    }
    rows.push({ row, patientKeys: [row.patient_key.toString('hex')] });
  }
  return { rows, next: undefined };
}

function tokenOf(place: Place): string {
  return Buffer.from(JSON.stringify([place.sortKey, place.studyInstanceUid, place.custodianNode])).toString('base64url');
}

function placeOf(token: string): Place | undefined {
  if (token === '') return undefined;
  try {
    const parsed: unknown = JSON.parse(Buffer.from(token, 'base64url').toString('utf8'));
    if (!Array.isArray(parsed) || parsed.length !== 3 || !parsed.every((part): part is string => typeof part === 'string')) throw new Error('not three texts');
    const [sortKey, studyInstanceUid, custodianNode] = parsed as [string, string, string];
    return { sortKey, studyInstanceUid, custodianNode };
  } catch (cause) {
    throw new MeshError('INVALID_ARGUMENT', 'PAGE_TOKEN_INVALID', 'This page token is none that the index gave out. Begin with the first page.', { cause });
  }
}
