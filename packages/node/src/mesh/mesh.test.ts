import { expect, test } from '@jest/globals';
import { MeshError } from '@meridian/shared/errors';
import type { NodeId } from '@meridian/shared/identifiers';
import { silentLog } from '@meridian/shared/log';
import { systemClock } from '@meridian/shared/platform/clock';
import { createSigningKey } from '@meridian/shared/signed-object';
import { applyTrustNews, buildTrustList, verifyTrustList, type TrustView } from '@meridian/shared/trust-list';
import { openTestNetwork, type TestMember, type TestNetwork } from '../peer/test-network.ts';
import { CONTROL_PROTOCOL } from './limits.ts';
import { openMesh, type Mesh } from './mesh.ts';

const indexKey = createSigningKey();

function listAt(network: TestNetwork, seq: number): TrustView {
  const list = buildTrustList({
    entries: network.entries.values(),
    seq,
    nowEpochMs: systemClock.now() + seq,
    key: indexKey,
    indexSigningKeys: [indexKey.publicKey],
  });
  return verifyTrustList(list, [indexKey.publicKey], systemClock.now());
}

interface Side {
  readonly mesh: Mesh;
  readonly got: [string, NodeId][];
  view: TrustView;
}

async function openSide(member: TestMember, view: TrustView): Promise<Side> {
  const got: [string, NodeId][] = [];
  const side: { -readonly [K in keyof Side]: Side[K] } = { mesh: undefined as never, got, view };
  side.mesh = await openMesh({
    peerHost: member.host,
    federation: {
      trust: () => side.view,
      async offerTrust(news) {
        const next = applyTrustNews(side.view, news, [indexKey.publicKey], systemClock.now());
        const isNewer = next.seq > side.view.seq;
        side.view = next;
        return isNewer;
      },
    },
    async onConsent(compact, from) {
      if (compact === 'bad') throw new MeshError('UNAUTHENTICATED', 'CONSENT_SIGNATURE', 'not signed');
      got.push([compact, from]);
    },
    onRecall: async () => undefined,
    clock: systemClock,
    log: silentLog,
    softwareVersion: '9',
  });
  return side;
}

test('nodes hand statements to each other and tell refusals by their reason', async () => {
  const network = await openTestNetwork(2);
  const [a, b] = network.members as [TestMember, TestMember];
  const sides = await Promise.all([a, b].map((member) => openSide(member, listAt(network, 1))));
  const [fromA, atB] = sides as [Side, Side];
  try {
    await fromA.mesh.deliverConsent(b.nodeId, 'statement');
    expect(atB.got).toEqual([['statement', a.nodeId]]);
    await expect(fromA.mesh.deliverConsent(b.nodeId, 'bad')).rejects.toMatchObject({
      code: 'UNAUTHENTICATED',
      reason: 'CONSENT_SIGNATURE',
    });
    expect(await fromA.mesh.ping(b.nodeId)).toMatchObject({ softwareVersion: '9' });

    const stream = await a.host.dial(b.nodeId, CONTROL_PROTOCOL);
    stream.send(Buffer.alloc(100, 0xff));
    const answers: Uint8Array[] = [];
    for await (const frame of stream.messages()) answers.push(frame);
    await stream.close();
    expect(answers).toHaveLength(1);
    expect(Buffer.from(answers[0]!).toString('latin1')).toContain('FRAME_INVALID');
  } finally {
    for (const side of sides) await side.mesh.close();
    await network.close();
  }
});

test('the newer trust list wins on both sides, whoever asks first', async () => {
  const network = await openTestNetwork(2);
  const [a, b] = network.members as [TestMember, TestMember];
  const old = listAt(network, 1);
  const fresh = listAt(network, 5);
  const sides = await Promise.all([openSide(a, old), openSide(b, fresh)]);
  const [atA, atB] = sides as [Side, Side];
  try {
    expect(await atA.mesh.exchangeHeads(b.nodeId)).toBe(true);
    expect(atA.view.seq).toBe(5);
    expect(await atA.mesh.exchangeHeads(b.nodeId)).toBe(false);

    atA.view = listAt(network, 9);
    expect(await atA.mesh.exchangeHeads(b.nodeId)).toBe(false);
    for (let look = 0; look < 200 && atB.view.seq < 9; look += 1) await systemClock.sleep(10);
    expect(atB.view.seq).toBe(9);
  } finally {
    for (const side of sides) await side.mesh.close();
    await network.close();
  }
});
