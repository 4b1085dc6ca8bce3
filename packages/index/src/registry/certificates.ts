import { MeshError } from '@meridian/shared/errors';
import type { NodeId } from '@meridian/shared/identifiers';
import type { IndexDatabase, IndexTransaction } from '../tables.ts';
import type { IssuedCertificate } from './certificate-authority.ts';
import type { TrustKeeper } from './trust-keeper.ts';

/** Keys in force at once: one a renewal every 4–5 days needs two. */
const MAX_CERTIFICATES_IN_FORCE = 16;

/**
 * Notes a certificate; its key stands in the trust list until it runs out.
 * @throws MeshError RESOURCE_EXHAUSTED / TOO_MANY_CERTIFICATES
 */
export async function recordCertificate(
  transaction: IndexTransaction,
  nodeId: NodeId,
  certificate: IssuedCertificate,
  atEpochMs: number,
): Promise<void> {
  await transaction.deleteFrom('node_certificate').where('node_id', '=', nodeId).where('not_after', '<=', atEpochMs).execute();
  const inForce = await transaction.selectFrom('node_certificate').select('serial').where('node_id', '=', nodeId).execute();
  if (inForce.length >= MAX_CERTIFICATES_IN_FORCE) {
    throw new MeshError(
      'RESOURCE_EXHAUSTED',
      'TOO_MANY_CERTIFICATES',
      `This node holds ${MAX_CERTIFICATES_IN_FORCE} certificates in force. Wait until the oldest runs out, and look why it renews so often.`,
    );
  }
  await transaction
    .insertInto('node_certificate')
    .values({
      serial: certificate.serial,
      node_id: nodeId,
      spki_sha256: certificate.spkiSha256,
      not_after: certificate.notAfterEpochMs,
      issued_at: atEpochMs,
    })
    .execute();
  await transaction.updateTable('hospital').set({ certified_until: certificate.notAfterEpochMs }).where('node_id', '=', nodeId).execute();
}

/**
 * Keys name nodes, so none may belong to two.
 * @throws MeshError INVALID_ARGUMENT / PROOF_INVALID
 */
export async function refuseForeignKeys(
  transaction: IndexTransaction,
  keys: { readonly nodeId: NodeId; readonly peerId: string; readonly signingPublicKey: Buffer; readonly spkiSha256: Buffer },
): Promise<void> {
  const hospital = await transaction
    .selectFrom('hospital')
    .select('node_id')
    .where('node_id', '!=', keys.nodeId)
    .where((where) => where.or([where('peer_id', '=', keys.peerId), where('signing_public_key', '=', keys.signingPublicKey)]))
    .executeTakeFirst();
  const certificate = await transaction
    .selectFrom('node_certificate')
    .select('node_id')
    .where('node_id', '!=', keys.nodeId)
    .where('spki_sha256', '=', keys.spkiSha256)
    .executeTakeFirst();
  if (hospital === undefined && certificate === undefined) return;
  throw new MeshError(
    'INVALID_ARGUMENT',
    'PROOF_INVALID',
    'One of these keys belongs to another node already. Every node makes its own: remove the copied key files and join again.',
  );
}

/** Takes keys whose certificates have run out from the trust list. */
export async function dropExpiredCertificates(
  parts: { readonly database: IndexDatabase; readonly keeper: TrustKeeper },
  nowEpochMs: number,
): Promise<void> {
  const expired = await parts.database.read
    .selectFrom('node_certificate')
    .select(['serial', 'node_id'])
    .where('not_after', '<=', nowEpochMs)
    .execute();
  if (expired.length === 0) return;
  await parts.keeper.change(async (transaction) => {
    await transaction.deleteFrom('node_certificate').where('not_after', '<=', nowEpochMs).execute();
    return { changed: [...new Set(expired.map(({ node_id }) => node_id as NodeId))], result: undefined };
  });
}
