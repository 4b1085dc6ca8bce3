import type { AuditLog } from '@meridian/shared/audit-log';
import { MeshError } from '@meridian/shared/errors';
import { JoinRequest, type JoinResponse } from '@meridian/shared/generated/meridian/v1/enrolment';
import { peerIdOf, sha256, type NodeId } from '@meridian/shared/identifiers';
import type { Clock } from '@meridian/shared/platform/clock';
import { joinProofBytes, verifyEd25519 } from '@meridian/shared/signed-object';
import type { IndexDatabase, IndexTransaction } from '../tables.ts';
import { checkAddresses } from './addresses.ts';
import type { CertificateAuthority, IssuedCertificate } from './certificate-authority.ts';
import { recordCertificate, refuseForeignKeys } from './certificates.ts';
import type { TrustKeeper } from './trust-keeper.ts';

/** What a joining node is told beside its certificate. */
export interface JoinWelcome {
  /** host:port of the mutual-TLS listener. */
  readonly indexAddress: string;
  readonly indexSigningPublicKey: Uint8Array;
  readonly evaluator: { readonly publicKey: Uint8Array; readonly epoch: string };
}

/** Parts of {@link join}. */
export interface JoinParts {
  readonly database: IndexDatabase;
  readonly authority: CertificateAuthority;
  readonly keeper: TrustKeeper;
  readonly audit: AuditLog;
  readonly clock: Clock;
  readonly welcome: () => JoinWelcome;
}

interface CodeRow {
  readonly node_id: string;
  readonly expires_at: number;
  readonly used_at: number | null;
  readonly request_sha256: Buffer | null;
}

/**
 * Trades a one-time code for a certificate. Of several nodes with one code exactly one wins; the winner's own request,
 * sent again because the answer was lost, is answered again.
 * @throws MeshError UNAUTHENTICATED / JOIN_CODE_UNKNOWN | JOIN_CODE_USED | JOIN_CODE_EXPIRED, INVALID_ARGUMENT / PROOF_INVALID
 */
export async function join(parts: JoinParts, request: JoinRequest): Promise<JoinResponse> {
  const { database, authority, keeper, audit, clock } = parts;
  const code = request.code.trim().toUpperCase();
  const codeSha256 = sha256(code);
  const requestSha256 = sha256(JoinRequest.encode({ ...request, addresses: [], aeTitle: '' }).finish());
  const row = await database.read
    .selectFrom('join_code')
    .select(['node_id', 'expires_at', 'used_at', 'request_sha256'])
    .where('code_sha256', '=', codeSha256)
    .executeTakeFirst();
  checkCode(row, requestSha256, clock.now());
  const addresses = checkAddresses(request.addresses);
  checkProofs(request, code);
  const nodeId = row.node_id as NodeId;
  const certificate = await authority.issueNodeCertificate({
    nodeId,
    peerId: request.peerId,
    certificateSigningRequest: request.certificateSigningRequest,
    nowEpochMs: clock.now(),
  });

  const hospitalName = await keeper.change(async (transaction) => {
    await claimCode(transaction, { codeSha256, requestSha256, atEpochMs: clock.now() });
    await refuseForeignKeys(transaction, {
      nodeId,
      peerId: request.peerId,
      signingPublicKey: request.signingPublicKey,
      spkiSha256: certificate.spkiSha256,
    });
    const name = await enrol(transaction, { nodeId, request, addresses, certificate, atEpochMs: clock.now() });
    await audit.append({ type: 'CERT', peer: nodeId, reason: 'JOINED', detail: { serial: certificate.serial } });
    return { changed: [nodeId], result: name };
  });
  const { indexAddress, indexSigningPublicKey, evaluator } = parts.welcome();
  const { head, segments } = keeper.view();
  return {
    nodeId,
    hospitalName,
    certificateChain: [...certificate.chain],
    indexAddress,
    trustList: { head, segments: [...segments] },
    indexSigningPublicKey: Buffer.from(indexSigningPublicKey),
    evaluatorPublicKey: Buffer.from(evaluator.publicKey),
    evaluatorEpoch: evaluator.epoch,
  };
}

function checkCode(row: CodeRow | undefined, requestSha256: Buffer, nowEpochMs: number): asserts row is CodeRow {
  if (row === undefined)
    throw new MeshError(
      'UNAUTHENTICATED',
      'JOIN_CODE_UNKNOWN',
      'The index knows no such join code. Copy the link whole; if a newer one was made, only that one works.',
    );
  if (row.used_at !== null && row.request_sha256?.equals(requestSha256) !== true) throw codeUsed();
  if (row.expires_at <= nowEpochMs)
    throw new MeshError(
      'UNAUTHENTICATED',
      'JOIN_CODE_EXPIRED',
      'The join code has run out: it is good for 72 hours. Ask the operator of the index for a new one.',
    );
}

function checkProofs(request: JoinRequest, code: string): void {
  const signed = joinProofBytes(code, request.certificateSigningRequest);
  const proven =
    verifyEd25519(request.signingPublicKey, signed, request.signingProof) &&
    verifyEd25519(request.peerPublicKey, signed, request.peerProof) &&
    request.peerId === peerIdOf(request.peerPublicKey) &&
    !request.signingPublicKey.equals(request.peerPublicKey) &&
    request.aeTitle.length <= 16;
  if (!proven)
    throw new MeshError(
      'INVALID_ARGUMENT',
      'PROOF_INVALID',
      'The request does not prove that its keys are held by the one who asks. The code was not used up; join again with this program.',
    );
}

/** One statement decides between nodes that present the same code at the same time. */
async function claimCode(
  transaction: IndexTransaction,
  claim: { readonly codeSha256: Buffer; readonly requestSha256: Buffer; readonly atEpochMs: number },
): Promise<void> {
  const { numUpdatedRows } = await transaction
    .updateTable('join_code')
    .set({ used_at: claim.atEpochMs, request_sha256: claim.requestSha256 })
    .where('code_sha256', '=', claim.codeSha256)
    .where((where) => where.or([where('used_at', 'is', null), where('request_sha256', '=', claim.requestSha256)]))
    .executeTakeFirst();
  if (numUpdatedRows !== 1n) throw codeUsed();
}

async function enrol(
  transaction: IndexTransaction,
  node: {
    readonly nodeId: NodeId;
    readonly request: JoinRequest;
    readonly addresses: readonly string[];
    readonly certificate: IssuedCertificate;
    readonly atEpochMs: number;
  },
): Promise<string> {
  const { nodeId, request, atEpochMs } = node;
  const before = await transaction
    .selectFrom('hospital')
    .select(['name', 'status', 'signing_public_key'])
    .where('node_id', '=', nodeId)
    .executeTakeFirstOrThrow();
  if (before.status === 'revoked')
    throw new MeshError(
      'PERMISSION_DENIED',
      'NODE_NOT_ACTIVE',
      'This hospital was removed from the federation. Ask the operator of the index.',
    );
  const former = before.signing_public_key;
  if (former !== null && !former.equals(request.signingPublicKey)) {
    await transaction
      .insertInto('former_signing_key')
      .values({ node_id: nodeId, public_key: former, until: atEpochMs })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
    // The old machine is out: its certificates leave the list with its key.
    await transaction.deleteFrom('node_certificate').where('node_id', '=', nodeId).execute();
  }
  await transaction
    .updateTable('hospital')
    .set({
      status: before.status === 'suspended' ? 'suspended' : 'active',
      peer_id: request.peerId,
      signing_public_key: request.signingPublicKey,
      addresses: JSON.stringify(node.addresses),
      ae_title: request.aeTitle,
      joined_at: atEpochMs,
    })
    .where('node_id', '=', nodeId)
    .execute();
  await recordCertificate(transaction, nodeId, node.certificate, atEpochMs);
  return before.name;
}

function codeUsed(): MeshError {
  return new MeshError(
    'UNAUTHENTICATED',
    'JOIN_CODE_USED',
    'This join code was used already, by another node or another installation. Ask the operator of the index for a new one, and tell them if you did not use it.',
  );
}
