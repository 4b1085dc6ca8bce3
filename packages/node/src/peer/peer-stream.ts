import type { Stream } from '@libp2p/interface';
import { MeshError } from '@meridian/shared/errors';
import type { NodeId } from '@meridian/shared/identifiers';
import type { Clock } from '@meridian/shared/platform/clock';
import { encodeFrame, framePrefix } from './frames.ts';
import { openInbox } from './inbox.ts';
import { CLOSE_TIMEOUT_MS, DEFAULT_IDLE_TIMEOUT_MS, MAX_FRAME_BYTES, MAX_PAUSED_BYTES } from './limits.ts';
import { waitUntil } from './wait.ts';

/** Smaller payloads are copied behind their prefix, so that they travel as one piece. */
const COPY_BELOW_BYTES = 16 * 1024;

/** Who is at the other end, as the connection's key and the trust list say. */
export interface Remote {
  readonly peerId: string;
  readonly nodeId: NodeId;
}

/** A stream of length-delimited frames to one listed peer, with back-pressure and an end to every wait. */
export interface PeerStream {
  readonly remote: Remote;
  /** Aborted as soon as the stream is over, however it ended. */
  readonly closed: AbortSignal;
  /**
   * Sends one frame; the payload may not be changed afterwards.
   * @param end more of the same frame: large bytes travel without a copy behind a small head, which is the payload then.
   * @returns false when the line is full: wait for `drained()` before the next.
   * @throws MeshError UNAVAILABLE / PEER_GONE on a closed stream.
   */
  send(payload: Uint8Array, end?: Uint8Array): boolean;
  /**
   * Resolves when the line takes more.
   * @throws MeshError UNAVAILABLE / PEER_GONE, or DEADLINE_EXCEEDED / PEER_SILENT without progress for the idle time (the stream is reset then).
   */
  drained(signal?: AbortSignal): Promise<void>;
  /**
   * The frames of the other end, until it closes its side. One reader only.
   * @throws MeshError UNAVAILABLE / PEER_GONE on a reset or an end within a frame, DEADLINE_EXCEEDED / PEER_SILENT, INVALID_ARGUMENT / FRAME_….
   */
  messages(): AsyncIterable<Uint8Array>;
  /** Flushes and ends our side, waits for the other side's end, resets after two seconds. Never throws. */
  close(): Promise<void>;
  /** Resets the stream at once; what is unsent is thrown away. */
  abort(reason: string): void;
}

/** Limits of one stream; the defaults suit both protocols. */
export interface PeerStreamLimits {
  readonly maxFrameBytes?: number;
  /** Longest wait without any progress, for reads and writes. */
  readonly idleTimeoutMs?: number;
  /** The same for reads alone, where the other end may rightly say nothing for long. */
  readonly readIdleTimeoutMs?: number;
}

/** Wraps a libp2p stream. Whoever takes it closes it in `finally`. */
export function wrapStream(stream: Stream, remote: Remote, clock: Clock, limits: PeerStreamLimits = {}): PeerStream {
  const idleTimeoutMs = limits.idleTimeoutMs ?? DEFAULT_IDLE_TIMEOUT_MS;
  const readIdleTimeoutMs = limits.readIdleTimeoutMs ?? idleTimeoutMs;
  const closed = new AbortController();
  stream.maxReadBufferLength = MAX_PAUSED_BYTES;
  const inbox = openInbox(stream, limits.maxFrameBytes ?? MAX_FRAME_BYTES);
  stream.addEventListener('close', () => closed.abort(gone()));

  function abort(reason: string): void {
    stream.abort(new Error(reason));
  }
  async function patiently(wait: {
    listen: (wake: () => void) => () => void;
    ready: () => boolean;
    limitMs: number;
    signal?: AbortSignal | undefined;
  }): Promise<void> {
    if (await waitUntil({ ...wait, clock })) return;
    abort('nothing moved for the idle time');
    throw new MeshError('DEADLINE_EXCEEDED', 'PEER_SILENT', 'The other hospital stopped answering. Try again: what has arrived is kept.');
  }

  return {
    remote,
    closed: closed.signal,
    send(payload, end) {
      if (stream.status !== 'open' || stream.writeStatus !== 'writable') throw gone();
      if (end !== undefined) {
        stream.send(Buffer.concat([framePrefix(payload.length + end.length), payload]));
        if (end.length > 0) stream.send(end);
      } else if (payload.length < COPY_BELOW_BYTES) stream.send(encodeFrame(payload));
      else {
        stream.send(framePrefix(payload.length));
        stream.send(payload);
      }
      return !stream.writableNeedsDrain;
    },
    async drained(signal) {
      // Not stream.onDrain(): its promise stays resolved after the first drain, so later waits would not wait.
      const listen = (wake: () => void): (() => void) => listenTo(stream, ['drain', 'close'], wake);
      await patiently({ listen, ready: () => stream.status !== 'open' || !stream.writableNeedsDrain, limitMs: idleTimeoutMs, signal });
      if (stream.status !== 'open') throw gone();
    },
    async *messages() {
      for (;;) {
        const frame = inbox.shift();
        if (frame !== undefined) yield frame;
        else if (inbox.ended === undefined)
          await patiently({ listen: (wake) => inbox.onNews(wake), ready: () => inbox.ready, limitMs: readIdleTimeoutMs });
        else if (inbox.ended.error === undefined) return;
        else throw inbox.ended.error instanceof MeshError ? inbox.ended.error : gone(inbox.ended.error);
      }
    },
    async close() {
      inbox.discard();
      try {
        await stream.close({ signal: AbortSignal.timeout(CLOSE_TIMEOUT_MS) });
        await waitUntil({
          ready: () => isOver(stream),
          listen: (wake) => listenTo(stream, ['close', 'end'], wake),
          clock,
          limitMs: CLOSE_TIMEOUT_MS,
        });
      } catch {
        // The line is full or broken: the reset below is the answer to both.
      }
      if (!isOver(stream)) abort('not closed in time');
    },
    abort,
  };
}

function isOver(stream: Stream): boolean {
  return stream.status === 'closed' || stream.status === 'aborted' || stream.status === 'reset';
}

function listenTo(stream: Stream, events: readonly ('drain' | 'close' | 'end')[], wake: () => void): () => void {
  for (const event of events) stream.addEventListener(event, wake);
  return () => {
    for (const event of events) stream.removeEventListener(event, wake);
  };
}

function gone(cause?: unknown): MeshError {
  return new MeshError('UNAVAILABLE', 'PEER_GONE', 'The connection to the other hospital ended. Try again: what has arrived is kept.', {
    cause,
  });
}
