import { expect, test } from '@jest/globals';
import type { AuditEvent } from '@meridian/shared/audit-log';
import { ManifestStatus, StudyManifest } from '@meridian/shared/generated/meridian/v1/manifest';
import { StudyRecall, SubscribeResponse } from '@meridian/shared/generated/meridian/v1/push';
import { TrustEntry } from '@meridian/shared/generated/meridian/v1/trust';
import type { NodeId } from '@meridian/shared/identifiers';
import { silentLog } from '@meridian/shared/log';
import { signManifest } from '@meridian/shared/manifest';
import { systemClock } from '@meridian/shared/platform/clock';
import { createSigningKey } from '@meridian/shared/signed-object';
import { makeInstance } from '../store/testing/data-sets.ts';
import { send, usingStore } from '../store/testing/stores.ts';
import { openRecalls } from './recalls.ts';

const [HOLDER, OTHER] = ['n-hhhhhhhhhhhhhhhh', 'n-oooooooooooooooo'] as [NodeId, NodeId];
const consentHash = 'ab'.repeat(32);

test('a study that its holder withdraws is locked here, by its own signature alone, and written down', () =>
  usingStore({}, async (store) => {
    const keys = new Map([HOLDER, OTHER].map((nodeId) => [nodeId, createSigningKey()]));
    const events: AuditEvent[] = [];
    let auditIsFull = false;
    const recalls = openRecalls({
      federation: {
        entryOf: (nodeId) =>
          keys.has(nodeId) ? TrustEntry.fromPartial({ nodeId, signingPublicKey: Buffer.from(keys.get(nodeId)!.publicKey) }) : undefined,
      },
      fetched: store.fetched,
      audit: { append: async (event) => (auditIsFull ? Promise.reject(new Error('full')) : void events.push(event)) },
      clock: systemClock,
      log: silentLog,
    });
    const recall = (change: Partial<StudyManifest>, signer: NodeId = HOLDER, by: NodeId = HOLDER): SubscribeResponse => {
      const manifest = signManifest(
        StudyManifest.fromPartial({
          studyInstanceUid: '7',
          custodianNode: by,
          version: 2n,
          status: ManifestStatus.MANIFEST_STATUS_REJECTED,
          instanceListSha256: Buffer.alloc(32),
          ...change,
        } as never),
        keys.get(signer)!,
      );
      return {
        cursor: '1',
        event: { $case: 'recall', value: StudyRecall.fromPartial({ studyInstanceUid: '7', custodianNode: by, manifest }) },
      };
    };
    await store.fetched.begin({
      studyInstanceUid: '7',
      holderNode: HOLDER,
      manifest: Buffer.from('m'),
      manifestSha256: Buffer.alloc(32, 1),
      version: 1,
      expected: { instances: [] },
      consentHash,
    });
    await send(store, makeInstance({ study: '7', series: '7.1', sop: '7.1.1' }), {
      door: 'peer',
      assigningAuthority: HOLDER,
      provenance: { holderNode: HOLDER, manifestSha256: Buffer.alloc(32), jti: 'j', consentHash },
    });
    const locked = async () => (await store.studies.study('7'))?.locked;

    for (const nothing of [
      recall({}, OTHER),
      recall({}, OTHER, OTHER),
      recall({ custodianNode: OTHER }),
      recall({ status: ManifestStatus.MANIFEST_STATUS_COMPLETE }),
      recall({ studyInstanceUid: '8' }),
      recall({ version: 0n + 1n, status: ManifestStatus.MANIFEST_STATUS_COMPLETE }),
    ])
      await recalls.pushed(nothing);
    expect(await locked()).toBe(false);
    auditIsFull = true;
    await expect(recalls.pushed(recall({}))).rejects.toMatchObject({ code: 'INTERNAL' });
    expect(await store.studies.study('7')).toMatchObject({ locked: true, lockReason: 'STUDY_RECALLED' });
    auditIsFull = false;
    await recalls.pushed(recall({}));
    expect(events.at(-1)).toMatchObject({ type: 'RECALL', peer: HOLDER, study: '7' });

    // Announced again and fetched anew: the older recall, told once more, locks nothing.
    await store.fetched.begin({
      studyInstanceUid: '7',
      holderNode: HOLDER,
      manifest: Buffer.from('m'),
      manifestSha256: Buffer.alloc(32, 3),
      version: 3,
      expected: { instances: [] },
      consentHash,
    });
    await recalls.pushed(recall({}));
    expect(await locked()).toBe(false);
  }));
