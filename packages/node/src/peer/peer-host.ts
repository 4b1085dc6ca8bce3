import { yamux } from '@chainsafe/libp2p-yamux';
import { generateKeyPairFromSeed, privateKeyFromProtobuf } from '@libp2p/crypto/keys';
import type { Connection, PrivateKey, Stream } from '@libp2p/interface';
import { tcp } from '@libp2p/tcp';
import { tls } from '@libp2p/tls';
import { multiaddr } from '@multiformats/multiaddr';
import { MeshError } from '@meridian/shared/errors';
import type { NodeId } from '@meridian/shared/identifiers';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import { createLibp2p, type Libp2p } from 'libp2p';
import { multiaddrOf, toMultiaddrText } from './addresses.ts';
import {
  DIAL_TIMEOUT_MS,
  INBOUND_HANDSHAKE_TIMEOUT_MS,
  INBOUND_UPGRADE_TIMEOUT_MS,
  MAX_CONNECTIONS,
  MAX_CONNECTIONS_PER_PEER,
  MAX_INBOUND_STREAMS,
  MAX_OUTBOUND_STREAMS,
  MAX_PAUSED_BYTES,
  MAX_PENDING,
  MAX_PENDING_PER_ADDRESS,
  MAX_STREAM_WINDOW_BYTES,
  MAX_WRITE_BUFFER_BYTES,
} from './limits.ts';
import { wrapStream, type PeerStream, type PeerStreamLimits, type Remote } from './peer-stream.ts';
import { createGater, openPeerTrust, type PeerTrust, type PeerTrustView } from './peer-trust.ts';
import { openPendingLimit, type PendingLimit } from './pending-limit.ts';

export type { PeerStream, PeerStreamLimits, Remote } from './peer-stream.ts';

/** Serves one stream that a peer opened; the host closes the stream when it settles. The dialer speaks first. */
export type StreamHandler = (stream: PeerStream) => Promise<void>;

/** The node's end of the mesh: one libp2p host that knows listed, active peers only. */
export interface PeerHost {
  readonly peerId: string;
  /** The TCP port it listens on. */
  readonly port: number;
  /** Where this node can be reached, multiaddrs ending in /p2p/…. */
  readonly addresses: readonly string[];
  /** Serves a protocol id such as /meridian/transfer/1.0.0. */
  handle(protocol: string, handler: StreamHandler, limits?: PeerStreamLimits): Promise<void>;
  /**
   * Opens a stream to a member.
   * @throws MeshError FAILED_PRECONDITION / PEER_NOT_LISTED, UNAVAILABLE / PEER_UNREACHABLE, or the signal's reason.
   */
  dial(nodeId: NodeId, protocol: string, signal?: AbortSignal, limits?: PeerStreamLimits): Promise<PeerStream>;
  /** Ends every connection to a member at once. */
  disconnect(nodeId: NodeId): void;
  /** To be called on trust news: whoever is no longer listed and active is disconnected at once. */
  applyTrust(): void;
  /** Members with an open connection. */
  connectedNodes(): NodeId[];
  close(): Promise<void>;
}

/** What the host needs of the federation. */
export interface PeerIdentity {
  /** A raw 32-byte Ed25519 seed, or a private key in libp2p's protobuf form. */
  readonly peerPrivateKey: Uint8Array;
  trust(): PeerTrustView | undefined;
}

/**
 * Opens the host and listens.
 * @param config.announce addresses to publish in place of the bound one, multiaddr or host:port.
 * @throws MeshError UNAVAILABLE / PEER_PORT_IN_USE
 */
export async function openPeerHost(parts: {
  readonly federation: PeerIdentity;
  readonly config: { readonly host: string; readonly port: number; readonly announce?: readonly string[] };
  readonly clock: Clock;
  readonly log: Logger;
}): Promise<PeerHost> {
  const { federation, config, clock, log } = parts;
  const trust = openPeerTrust({ trust: () => federation.trust(), clock });
  const pending = openPendingLimit({ clock, perAddress: MAX_PENDING_PER_ADDRESS, timeoutMs: INBOUND_HANDSHAKE_TIMEOUT_MS });
  const libp2p = await start(await privateKeyOf(federation.peerPrivateKey), config, trust, pending);
  libp2p.addEventListener('connection:open', ({ detail }) => endSurplus(libp2p, detail));
  const serving = new Set<Promise<void>>();

  async function serve(stream: Stream, connection: Connection, handler: StreamHandler, limits?: PeerStreamLimits): Promise<void> {
    const remote = remoteOf(connection, trust);
    if (remote === undefined) return stream.abort(new Error('not listed'));
    const peerStream = wrapStream(stream, remote, clock, limits);
    try {
      await handler(peerStream);
    } catch (error) {
      log.warn({ event: 'peer.stream-failed', nodeId: remote.nodeId, protocol: stream.protocol, err: error });
    } finally {
      await peerStream.close();
    }
  }
  function abortConnections(isOut: (connection: Connection) => boolean, reason: string): void {
    for (const connection of libp2p.getConnections()) if (isOut(connection)) connection.abort(new Error(reason));
  }

  return {
    peerId: libp2p.peerId.toString(),
    port: boundPort(libp2p),
    get addresses() {
      return libp2p.getMultiaddrs().map((address) => address.toString());
    },
    async handle(protocol, handler, limits) {
      const onStream = (stream: Stream, connection: Connection): void => {
        const served = serve(stream, connection, handler, limits).finally(() => serving.delete(served));
        serving.add(served);
      };
      await libp2p.handle(protocol, onStream, { maxInboundStreams: MAX_INBOUND_STREAMS, maxOutboundStreams: MAX_OUTBOUND_STREAMS });
    },
    dial: (nodeId, protocol, signal, limits) => dial({ libp2p, trust, clock, nodeId, protocol, signal, limits }),
    disconnect: (nodeId) => abortConnections((connection) => remoteOf(connection, trust)?.nodeId === nodeId, 'disconnected'),
    applyTrust: () => abortConnections((connection) => remoteOf(connection, trust) === undefined, 'no longer listed'),
    connectedNodes: () => [...new Set(libp2p.getConnections().flatMap((connection) => remoteOf(connection, trust)?.nodeId ?? []))],
    async close() {
      abortConnections(() => true, 'the node is closing');
      await libp2p.stop();
      await Promise.all(serving);
    },
  };
}

async function dial(request: {
  libp2p: Libp2p;
  trust: PeerTrust;
  clock: Clock;
  nodeId: NodeId;
  protocol: string;
  signal: AbortSignal | undefined;
  limits: PeerStreamLimits | undefined;
}): Promise<PeerStream> {
  const { libp2p, trust, clock, nodeId, protocol, limits } = request;
  const entry = trust.entryOf(nodeId);
  if (entry === undefined)
    throw new MeshError(
      'FAILED_PRECONDITION',
      'PEER_NOT_LISTED',
      'That hospital is not an active member on the current trust list. Ask the operator of the network.',
    );
  const timeout = AbortSignal.timeout(DIAL_TIMEOUT_MS);
  const signal = request.signal === undefined ? timeout : AbortSignal.any([request.signal, timeout]);
  try {
    const open = libp2p
      .getConnections()
      .find((connection) => connection.remotePeer.toString() === entry.peerId && connection.status === 'open');
    const connection =
      open ??
      (await libp2p.dial(
        entry.addresses.map((address) => addressedTo(address, entry.peerId)),
        { signal },
      ));
    const stream = await connection.newStream(protocol, { signal });
    return wrapStream(stream, { peerId: entry.peerId, nodeId }, clock, limits);
  } catch (cause) {
    request.signal?.throwIfAborted();
    throw new MeshError(
      'UNAVAILABLE',
      'PEER_UNREACHABLE',
      `${entry.name} cannot be reached now. Try again later; if it lasts, its IT department should look at its node and firewall.`,
      { cause },
    );
  }
}

/** A peer has few connections, so that none takes every place: the newest stay, for an old one may be dead without a word. */
function endSurplus(libp2p: Libp2p, { remotePeer }: Connection): void {
  const own = libp2p.getConnections(remotePeer).sort((a, b) => a.timeline.open - b.timeline.open);
  for (const connection of own.slice(0, -MAX_CONNECTIONS_PER_PEER)) connection.abort(new Error('too many connections of this peer'));
}

/** What was bound, whatever is announced: only libp2p's components know it. */
function boundPort(libp2p: Libp2p): number {
  const { components } = libp2p as Libp2p & {
    readonly components: { readonly transportManager: { getAddrs(): { toString(): string }[] } };
  };
  const [, port] = /\/tcp\/(\d+)/.exec(components.transportManager.getAddrs()[0]?.toString() ?? '') ?? [];
  return Number(port ?? 0);
}

function addressedTo(address: string, peerId: string): ReturnType<typeof multiaddr> {
  const bare = toMultiaddrText(address).replace(/\/p2p\/.*$/, '');
  return multiaddr(`${bare}/p2p/${peerId}`);
}

function remoteOf(connection: Connection, trust: PeerTrust): Remote | undefined {
  const peerId = connection.remotePeer.toString();
  const entry = trust.entryOfPeer(peerId);
  return entry === undefined ? undefined : { peerId, nodeId: entry.nodeId as NodeId };
}

async function privateKeyOf(bytes: Uint8Array): Promise<PrivateKey> {
  return bytes.length === 32 ? generateKeyPairFromSeed('Ed25519', bytes) : privateKeyFromProtobuf(bytes);
}

async function start(
  privateKey: PrivateKey,
  config: { host: string; port: number; announce?: readonly string[] },
  trust: PeerTrust,
  pending: PendingLimit,
): Promise<Libp2p> {
  try {
    return await createLibp2p({
      privateKey,
      addresses: { listen: [multiaddrOf(config.host, config.port)], announce: (config.announce ?? []).map(toMultiaddrText) },
      transports: [tcp({ dialOpts: { noDelay: true }, listenOpts: { noDelay: true } })],
      connectionEncrypters: [tls()],
      streamMuxers: [
        yamux({
          // Both protocols at their limit; yamux counts the streams of a connection together.
          maxInboundStreams: 2 * MAX_INBOUND_STREAMS,
          maxOutboundStreams: 2 * MAX_OUTBOUND_STREAMS,
          streamOptions: {
            maxStreamWindowSize: MAX_STREAM_WINDOW_BYTES,
            maxReadBufferLength: MAX_PAUSED_BYTES,
            maxWriteBufferLength: MAX_WRITE_BUFFER_BYTES,
          },
        }),
      ],
      connectionGater: createGater(trust, pending),
      connectionManager: {
        maxConnections: MAX_CONNECTIONS,
        maxIncomingPendingConnections: MAX_PENDING,
        // A second of one remote address, and a hospital group may stand behind one.
        inboundConnectionThreshold: MAX_CONNECTIONS,
        inboundUpgradeTimeout: INBOUND_UPGRADE_TIMEOUT_MS,
        dialTimeout: DIAL_TIMEOUT_MS,
        addressDialTimeout: DIAL_TIMEOUT_MS / 2,
        reconnectRetries: 0,
      },
    });
  } catch (cause) {
    throw new MeshError(
      'UNAVAILABLE',
      'PEER_PORT_IN_USE',
      `The peer port ${config.host}:${config.port} cannot be opened. Another program may be using it: stop that one or choose another port.`,
      { cause },
    );
  }
}
