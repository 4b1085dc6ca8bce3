import { expect, test } from '@jest/globals';
import { PurposeOfUse } from '@meridian/shared/generated/meridian/v1/common';
import { ManifestStatus } from '@meridian/shared/generated/meridian/v1/manifest';
import type { SubscribeResponse } from '@meridian/shared/generated/meridian/v1/push';
import { NodeStatus } from '@meridian/shared/generated/meridian/v1/trust';
import { callUnary } from '@meridian/shared/grpc';
import { applyTrustNews, verifyTrustList } from '@meridian/shared/trust-list';
import { withIndex, type TestNode } from '../test-network.ts';

const PATIENT = Buffer.alloc(32, 1);
const record = (node: TestNode, compact: string): Promise<unknown> =>
  callUnary(node.clients.consents.recordConsent.bind(node.clients.consents), { statement: { compact } });
const isConsent =
  (compact: string) =>
  (event: SubscribeResponse): boolean =>
    event.event?.$case === 'consentStatement' && event.event.value.compact === compact;
const consentsIn = (events: readonly SubscribeResponse[]): string[] =>
  events.flatMap((event) => (event.event?.$case === 'consentStatement' ? [event.event.value.compact] : []));

test('consents and revocations reach the nodes that they concern, over reconnects and a restart', async () => {
  await withIndex(async (network) => {
    const [holder, asker, stranger] = [await network.addNode('A'), await network.addNode('B'), await network.addNode('C')];
    const feed = await holder.feed();
    feed.send(1, holder.manifest({ studyInstanceUid: '1.2.1', patientKeys: [{ key: PATIENT, epoch: 'e1' }] }));
    await feed.acknowledged(1);
    const push = holder.subscribe();
    const bystander = stranger.subscribe();
    const given = asker.consent({ patientKey: PATIENT, consentId: 'c-1' });
    await record(asker, given);
    const first = await push.until(isConsent(given));
    const elapsed = Date.now();
    const withdrawn = asker.consent({ patientKey: PATIENT, consentId: 'c-1', status: 'revoked' });
    await record(asker, withdrawn);
    const second = await push.until(isConsent(withdrawn));
    expect(Date.now() - elapsed).toBeLessThan(2000);
    expect(Number(second.cursor)).toBeGreaterThan(Number(first.cursor));
    push.cancel();

    const resumed = holder.subscribe({ afterCursor: first.cursor });
    await resumed.until(isConsent(withdrawn));
    expect(consentsIn(resumed.events)).toEqual([withdrawn]);
    resumed.cancel();
    await network.restart();
    const afterRestart = holder.subscribe();
    await afterRestart.until(isConsent(withdrawn));
    expect(consentsIn(afterRestart.events)).toEqual([given, withdrawn]);
    expect(consentsIn(bystander.events)).toEqual([]);

    const newer = holder.subscribe({ afterCursor: second.cursor });
    expect((await afterRestart.ended())?.reason).toBe('SUPERSEDED');
    newer.cancel();
  });
});

test('a node that fetched hears of recalls, and a new holder of what was said before', async () => {
  await withIndex(async ({ addNode }) => {
    const [holder, asker, late] = [await addNode('A'), await addNode('B'), await addNode('C')];
    const feed = await holder.feed();
    feed.send(1, holder.manifest({ studyInstanceUid: '1.2.1', patientKeys: [{ key: PATIENT, epoch: 'e1' }] }));
    await feed.acknowledged(1);
    const given = asker.consent({ patientKey: PATIENT, consentId: 'c-1' });
    await record(asker, given);
    await callUnary(asker.clients.grants.issueGrant.bind(asker.clients.grants), {
      patientKeys: [{ key: PATIENT, epoch: 'e1' }],
      holderNode: holder.nodeId,
      studyInstanceUids: ['1.2.1'],
      purposeOfUse: PurposeOfUse.PURPOSE_OF_USE_TREAT,
      subject: 's',
      role: 'r',
    });
    const push = asker.subscribe();
    const withdrawn = holder.consent({ patientKey: PATIENT, consentId: 'c-1', status: 'revoked' });
    await record(holder, withdrawn);
    await push.until(isConsent(withdrawn));
    feed.send(
      2,
      holder.manifest({
        studyInstanceUid: '1.2.1',
        version: 2n,
        status: ManifestStatus.MANIFEST_STATUS_REJECTED,
        patientKeys: [{ key: PATIENT, epoch: 'e1' }],
      }),
    );
    const recall = await push.until((event) => event.event?.$case === 'recall');
    expect(recall.event).toMatchObject({ value: { studyInstanceUid: '1.2.1', custodianNode: holder.nodeId } });

    const latePush = late.subscribe();
    const lateFeed = await late.feed();
    lateFeed.send(1, late.manifest({ studyInstanceUid: '1.7.1', patientKeys: [{ key: PATIENT, epoch: 'e1' }] }));
    await latePush.until(isConsent(withdrawn));
    lateFeed.send(2, late.manifest({ studyInstanceUid: '1.7.2', patientKeys: [{ key: PATIENT, epoch: 'e1' }] }));
    await lateFeed.acknowledged(2);
    expect(consentsIn(latePush.events).sort()).toEqual([given, withdrawn].sort());
  });
});

test('news of the trust list reach everybody as deltas that prove themselves', async () => {
  await withIndex(async ({ addNode, index }) => {
    const node = await addNode('A');
    const rootKeys = [node.joined.indexSigningPublicKey];
    const view = verifyTrustList(node.joined.trustList as never, rootKeys, Date.now());
    const push = node.subscribe({ trustListSeq: BigInt(view.seq) });
    const other = await addNode('B');
    await index.revokeNode(other.nodeId);
    const viewAfter = (events: readonly SubscribeResponse[]): typeof view =>
      events.reduce(
        (held, { event }) => (event?.$case === 'trustList' ? applyTrustNews(held, event.value, rootKeys, Date.now()) : held),
        view,
      );
    await push.until(() => viewAfter(push.events).entries.get(other.nodeId)?.status === NodeStatus.NODE_STATUS_REVOKED);
    const current = viewAfter(push.events);
    expect(current.seq).toBe(view.seq + 2);
  });
});
