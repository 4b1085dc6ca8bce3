import { MeshError } from '@meridian/shared/errors';
import type { PatientKey } from '@meridian/shared/generated/meridian/v1/common';
import {
  ConsentServiceService,
  type ConsentServiceServer,
  type ListConsentsResponse,
} from '@meridian/shared/generated/meridian/v1/consent';
import { unaryHandler } from '@meridian/shared/grpc';
import type { NodeId } from '@meridian/shared/identifiers';
import type { Logger } from '@meridian/shared/log';
import type { CallerGate } from '../registry/caller.ts';
import { addNotices } from '../registry/notices.ts';
import type { IndexConnection, IndexDatabase } from '../tables.ts';
import { statementsOf } from './decide.ts';
import { recordConsent, type RecordConsentParts } from './record-consent.ts';

const MAX_PATIENT_KEYS = 16;
/** A feed group of many patients asks for their statements in steps. */
const KEYS_OF_A_STEP = 256;

/** The consent RPCs. */
export function consentService(parts: RecordConsentParts & { readonly gate: CallerGate; readonly log: Logger }): {
  definition: typeof ConsentServiceService;
  implementation: ConsentServiceServer;
} {
  const { gate, log } = parts;
  return {
    definition: ConsentServiceService,
    implementation: {
      recordConsent: unaryHandler({
        log,
        authenticate: gate.authenticate,
        handle: (request, { caller }) => recordConsent(parts, request, caller.nodeId),
      }),
      listConsents: unaryHandler({
        log,
        authenticate: gate.authenticate,
        handle: (request) => listConsents(parts.database, request.patientKeys),
      }),
    },
  };
}

/** The 32-byte keys of a request. @throws MeshError INVALID_ARGUMENT / PATIENT_KEY_INVALID */
export function patientKeysOfRequest(keys: readonly PatientKey[]): Buffer[] {
  if (keys.length > 0 && keys.length <= MAX_PATIENT_KEYS && keys.every(({ key }) => key.length === 32)) return keys.map(({ key }) => key);
  throw new MeshError('INVALID_ARGUMENT', 'PATIENT_KEY_INVALID', `A request names 1 to ${MAX_PATIENT_KEYS} patient keys of 32 bytes.`);
}

/**
 * Tells a holder the statements about persons of whose studies it has just become a holder, so that it knows a revocation
 * that was signed before the study arrived. Each statement is told once to each node.
 * @returns whether there was anything to tell.
 */
export async function tellNewHolder(
  database: IndexDatabase,
  holder: { readonly nodeId: NodeId; readonly patientKeys: readonly Uint8Array[]; readonly atEpochMs: number },
): Promise<boolean> {
  const keys = [...new Map(holder.patientKeys.map((key) => [Buffer.from(key).toString('hex'), Buffer.from(key)])).values()];
  let told = false;
  for (let start = 0; start < keys.length; start += KEYS_OF_A_STEP) {
    const step = keys.slice(start, start + KEYS_OF_A_STEP);
    if ((await untold(database.read, holder.nodeId, step)).length === 0) continue;
    told = true;
    await database.write.transaction().execute(async (transaction) => {
      // Asked again inside the transaction: another call may have told it meanwhile.
      for (const { hash, compact } of await untold(transaction, holder.nodeId, step)) {
        await addNotices(transaction, {
          nodeIds: [holder.nodeId],
          kind: 'consent',
          subject: hash,
          payload: Buffer.from(compact, 'utf8'),
          atEpochMs: holder.atEpochMs,
        });
      }
    });
  }
  return told;
}

async function untold(connection: IndexConnection, nodeId: NodeId, keys: readonly Buffer[]): Promise<{ hash: string; compact: string }[]> {
  return connection
    .selectFrom('consent_patient')
    .innerJoin('consent', 'consent.hash', 'consent_patient.consent_hash')
    .select(['consent.hash', 'consent.compact'])
    .distinct()
    .where('consent_patient.patient_key', 'in', [...keys])
    .where('consent.writer', '!=', nodeId)
    .where((where) =>
      where.not(
        where.exists(
          where
            .selectFrom('notice')
            .select('notice.seq')
            .where('notice.node_id', '=', nodeId)
            .whereRef('notice.subject', '=', 'consent.hash'),
        ),
      ),
    )
    .execute();
}

async function listConsents(database: IndexDatabase, keys: readonly PatientKey[]): Promise<ListConsentsResponse> {
  const byKey = await statementsOf(database.read, patientKeysOfRequest(keys));
  const compacts = new Set([...byKey.values()].flat().map(({ compact }) => compact));
  return { statements: [...compacts].map((compact) => ({ compact })) };
}
