import { generateKeyPairFromSeed } from '@libp2p/crypto/keys';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { NodeStatus, type TrustEntry } from '@meridian/shared/generated/meridian/v1/trust';
import type { NodeId } from '@meridian/shared/identifiers';
import { silentLog } from '@meridian/shared/log';
import { systemClock, type Clock } from '@meridian/shared/platform/clock';
import { createSigningKey, type SigningKey } from '@meridian/shared/signed-object';
import { openPeerHost, type PeerHost } from './peer-host.ts';

/** One member of a network for tests: a real host on 127.0.0.1 with real TLS. */
export interface TestMember {
  readonly nodeId: NodeId;
  readonly host: PeerHost;
  readonly signingKey: SigningKey;
  readonly seed: Uint8Array;
}

/** Real hosts that share one trust list, which a test may change. */
export interface TestNetwork {
  readonly members: readonly TestMember[];
  readonly entries: Map<NodeId, TrustEntry>;
  /** Opens one more host; listed unless said otherwise. */
  add(listed: boolean): Promise<TestMember>;
  setStatus(nodeId: NodeId, status: NodeStatus): void;
  close(): Promise<void>;
}

/** For tests: `count` listed members. */
export async function openTestNetwork(count: number, clock: Clock = systemClock): Promise<TestNetwork> {
  const entries = new Map<NodeId, TrustEntry>();
  const members: TestMember[] = [];
  const trust = () => ({
    expiresAtEpochMs: clock.now() + 3_600_000,
    entries,
    byPeerId: (peerId: string) => [...entries.values()].find((entry) => entry.peerId === peerId),
  });

  async function add(listed: boolean): Promise<TestMember> {
    const number = members.length;
    const nodeId = `n-${'abcdefghijklmnop'.slice(0, 15)}${'abcdefgh'[number]}` as NodeId;
    const seed = new Uint8Array(32).fill(number + 1);
    const host = await openPeerHost({
      federation: { peerPrivateKey: seed, trust },
      config: { host: '127.0.0.1', port: 0 },
      clock,
      log: silentLog,
    });
    const signingKey = createSigningKey();
    const peerId = peerIdFromPrivateKey(await generateKeyPairFromSeed('Ed25519', seed)).toString();
    if (listed) {
      entries.set(nodeId, {
        nodeId,
        name: `Hospital ${number + 1}`,
        spkiSha256: [],
        peerId,
        signingPublicKey: Buffer.from(signingKey.publicKey),
        addresses: [...host.addresses],
        status: NodeStatus.NODE_STATUS_ACTIVE,
        formerSigningKeys: [],
        segment: 'test',
      });
    }
    const member = { nodeId, host, signingKey, seed };
    members.push(member);
    return member;
  }

  for (let number = 0; number < count; number += 1) await add(true);
  return {
    members,
    entries,
    add,
    setStatus(nodeId, status) {
      const entry = entries.get(nodeId);
      if (entry !== undefined) entries.set(nodeId, { ...entry, status });
      for (const member of members) member.host.applyTrust();
    },
    async close() {
      await Promise.all(members.map((member) => member.host.close()));
    },
  };
}
