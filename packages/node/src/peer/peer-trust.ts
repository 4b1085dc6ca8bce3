import type { ConnectionGater } from '@libp2p/interface';
import { NodeStatus, type TrustEntry } from '@meridian/shared/generated/meridian/v1/trust';
import type { NodeId } from '@meridian/shared/identifiers';
import type { Clock } from '@meridian/shared/platform/clock';
import type { PendingLimit } from './pending-limit.ts';

/** What the peer room needs of a trust list. */
export interface PeerTrustView {
  readonly expiresAtEpochMs: number;
  readonly entries: ReadonlyMap<NodeId, TrustEntry>;
  byPeerId(peerId: string): TrustEntry | undefined;
}

/** Answers who may be connected to: members that the last verified trust list names active, and nobody once it ran out. */
export interface PeerTrust {
  entryOfPeer(peerId: string): TrustEntry | undefined;
  entryOf(nodeId: NodeId): TrustEntry | undefined;
}

/** @param trust the last verified list, undefined before the first. */
export function openPeerTrust(parts: { trust: () => PeerTrustView | undefined; clock: Clock }): PeerTrust {
  function current(): PeerTrustView | undefined {
    const view = parts.trust();
    return view !== undefined && parts.clock.now() < view.expiresAtEpochMs ? view : undefined;
  }
  function active(entry: TrustEntry | undefined): TrustEntry | undefined {
    return entry?.status === NodeStatus.NODE_STATUS_ACTIVE ? entry : undefined;
  }
  return {
    entryOfPeer: (peerId) => active(current()?.byPeerId(peerId)),
    entryOf: (nodeId) => active(current()?.entries.get(nodeId)),
  };
}

/** libp2p checks no CA: the trust list is the bond, on dial and on accept, once the other end has proved its key. */
export function createGater(trust: PeerTrust, pending: PendingLimit): ConnectionGater {
  const unlisted = (peerId: { toString(): string }): boolean => trust.entryOfPeer(peerId.toString()) === undefined;
  return {
    denyDialPeer: unlisted,
    denyInboundConnection: (socket) => !pending.begin(socket),
    denyInboundEncryptedConnection: (peerId, socket) => {
      pending.proved(socket);
      return unlisted(peerId);
    },
    denyOutboundEncryptedConnection: unlisted,
    denyInboundUpgradedConnection: unlisted,
    denyOutboundUpgradedConnection: unlisted,
    denyInboundRelayReservation: () => true,
    denyInboundRelayedConnection: () => true,
    denyOutboundRelayedConnection: () => true,
  };
}
