import { MeshError, statusName, type Reason } from '@meridian/shared/errors';
import type { SignedObject } from '@meridian/shared/generated/meridian/v1/common';
import { ControlReply, ControlRequest } from '@meridian/shared/generated/meridian/v1/control';
import type { NodeId } from '@meridian/shared/identifiers';
import { CONTROL_PROTOCOL, CONTROL_TIMEOUT_MS } from './limits.ts';
import type { MeshParts } from './parts.ts';
import { answerControl } from './serve-control.ts';

/** Node to node, without the index. Every call ends within ten seconds; errors are the other node's or UNAVAILABLE / PEER_…. */
export interface Mesh {
  /** Hands over a consent statement, a revocation above all. Resolves when the other node has it durably. */
  deliverConsent(nodeId: NodeId, compact: string, signal?: AbortSignal): Promise<void>;
  deliverRecall(nodeId: NodeId, manifest: SignedObject, signal?: AbortSignal): Promise<void>;
  /** @returns the other node's clock. */
  ping(nodeId: NodeId, signal?: AbortSignal): Promise<{ atEpochMs: number; softwareVersion: string }>;
  /** Trades trust-list heads; the newer list wins on both sides. @returns whether the other's was newer and was taken. */
  exchangeHeads(nodeId: NodeId, signal?: AbortSignal): Promise<boolean>;
  close(): Promise<void>;
}

type Request = NonNullable<ControlRequest['request']>;
type Reply = NonNullable<ControlReply['reply']>;

/** Serves and speaks /meridian/control/1.0.0: one request and one reply a stream. */
export async function openMesh(parts: MeshParts): Promise<Mesh> {
  const { federation, log } = parts;
  const closing = new AbortController();
  const catchingUp = new Map<NodeId, Promise<void>>();

  async function ask<Case extends Reply['$case']>(
    nodeId: NodeId,
    request: Request,
    expected: Case,
    signal?: AbortSignal,
  ): Promise<Extract<Reply, { $case: Case }>> {
    const limits = [closing.signal, AbortSignal.timeout(CONTROL_TIMEOUT_MS), ...(signal === undefined ? [] : [signal])];
    const stream = await parts.peerHost.dial(nodeId, CONTROL_PROTOCOL, AbortSignal.any(limits), { idleTimeoutMs: CONTROL_TIMEOUT_MS });
    const onAbort = (): void => stream.abort('cancelled');
    const ending = AbortSignal.any(limits);
    ending.addEventListener('abort', onAbort, { once: true });
    try {
      stream.send(ControlRequest.encode({ request }).finish());
      for await (const frame of stream.messages()) return matching(decodeReply(frame), expected);
      throw new MeshError('UNAVAILABLE', 'PEER_GONE', 'The other hospital ended the call without an answer. Try again.');
    } finally {
      ending.removeEventListener('abort', onAbort);
      await stream.close();
    }
  }

  async function exchangeHeads(nodeId: NodeId, signal?: AbortSignal): Promise<boolean> {
    const own = federation.trust();
    const { value } = await ask(nodeId, { $case: 'exchangeHeads', value: { head: own?.head } }, 'exchangeHeads', signal);
    if (value.head === undefined) return false;
    return federation.offerTrust(value).catch((thrown: unknown) => {
      // Ours is the newer one: the other node asks for it now.
      if (thrown instanceof MeshError && thrown.reason === 'TRUST_LIST_ROLLBACK') return false;
      throw thrown;
    });
  }

  /** The other node has a newer list: fetched once at a time, in the background. */
  function catchUp(nodeId: NodeId): void {
    if (catchingUp.has(nodeId) || closing.signal.aborted) return;
    const work = exchangeHeads(nodeId)
      .catch((thrown: unknown) => log.warn({ event: 'mesh.trust-not-taken', nodeId, err: thrown }))
      .then(() => void catchingUp.delete(nodeId));
    catchingUp.set(nodeId, work);
  }
  await parts.peerHost.handle(CONTROL_PROTOCOL, (stream) => answerControl(stream, { ...parts, onNewerHead: catchUp }), {
    idleTimeoutMs: CONTROL_TIMEOUT_MS,
  });

  return {
    async deliverConsent(nodeId, compact, signal) {
      await ask(nodeId, { $case: 'deliverConsent', value: { statement: { compact } } }, 'delivered', signal);
    },
    async deliverRecall(nodeId, manifest, signal) {
      await ask(nodeId, { $case: 'deliverRecall', value: { manifest } }, 'delivered', signal);
    },
    async ping(nodeId, signal) {
      const { value } = await ask(nodeId, { $case: 'ping', value: {} }, 'pong', signal);
      return { atEpochMs: Number(value.atEpochMs), softwareVersion: value.softwareVersion };
    },
    exchangeHeads,
    async close() {
      closing.abort(new MeshError('CANCELLED', 'NODE_CLOSING', 'The node is being stopped.'));
      await Promise.all(catchingUp.values());
    },
  };
}

function decodeReply(frame: Uint8Array): Reply | undefined {
  try {
    return ControlReply.decode(frame).reply;
  } catch (cause) {
    throw new MeshError('UNAVAILABLE', 'PEER_PROTOCOL', "The other hospital's node answered with bytes that are no reply.", { cause });
  }
}

function matching<Case extends Reply['$case']>(reply: Reply | undefined, expected: Case): Extract<Reply, { $case: Case }> {
  if (reply?.$case === 'error') {
    const { status, reason } = reply.value;
    const known = /^[A-Z][A-Z0-9_]{1,63}$/.test(reason) ? (reason as Reason) : 'PEER_REFUSED';
    throw new MeshError(statusName(status), known, `The other hospital's node refused (${known}).`);
  }
  if (reply?.$case !== expected)
    throw new MeshError('UNAVAILABLE', 'PEER_PROTOCOL', "The other hospital's node answered another question than the one asked.");
  return reply as Extract<Reply, { $case: Case }>;
}
