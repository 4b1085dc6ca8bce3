import type { AuditLog } from '@meridian/shared/audit-log';
import { MeshError } from '@meridian/shared/errors';
import type { RenewRequest, RenewResponse } from '@meridian/shared/generated/meridian/v1/enrolment';
import { NodeStatus } from '@meridian/shared/generated/meridian/v1/trust';
import type { NodeId } from '@meridian/shared/identifiers';
import type { Clock } from '@meridian/shared/platform/clock';
import { renewProofBytes, verifyEd25519 } from '@meridian/shared/signed-object';
import type { IndexDatabase } from '../tables.ts';
import type { AttemptLimit } from './attempts.ts';
import type { CertificateAuthority } from './certificate-authority.ts';
import { recordCertificate, refuseForeignKeys } from './certificates.ts';
import type { TrustKeeper } from './trust-keeper.ts';

/** How far the clocks of node and index may differ. */
const CLOCK_TOLERANCE_MS = 5 * 60_000;
/** A node that was off longer joins again. */
const LAPSED_LIMIT_MS = 90 * 24 * 3_600_000;

/**
 * A new certificate for an active node, proven by its signing key; its old certificate may have run out up to 90 days ago.
 * @throws MeshError UNAUTHENTICATED / PROOF_INVALID | CLOCK_SKEW, PERMISSION_DENIED / NODE_NOT_ACTIVE,
 *   RESOURCE_EXHAUSTED / TOO_MANY_ATTEMPTS
 */
export async function renew(
  parts: {
    readonly database: IndexDatabase;
    readonly authority: CertificateAuthority;
    readonly keeper: TrustKeeper;
    readonly audit: AuditLog;
    readonly clock: Clock;
    readonly renewals: AttemptLimit;
  },
  request: RenewRequest,
): Promise<RenewResponse> {
  const { database, authority, keeper, audit, clock } = parts;
  const entry = keeper.view().entries.get(request.nodeId as NodeId);
  const signed = renewProofBytes({
    nodeId: request.nodeId,
    atEpochMs: request.atEpochMs,
    certificateSigningRequest: request.certificateSigningRequest,
  });
  // An unknown node and a wrong signature get the same answer.
  if (entry === undefined || !verifyEd25519(entry.signingPublicKey, signed, request.signingProof)) {
    throw new MeshError('UNAUTHENTICATED', 'PROOF_INVALID', 'The request is not signed by the signing key of this node.');
  }
  const nodeId = entry.nodeId as NodeId;
  parts.renewals.count(nodeId);
  if (Math.abs(Number(request.atEpochMs) - clock.now()) > CLOCK_TOLERANCE_MS) {
    throw new MeshError(
      'UNAUTHENTICATED',
      'CLOCK_SKEW',
      'The clock of this node is more than five minutes off. Set it (NTP) and renew again.',
      { details: { indexEpochMs: String(clock.now()) } },
    );
  }
  const hospital = await database.read.selectFrom('hospital').select('certified_until').where('node_id', '=', nodeId).executeTakeFirst();
  if (entry.status !== NodeStatus.NODE_STATUS_ACTIVE || (hospital?.certified_until ?? 0) + LAPSED_LIMIT_MS < clock.now()) {
    throw new MeshError(
      'PERMISSION_DENIED',
      'NODE_NOT_ACTIVE',
      'This node is not active, or was away for more than 90 days. Ask the operator of the index for a new join code.',
    );
  }
  const certificate = await authority.issueNodeCertificate({
    nodeId,
    peerId: entry.peerId,
    certificateSigningRequest: request.certificateSigningRequest,
    nowEpochMs: clock.now(),
  });
  await keeper.change(async (transaction) => {
    await refuseForeignKeys(transaction, {
      nodeId,
      peerId: entry.peerId,
      signingPublicKey: entry.signingPublicKey,
      spkiSha256: certificate.spkiSha256,
    });
    await recordCertificate(transaction, nodeId, certificate, clock.now());
    await audit.append({ type: 'CERT', peer: nodeId, reason: 'RENEWED', detail: { serial: certificate.serial } });
    return { changed: [nodeId], result: undefined };
  });
  return { certificateChain: [...certificate.chain] };
}
