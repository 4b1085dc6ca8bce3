import { expect, test } from '@jest/globals';
import { ManifestStatus, StudyManifest } from '@meridian/shared/generated/meridian/v1/manifest';
import { TrustEntry } from '@meridian/shared/generated/meridian/v1/trust';
import type { NodeId } from '@meridian/shared/identifiers';
import { manifestDigest, signManifest } from '@meridian/shared/manifest';
import { createSigningKey } from '@meridian/shared/signed-object';
import { recallEvent } from './recall.ts';

const sender = 'n-aaaaaaaaaaaaaaaa' as NodeId;
const key = createSigningKey();
const entryOf = (nodeId: NodeId): TrustEntry | undefined =>
  nodeId === sender ? TrustEntry.fromPartial({ nodeId, signingPublicKey: key.publicKey }) : undefined;
const recalled = (custodianNode: string, by = key) =>
  signManifest(
    StudyManifest.fromPartial({
      studyInstanceUid: '1.2.3',
      custodianNode,
      version: 2n,
      status: ManifestStatus.MANIFEST_STATUS_REJECTED,
      instanceListSha256: Buffer.alloc(32),
    }),
    by,
  );

test('a recall counts where the sending node signed it for a study of its own, and what is logged is bounded', () => {
  expect(recallEvent({ entryOf, nowEpochMs: 1 }, recalled(sender), sender)).toEqual({
    type: 'RECALL',
    peer: sender,
    study: '1.2.3',
    detail: { manifestVersion: 2, manifestSha256: manifestDigest(recalled(sender).payload).toString('hex') },
  });

  const refused = (signed: ReturnType<typeof recalled>, from: NodeId = sender): string => {
    try {
      recallEvent({ entryOf, nowEpochMs: 1 }, signed, from);
      return 'taken';
    } catch (thrown) {
      return (thrown as { reason: string }).reason;
    }
  };
  expect(refused(recalled(sender, createSigningKey()))).toBe('SIGNATURE_INVALID');
  expect(refused({ ...recalled(sender), keyId: 'x'.repeat(20_000) })).toBe('SIGNATURE_INVALID');
  expect(refused(recalled('n-bbbbbbbbbbbbbbbb'))).toBe('RECALL_FOREIGN');
  expect(refused(recalled(sender), 'n-bbbbbbbbbbbbbbbb' as NodeId)).toBe('PEER_NOT_LISTED');
});
