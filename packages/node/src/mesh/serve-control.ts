import { asMeshError, MeshError, STATUS_NUMBERS } from '@meridian/shared/errors';
import { ControlReply, ControlRequest } from '@meridian/shared/generated/meridian/v1/control';
import { TrustListHead } from '@meridian/shared/generated/meridian/v1/trust';
import type { SignedObject } from '@meridian/shared/generated/meridian/v1/common';
import type { NodeId } from '@meridian/shared/identifiers';
import type { PeerStream } from '../peer/peer-host.ts';
import { MAX_SEGMENTS_BYTES } from './limits.ts';
import type { MeshParts } from './parts.ts';

/** What answering needs beside the parts: to be told when the other node has a newer trust list. */
export type ControlParts = MeshParts & { readonly onNewerHead: (nodeId: NodeId) => void };

type Reply = NonNullable<ControlReply['reply']>;

/** Answers the one request of a stream. A refused or malformed request gets its error as the reply. */
export async function answerControl(stream: PeerStream, parts: ControlParts): Promise<void> {
  for await (const frame of stream.messages()) {
    let reply: Reply;
    try {
      reply = await replyTo(decodeRequest(frame), stream.remote.nodeId, parts);
    } catch (thrown) {
      const error = asMeshError(thrown);
      if (error.code === 'INTERNAL') parts.log.error({ event: 'mesh.request-failed', nodeId: stream.remote.nodeId, err: thrown });
      reply = { $case: 'error', value: { status: STATUS_NUMBERS[error.code], reason: error.reason, message: error.message.slice(0, 300) } };
    }
    stream.send(ControlReply.encode({ reply }).finish());
    return;
  }
}

function decodeRequest(frame: Uint8Array): NonNullable<ControlRequest['request']> {
  let request: ControlRequest['request'];
  try {
    request = ControlRequest.decode(frame).request;
  } catch (cause) {
    throw new MeshError('INVALID_ARGUMENT', 'FRAME_INVALID', 'These bytes are no request of the control protocol.', { cause });
  }
  if (request === undefined)
    throw new MeshError(
      'UNIMPLEMENTED',
      'REQUEST_UNKNOWN',
      'This node does not know that request. It may be older than the one that asked.',
    );
  return request;
}

async function replyTo(request: NonNullable<ControlRequest['request']>, from: NodeId, parts: ControlParts): Promise<Reply> {
  switch (request.$case) {
    case 'ping':
      return { $case: 'pong', value: { atEpochMs: BigInt(parts.clock.now()), softwareVersion: parts.softwareVersion ?? '' } };
    case 'deliverConsent':
      await parts.onConsent(request.value.statement?.compact ?? '', from);
      return { $case: 'delivered', value: {} };
    case 'deliverRecall':
      if (request.value.manifest === undefined)
        throw new MeshError('INVALID_ARGUMENT', 'MANIFEST_MISSING', 'A recall must carry the signed manifest that it is about.');
      await parts.onRecall(request.value.manifest, from);
      return { $case: 'delivered', value: {} };
    case 'exchangeHeads':
      return exchangeHeads(request.value.head, from, parts);
  }
}

function exchangeHeads(offered: SignedObject | undefined, from: NodeId, parts: ControlParts): Reply {
  const own = parts.federation.trust();
  if (own === undefined) throw new MeshError('FAILED_PRECONDITION', 'TRUST_LIST_MISSING', 'This node has no trust list yet.');
  const theirSeq = seqOf(offered);
  // Only a hint so far: the list itself is asked for, and its signatures are checked, before it is taken.
  if (theirSeq > own.seq) parts.onNewerHead(from);
  const segments = theirSeq < own.seq ? own.segments : [];
  const bytes = segments.reduce((sum, { segment }) => sum + segment.length, 0);
  return { $case: 'exchangeHeads', value: { head: own.head, deltas: [], segments: bytes <= MAX_SEGMENTS_BYTES ? [...segments] : [] } };
}

/** @returns 0 for what is no head. */
function seqOf(head: SignedObject | undefined): number {
  if (head === undefined) return 0;
  try {
    return Number(TrustListHead.decode(head.payload).seq);
  } catch {
    return 0;
  }
}
