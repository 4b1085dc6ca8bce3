import type { AuditLog } from '@meridian/shared/audit-log';
import { MeshError } from '@meridian/shared/errors';
import {
  ConsentOutlook,
  QueryServiceService,
  type HistoryEntry,
  type PatientHistoryRequest,
  type PatientHistoryResponse,
  type QueryServiceServer,
} from '@meridian/shared/generated/meridian/v1/query';
import { unaryHandler } from '@meridian/shared/grpc';
import type { NodeId } from '@meridian/shared/identifiers';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import { patientKeysOfRequest } from '../consent/consent-service.ts';
import { decide, purposeOf, statementsOf } from '../consent/decide.ts';
import { feedStates } from '../manifests/feeds.ts';
import { patientKeysOfStudies, scopeOf, signedManifestOf, studyAt } from '../manifests/studies.ts';
import type { Caller, CallerGate } from '../registry/caller.ts';
import type { TrustKeeper } from '../registry/trust-keeper.ts';
import type { IndexDatabase } from '../tables.ts';
import { coverageOf } from './coverage.ts';
import { historyPage, placeOf, tokenOf } from './history-page.ts';

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
const MAX_SUBJECT_LENGTH = 128;

/** The query RPC. */
export function queryService(parts: QueryParts): { definition: typeof QueryServiceService; implementation: QueryServiceServer } {
  return {
    definition: QueryServiceService,
    implementation: {
      patientHistory: unaryHandler({
        log: parts.log,
        authenticate: parts.gate.authenticate,
        handle: (request, { caller }) => patientHistory(parts, request, caller),
      }),
    },
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
  if (request.subject.length > MAX_SUBJECT_LENGTH)
    throw new MeshError(
      'INVALID_ARGUMENT',
      'SUBJECT_INVALID',
      `The pseudonym of the person who asks is at most ${MAX_SUBJECT_LENGTH} characters.`,
    );
  const limit = Math.min(request.pageSize === 0 ? DEFAULT_PAGE_SIZE : request.pageSize, MAX_PAGE_SIZE);
  const page = await historyPage(database.read, { patientKeys, after: placeOf(request.pageToken), limit });
  const allKeys = await patientKeysOfStudies(database.read, page.rows);
  const statements = await statementsOf(
    database.read,
    [...new Set([...allKeys.values()].flat())].map((key) => Buffer.from(key, 'hex')),
  );
  const atEpochMs = clock.now();
  const entries = page.rows.map((row): HistoryEntry => {
    const holder = keeper.view().entries.get(row.custodian_node as NodeId);
    const own = row.custodian_node === caller.nodeId;
    const decision = own
      ? { allow: true as const }
      : decide({ statements, study: scopeOf(row, allKeys.get(studyAt(row)) ?? []), askingNode: caller.nodeId, purpose, atEpochMs });
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
