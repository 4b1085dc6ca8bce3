import type { AuditEvent } from '@meridian/shared/audit-log';
import { MeshError } from '@meridian/shared/errors';
import type { SignedObject } from '@meridian/shared/generated/meridian/v1/common';
import type { TrustEntry } from '@meridian/shared/generated/meridian/v1/trust';
import type { NodeId } from '@meridian/shared/identifiers';
import { openManifest } from '@meridian/shared/manifest';
import { signingKeysOf } from '@meridian/shared/trust-list';

/**
 * The audit event of a recall that another node delivers, after the check that this node signed it for a study of its own:
 * nothing that a stranger sent is logged or done.
 * @throws MeshError UNAUTHENTICATED / SIGNATURE_INVALID, INVALID_ARGUMENT / MANIFEST_MALFORMED, PERMISSION_DENIED /
 *   PEER_NOT_LISTED | RECALL_FOREIGN
 */
export function recallEvent(
  trust: { readonly entryOf: (nodeId: NodeId) => TrustEntry | undefined; readonly nowEpochMs: number },
  signed: SignedObject,
  fromNode: NodeId,
): AuditEvent {
  const entry = trust.entryOf(fromNode);
  if (entry === undefined)
    throw new MeshError('PERMISSION_DENIED', 'PEER_NOT_LISTED', 'The node that sent this recall is not on the trust list.');
  const { manifest, digest } = openManifest(signed, signingKeysOf(entry, trust.nowEpochMs));
  if (manifest.custodianNode !== fromNode)
    throw new MeshError('PERMISSION_DENIED', 'RECALL_FOREIGN', 'A hospital recalls its own studies only.');
  return {
    type: 'RECALL',
    peer: fromNode,
    study: manifest.studyInstanceUid,
    detail: { manifestVersion: Number(manifest.version), manifestSha256: digest.toString('hex') },
  };
}
