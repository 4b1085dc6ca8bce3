import type { AuditLog } from '@meridian/shared/audit-log';
import { openConsent, readConsent, type ConsentStatement } from '@meridian/shared/consent';
import { MeshError } from '@meridian/shared/errors';
import type { RecordConsentRequest, RecordConsentResponse } from '@meridian/shared/generated/meridian/v1/consent';
import { NodeStatus } from '@meridian/shared/generated/meridian/v1/trust';
import type { NodeId } from '@meridian/shared/identifiers';
import type { Clock } from '@meridian/shared/platform/clock';
import { signingKeysOf } from '@meridian/shared/trust-list';
import type { AttemptLimit } from '../registry/attempts.ts';
import { addNotices } from '../registry/notices.ts';
import type { TrustKeeper } from '../registry/trust-keeper.ts';
import type { IndexDatabase, IndexTransaction } from '../tables.ts';

/** Parts of {@link recordConsent}. */
export interface RecordConsentParts {
  readonly database: IndexDatabase;
  readonly keeper: TrustKeeper;
  readonly audit: AuditLog;
  readonly clock: Clock;
  /** New statements that a node may hand in; what closes access has a budget that no opening uses up. */
  readonly statements: { readonly opening: AttemptLimit; readonly closing: AttemptLimit };
  /** Called after a statement was stored with notices for the nodes that it concerns. */
  readonly onNotices: () => void;
}

/**
 * Stores a signed statement and tells the nodes that it concerns. Any member may hand on what another has signed.
 * @throws MeshError INVALID_ARGUMENT / CONSENT_MALFORMED, UNAUTHENTICATED / CONSENT_SIGNATURE, PERMISSION_DENIED /
 *   CONSENT_SIGNER_UNKNOWN | CONSENT_FOREIGN_WRITER, FAILED_PRECONDITION / CONSENT_SEQ_REUSED,
 *   RESOURCE_EXHAUSTED / TOO_MANY_ATTEMPTS
 */
export async function recordConsent(
  parts: RecordConsentParts,
  request: RecordConsentRequest,
  caller: NodeId,
): Promise<RecordConsentResponse> {
  const statement = checkStatement(parts, request.statement?.compact ?? '');
  const answer: RecordConsentResponse = { consentHash: Buffer.from(statement.hash, 'hex') };
  const held = await parts.database.read.selectFrom('consent').select('hash').where('hash', '=', statement.hash).executeTakeFirst();
  if (held !== undefined) return answer;
  (statement.status === 'active' ? parts.statements.opening : parts.statements.closing).count(caller);
  const auditEvent = {
    type: statement.status === 'active' ? 'CONSENT' : 'REVOKE',
    peer: statement.writer,
    detail: { consentHash: statement.hash, status: statement.status, relayedBy: caller },
  } as const;
  // What opens is audited before it counts; what closes counts even if the audit cannot be written.
  if (statement.status === 'active') await parts.audit.append(auditEvent);
  await store(parts, statement, caller);
  parts.onNotices();
  if (statement.status !== 'active') await parts.audit.append(auditEvent);
  return answer;
}

function checkStatement(parts: RecordConsentParts, compact: string): ConsentStatement {
  const { writer, issuedAtEpochMs, status } = readConsent(compact);
  const entry = parts.keeper.view().entries.get(writer);
  // A suspended hospital may still close access, never open it.
  const maySign =
    entry !== undefined &&
    (entry.status === NodeStatus.NODE_STATUS_ACTIVE || (entry.status === NodeStatus.NODE_STATUS_SUSPENDED && status !== 'active'));
  if (!maySign)
    throw new MeshError(
      'PERMISSION_DENIED',
      'CONSENT_SIGNER_UNKNOWN',
      'The node that signed this consent statement is no active member of the federation.',
    );
  // A key that was replaced may still close what it opened; by the index's clock, it opens nothing new.
  return openConsent(compact, signingKeysOf(entry, status === 'active' ? parts.clock.now() : issuedAtEpochMs));
}

async function store(parts: RecordConsentParts, statement: ConsentStatement, caller: NodeId): Promise<void> {
  const atEpochMs = parts.clock.now();
  await parts.database.write.transaction().execute(async (transaction) => {
    await refuseConflicts(transaction, statement);
    const { numInsertedOrUpdatedRows } = await transaction
      .insertInto('consent')
      .values({
        hash: statement.hash,
        compact: statement.compact,
        writer: statement.writer,
        seq: statement.seq,
        consent_id: statement.consentId,
        status: statement.status,
        issued_at: statement.issuedAtEpochMs,
        received_at: atEpochMs,
      })
      .onConflict((conflict) => conflict.column('hash').doNothing())
      .executeTakeFirst();
    // The same statement on two calls at once: the other one told everybody.
    if (numInsertedOrUpdatedRows === 0n) return;
    const keys = patientKeysOf(statement);
    for (const patient_key of keys) {
      await transaction
        .insertInto('consent_patient')
        .values({ patient_key, consent_hash: statement.hash })
        .onConflict((conflict) => conflict.doNothing())
        .execute();
    }
    const nodeIds = await concernedNodes(transaction, statement, keys);
    nodeIds.delete(caller);
    await addNotices(transaction, {
      nodeIds,
      kind: 'consent',
      subject: statement.hash,
      payload: Buffer.from(statement.compact, 'utf8'),
      atEpochMs,
    });
  });
}

async function refuseConflicts(transaction: IndexTransaction, statement: ConsentStatement): Promise<void> {
  const sameNumber = await transaction
    .selectFrom('consent')
    .select('hash')
    .where('writer', '=', statement.writer)
    .where('seq', '=', statement.seq)
    .executeTakeFirst();
  if (sameNumber !== undefined && sameNumber.hash !== statement.hash) {
    throw new MeshError(
      'FAILED_PRECONDITION',
      'CONSENT_SEQ_REUSED',
      'The writer of this statement has used its number for another one. A node restored from a backup must go on after the highest number that the index holds.',
      { details: { seq: String(statement.seq) } },
    );
  }
  if (statement.status !== 'active') return;
  const foreign = await transaction
    .selectFrom('consent')
    .select('hash')
    .where('consent_id', '=', statement.consentId)
    .where('status', '=', 'active')
    .where('writer', '!=', statement.writer)
    .executeTakeFirst();
  if (foreign === undefined) return;
  throw new MeshError(
    'PERMISSION_DENIED',
    'CONSENT_FOREIGN_WRITER',
    'Only the hospital that recorded a consent may widen or renew it. Record a new one; any hospital may withdraw it.',
  );
}

/** Holders of the person's studies, those who fetched them, those who were granted something under this consent, the writer and the grantee. */
async function concernedNodes(transaction: IndexTransaction, statement: ConsentStatement, keys: readonly Buffer[]): Promise<Set<string>> {
  const nodeIds = new Set<string>([statement.writer]);
  if (statement.provision.grantee.kind === 'hospital') nodeIds.add(statement.provision.grantee.nodeId);
  const holders = await transaction
    .selectFrom('study')
    .select('custodian_node')
    .distinct()
    .where('patient_key', 'in', [...keys])
    .execute();
  for (const { custodian_node } of holders) nodeIds.add(custodian_node);
  const recipients = await transaction
    .selectFrom('study')
    .innerJoin('study_recipient', (join) =>
      join
        .onRef('study_recipient.study_instance_uid', '=', 'study.study_instance_uid')
        .onRef('study_recipient.custodian_node', '=', 'study.custodian_node'),
    )
    .select('study_recipient.node_id')
    .distinct()
    .where('study.patient_key', 'in', [...keys])
    .execute();
  const users = await transaction.selectFrom('consent_use').select('node_id').where('consent_id', '=', statement.consentId).execute();
  for (const { node_id } of [...recipients, ...users]) nodeIds.add(node_id);
  return nodeIds;
}

function patientKeysOf(statement: ConsentStatement): Buffer[] {
  return statement.patientKeys.map(({ key }) => Buffer.from(key, 'base64url'));
}
