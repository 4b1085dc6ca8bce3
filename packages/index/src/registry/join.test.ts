import { expect, test } from '@jest/globals';
import { NodeStatus } from '@meridian/shared/generated/meridian/v1/trust';
import { callUnary } from '@meridian/shared/grpc';
import type { NodeId } from '@meridian/shared/identifiers';
import { systemClock, type Clock } from '@meridian/shared/platform/clock';
import { createSigningKey, renewProofBytes } from '@meridian/shared/signed-object';
import { applyTrustNews, verifyTrustList } from '@meridian/shared/trust-list';
import { createTlsKeyRequest, fetchPinnedCa, parseJoinLink, pemOf } from '@meridian/shared/x509';
import { clientsOf, joinNode, joinRequest, reasonOf, withEnrolment, withIndex, type TestNode } from '../test-network.ts';

const trustOf = (node: TestNode): Promise<unknown> =>
  callUnary(node.clients.trust.getTrustList.bind(node.clients.trust), { haveSeq: 0n }, { deadlineMs: 3000 });

test('a code buys one certificate, and the certificate opens the index', async () => {
  await withIndex(async ({ index, addNode }) => {
    const node = await addNode('协和医院');
    expect(node.joined.hospitalName).toBe('协和医院');
    const view = verifyTrustList(node.joined.trustList as never, [node.joined.indexSigningPublicKey], Date.now());
    expect(view.entries.get(node.nodeId)?.peerId).toBe(node.peerId);
    expect(view.entries.get(node.nodeId)?.status).toBe(NodeStatus.NODE_STATUS_ACTIVE);

    const other = await addNode('Second');
    const response = await callUnary(node.clients.trust.getTrustList.bind(node.clients.trust), { haveSeq: BigInt(view.seq) });
    expect(response.deltas).toHaveLength(1);
    const newer = applyTrustNews(view, response, [node.joined.indexSigningPublicKey], Date.now());
    expect([...newer.entries.keys()].sort()).toEqual([node.nodeId, other.nodeId].sort());
    await callUnary(node.clients.trust.updateAddresses.bind(node.clients.trust), { addresses: ['/ip4/192.0.2.7/tcp/7500'] });
    const again = applyTrustNews(
      newer,
      await callUnary(node.clients.trust.getTrustList.bind(node.clients.trust), { haveSeq: BigInt(newer.seq) }),
      [node.joined.indexSigningPublicKey],
      Date.now(),
    );
    expect(again.entries.get(node.nodeId)?.addresses).toEqual(['/ip4/192.0.2.7/tcp/7500']);
    expect(await reasonOf(callUnary(node.clients.trust.updateAddresses.bind(node.clients.trust), { addresses: ['http://x'] }))).toBe(
      'INVALID_ARGUMENT ADDRESS_INVALID',
    );
    expect((await index.status()).hospitals.map(({ status }) => status)).toEqual(['active', 'active']);
  });
});

test('of several nodes with one code exactly one wins, and a lost answer may be asked for again', async () => {
  await withIndex(async ({ index }) => {
    const { joinLink } = await index.addHospital({ name: 'A' });
    await withEnrolment(joinLink, async (client, code) => {
      const tries = await Promise.all(Array.from({ length: 5 }, () => joinRequest(code)));
      const outcomes = await Promise.all(tries.map(async ({ request }) => reasonOf(callUnary(client.join.bind(client), request))));
      expect(outcomes.filter((outcome) => outcome === 'nothing thrown')).toHaveLength(1);
      expect(outcomes.filter((outcome) => outcome === 'UNAUTHENTICATED JOIN_CODE_USED')).toHaveLength(4);
      const winner = tries[outcomes.indexOf('nothing thrown')];
      const again = await callUnary(client.join.bind(client), (winner as (typeof tries)[number]).request);
      expect(again.certificateChain).toHaveLength(2);
      const late = await callUnary(client.join.bind(client), (await joinRequest(code)).request).catch((thrown: unknown) => thrown);
      expect(String(late)).toMatch(/used already/);
    });
  });
});

test('unknown, expired, superseded and unproven requests are refused, and use up no code', async () => {
  let ahead = 0;
  const clock: Clock = { ...systemClock, now: () => systemClock.now() + ahead };
  await withIndex(
    async ({ index }) => {
      const { joinLink, nodeId } = await index.addHospital({ name: 'A' });
      await withEnrolment(joinLink, async (client, code) => {
        const ask = client.join.bind(client);
        const { request, key } = await joinRequest(code);
        expect(await reasonOf(callUnary(ask, { ...request, code: 'A'.repeat(26) }))).toBe('UNAUTHENTICATED JOIN_CODE_UNKNOWN');
        const foreign = await joinRequest(code);
        for (const wrong of [
          { signingProof: key.sign(Buffer.from('other')) },
          { peerProof: request.signingProof },
          { peerId: foreign.request.peerId },
          { certificateSigningRequest: foreign.request.certificateSigningRequest },
          { certificateSigningRequest: Buffer.from('nonsense') },
          { peerPublicKey: request.signingPublicKey, peerProof: request.signingProof },
        ]) {
          expect(await reasonOf(callUnary(ask, { ...request, ...wrong }))).toBe('INVALID_ARGUMENT PROOF_INVALID');
        }
        const tampered = Buffer.from(request.certificateSigningRequest);
        tampered[tampered.length - 1] = (tampered.at(-1) ?? 0) ^ 1;
        expect(await reasonOf(callUnary(ask, { ...request, certificateSigningRequest: tampered }))).toBe('INVALID_ARGUMENT PROOF_INVALID');
        ahead = 73 * 3_600_000;
        expect(await reasonOf(callUnary(ask, request))).toBe('UNAUTHENTICATED JOIN_CODE_EXPIRED');
        ahead = 0;
        const second = await index.inviteAgain(nodeId);
        expect(await reasonOf(callUnary(ask, request))).toBe('UNAUTHENTICATED JOIN_CODE_UNKNOWN');
        const node = await joinNode(second.joinLink);
        expect(node.nodeId).toBe(nodeId);
        node.close();
      });
      const link = parseJoinLink(joinLink);
      expect(await reasonOf(fetchPinnedCa({ ...link, caSpkiSha256: Buffer.alloc(32) }))).toBe('UNAUTHENTICATED CA_PIN_MISMATCH');
      expect(await reasonOf(fetchPinnedCa({ ...link, port: 1 }))).toBe('UNAVAILABLE INDEX_UNREACHABLE');
      expect(() => parseJoinLink(joinLink.slice(0, -1))).toThrow(/no join link/);
    },
    { clock },
  );
});

test('too many tries from one address are turned away', async () => {
  await withIndex(
    async ({ index }) => {
      const { joinLink } = await index.addHospital({ name: 'A' });
      await withEnrolment(joinLink, async (client) => {
        const { request } = await joinRequest('A'.repeat(26));
        for (let tries = 0; tries < 3; tries += 1)
          expect(await reasonOf(callUnary(client.join.bind(client), request))).toBe('UNAUTHENTICATED JOIN_CODE_UNKNOWN');
        expect(await reasonOf(callUnary(client.join.bind(client), request))).toBe('RESOURCE_EXHAUSTED TOO_MANY_ATTEMPTS');
      });
    },
    { joinAttempts: 3 },
  );
});

test('strangers who fill the join door stop no renewal', async () => {
  await withIndex(
    async ({ index, addNode }) => {
      const node = await addNode('A');
      const { joinLink } = await index.addHospital({ name: 'B' });
      await withEnrolment(joinLink, async (client) => {
        const { request } = await joinRequest('A'.repeat(26));
        for (let tries = 0; tries < 5; tries += 1) await reasonOf(callUnary(client.join.bind(client), request));
        expect(await reasonOf(callUnary(client.join.bind(client), request))).toBe('RESOURCE_EXHAUSTED TOO_MANY_ATTEMPTS');
        const { certificateSigningRequest } = await createTlsKeyRequest();
        const renewal = (key = node.key, atEpochMs = Date.now()) => ({
          nodeId: node.nodeId,
          certificateSigningRequest,
          atEpochMs: BigInt(atEpochMs),
          signingProof: key.sign(renewProofBytes({ nodeId: node.nodeId, atEpochMs, certificateSigningRequest })),
        });
        for (let tries = 0; tries < 30; tries += 1)
          expect(await reasonOf(callUnary(client.renew.bind(client), renewal(createSigningKey())))).toBe('UNAUTHENTICATED PROOF_INVALID');
        expect(await reasonOf(callUnary(client.renew.bind(client), renewal()))).toBe('nothing thrown');
        const own = [];
        for (let tries = 0; tries < 20; tries += 1)
          own.push(await reasonOf(callUnary(client.renew.bind(client), renewal(node.key, Date.now() - 3_600_000))));
        expect(own.at(-1)).toBe('RESOURCE_EXHAUSTED TOO_MANY_ATTEMPTS');
      });
    },
    { joinAttempts: 3, joinAttemptsOverall: 4 },
  );
});

test('a node changes its addresses a limited number of times a minute; the same ones change nothing', async () => {
  await withIndex(async ({ addNode }) => {
    const node = await addNode('A');
    const tell = (port: number): Promise<string> =>
      reasonOf(callUnary(node.clients.trust.updateAddresses.bind(node.clients.trust), { addresses: [`/ip4/192.0.2.7/tcp/${port}`] }));
    const outcomes = [];
    for (let port = 1; port <= 21; port += 1) outcomes.push(await tell(port));
    expect(outcomes.filter((outcome) => outcome === 'nothing thrown')).toHaveLength(20);
    expect(outcomes.at(-1)).toBe('RESOURCE_EXHAUSTED TOO_MANY_ATTEMPTS');
    expect(await tell(20)).toBe('nothing thrown');
  });
});

test('a new code shuts every older one, a used one too: its request brings back no lost keys', async () => {
  await withIndex(async ({ index }) => {
    const { joinLink, nodeId } = await index.addHospital({ name: 'A' });
    await withEnrolment(joinLink, async (client, code) => {
      const { request } = await joinRequest(code);
      await callUnary(client.join.bind(client), request);
      await index.inviteAgain(nodeId);
      expect(await reasonOf(callUnary(client.join.bind(client), request))).toBe('UNAUTHENTICATED JOIN_CODE_UNKNOWN');
    });
  });
});

test('the mutual-TLS listener takes certificates of listed, active nodes alone, on every call', async () => {
  await withIndex(async ({ index, addNode }) => {
    const node = await addNode('A');
    const other = await addNode('B');
    const address = node.joined.indexAddress;
    const { caCertificatePem } = node.identity;
    const without = clientsOf(address, { caCertificatePem });
    expect(await reasonOf(callUnary(without.trust.getTrustList.bind(without.trust), { haveSeq: 0n }, { deadlineMs: 3000 }))).toMatch(
      /UNAVAILABLE INDEX_UNREACHABLE|DEADLINE_EXCEEDED INDEX_TIMEOUT/,
    );
    without.close();

    await withIndex(async (elsewhere) => {
      const stranger = await elsewhere.addNode('X');
      const foreign = clientsOf(address, { ...stranger.identity, caCertificatePem });
      expect(await reasonOf(callUnary(foreign.trust.getTrustList.bind(foreign.trust), { haveSeq: 0n }, { deadlineMs: 3000 }))).toMatch(
        /UNAVAILABLE INDEX_UNREACHABLE|DEADLINE_EXCEEDED INDEX_TIMEOUT/,
      );
      foreign.close();
      // The other way round: an index of another CA is no index for this node.
      const misled = clientsOf(stranger.joined.indexAddress, node.identity);
      expect(await reasonOf(callUnary(misled.trust.getTrustList.bind(misled.trust), { haveSeq: 0n }, { deadlineMs: 3000 }))).toMatch(
        /UNAVAILABLE INDEX_UNREACHABLE|DEADLINE_EXCEEDED INDEX_TIMEOUT/,
      );
      misled.close();
    });

    const push = node.subscribe();
    const feed = await node.feed();
    await push.until((event) => event.event?.$case === 'trustList');
    await index.suspendNode(node.nodeId);
    expect(await reasonOf(trustOf(node))).toBe('PERMISSION_DENIED NODE_SUSPENDED');
    expect((await push.ended())?.reason).toBe('NODE_SUSPENDED');
    expect((await feed.ended())?.reason).toBe('NODE_SUSPENDED');
    await index.reinstateNode(node.nodeId);
    expect(await reasonOf(trustOf(node))).toBe('nothing thrown');
    await index.revokeNode(node.nodeId);
    expect(await reasonOf(trustOf(node))).toBe('PERMISSION_DENIED NODE_REVOKED');
    expect(await reasonOf(index.reinstateNode(node.nodeId))).toBe('FAILED_PRECONDITION NODE_NOT_ACTIVE');
    expect(await reasonOf(trustOf(other))).toBe('nothing thrown');
  });
});

test('a certificate is renewed by the signing key, and a node that lost its keys joins again', async () => {
  let ahead = 0;
  const clock: Clock = { ...systemClock, now: () => systemClock.now() + ahead };
  await withIndex(
    async ({ index, addNode }) => {
      const node = await addNode('A');
      const invited = await index.inviteAgain(node.nodeId);
      await withEnrolment(invited.joinLink, async (client) => {
        const ask = client.renew.bind(client);
        const tls = await createTlsKeyRequest();
        const requestAt = (atEpochMs: number, key = node.key, nodeId: string = node.nodeId) => ({
          nodeId,
          certificateSigningRequest: tls.certificateSigningRequest,
          atEpochMs: BigInt(atEpochMs),
          signingProof: key.sign(renewProofBytes({ nodeId, atEpochMs, certificateSigningRequest: tls.certificateSigningRequest })),
        });
        expect(await reasonOf(callUnary(ask, requestAt(Date.now(), createSigningKey())))).toBe('UNAUTHENTICATED PROOF_INVALID');
        expect(await reasonOf(callUnary(ask, requestAt(Date.now(), node.key, 'n-aaaaaaaaaaaaaaaa')))).toBe('UNAUTHENTICATED PROOF_INVALID');
        expect(await reasonOf(callUnary(ask, requestAt(Date.now() - 6 * 60_000)))).toBe('UNAUTHENTICATED CLOCK_SKEW');
        const [leaf] = (await callUnary(ask, requestAt(Date.now()))).certificateChain;
        const renewed = clientsOf(node.joined.indexAddress, {
          ...node.identity,
          certificateChainPem: pemOf('CERTIFICATE', leaf as Buffer),
          privateKeyPem: tls.privateKeyPem,
        });
        expect(await reasonOf(callUnary(renewed.trust.getTrustList.bind(renewed.trust), { haveSeq: 0n }))).toBe('nothing thrown');
        renewed.close();
        expect(await reasonOf(trustOf(node))).toBe('nothing thrown');
        ahead = 98 * 24 * 3_600_000;
        expect(await reasonOf(callUnary(ask, requestAt(clock.now())))).toBe('PERMISSION_DENIED NODE_NOT_ACTIVE');
        ahead = 0;
      });
      const [feed, push] = [await node.feed(), node.subscribe()];
      const again = await joinNode(invited.joinLink);
      try {
        expect(again.nodeId).toBe(node.nodeId);
        expect(await reasonOf(trustOf(node))).toBe('UNAUTHENTICATED CERTIFICATE_UNKNOWN');
        // What the old machine still had open is over too.
        expect((await feed.ended())?.reason).toBe('CERTIFICATE_UNKNOWN');
        expect((await push.ended())?.reason).toBe('CERTIFICATE_UNKNOWN');
        const view = verifyTrustList(again.joined.trustList as never, [again.joined.indexSigningPublicKey], Date.now());
        expect(view.entries.get(node.nodeId as NodeId)?.formerSigningKeys.map(({ publicKey }) => publicKey)).toEqual([node.key.publicKey]);
      } finally {
        again.close();
      }
    },
    { clock },
  );
});
