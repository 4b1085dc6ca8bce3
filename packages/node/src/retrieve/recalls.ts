import { asMeshError } from '@meridian/shared/errors';
import type { SignedObject } from '@meridian/shared/generated/meridian/v1/common';
import { ManifestStatus } from '@meridian/shared/generated/meridian/v1/manifest';
import type { SubscribeResponse } from '@meridian/shared/generated/meridian/v1/push';
import type { TrustEntry } from '@meridian/shared/generated/meridian/v1/trust';
import type { NodeId } from '@meridian/shared/identifiers';
import type { Logger } from '@meridian/shared/log';
import { decodeManifest } from '@meridian/shared/manifest';
import type { Clock } from '@meridian/shared/platform/clock';
import { recallEvent } from '../mesh/recall.ts';
import type { AuditSink } from '../transfer/ports.ts';

/** Acts on what a holder takes back. */
export interface Recalls {
  /**
   * Locks the copies of a study that its holder has withdrawn, and writes it down.
   * @throws MeshError UNAUTHENTICATED / SIGNATURE_INVALID, PERMISSION_DENIED / PEER_NOT_LISTED | RECALL_FOREIGN,
   *   INVALID_ARGUMENT / MANIFEST_MALFORMED, RESOURCE_EXHAUSTED / AUDIT_UNWRITABLE: the copies are locked then
   */
  take(signed: SignedObject, fromNode: NodeId): Promise<void>;
  /** A listener for the index's push channel: logs and passes over what does not hold. */
  readonly pushed: (event: SubscribeResponse) => Promise<void>;
}

/** What recalls need of the rest. */
export interface RecallParts {
  readonly federation: { entryOf(nodeId: NodeId): TrustEntry | undefined };
  readonly fetched: {
    recall(study: { readonly studyInstanceUid: string; readonly holderNode: string; readonly version: number }): Promise<boolean>;
  };
  readonly audit: AuditSink;
  readonly clock: Clock;
  readonly log: Logger;
}

export function openRecalls(parts: RecallParts): Recalls {
  const { federation, fetched, audit, clock, log } = parts;
  const take = async (signed: SignedObject, fromNode: NodeId): Promise<void> => {
    const event = recallEvent({ entryOf: (nodeId) => federation.entryOf(nodeId), nowEpochMs: clock.now() }, signed, fromNode);
    const { status, studyInstanceUid, version } = decodeManifest(signed.payload);
    const isWithdrawn = status === ManifestStatus.MANIFEST_STATUS_REJECTED || status === ManifestStatus.MANIFEST_STATUS_DELETED;
    // What closes comes before its log.
    if (isWithdrawn) await fetched.recall({ studyInstanceUid, holderNode: fromNode, version: Number(version) });
    await audit.append(event);
  };
  return {
    take,
    pushed: async ({ event }) => {
      if (event?.$case !== 'recall' || event.value.manifest === undefined) return;
      const { manifest, custodianNode } = event.value;
      await take(manifest, custodianNode as NodeId).catch((thrown: unknown) => {
        const error = asMeshError(thrown);
        if (!['INVALID_ARGUMENT', 'PERMISSION_DENIED', 'UNAUTHENTICATED'].includes(error.code)) throw error;
        log.warn({ event: 'recall-refused', nodeId: custodianNode, code: error.code, reason: error.reason });
      });
    },
  };
}
