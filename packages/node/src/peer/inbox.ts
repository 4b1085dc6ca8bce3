import type { Stream } from '@libp2p/interface';
import { createFrameReader } from './frames.ts';
import { READ_QUEUE_HIGH_BYTES, READ_QUEUE_LOW_BYTES } from './limits.ts';

/** The frames of one stream that wait for their reader. The stream is paused while too many wait. */
export interface Inbox {
  shift(): Uint8Array | undefined;
  /** True when a read would not have to wait: a frame, an end or an error is there. */
  readonly ready: boolean;
  /** Set when the stream ended: undefined inside for a clean end. */
  readonly ended: { readonly error: Error | undefined } | undefined;
  /** From now on what comes is dropped. */
  discard(): void;
  /** Calls back on every change until the returned function is called. */
  onNews(wake: () => void): () => void;
}

/** @param maxFrameBytes see FrameReader. */
export function openInbox(stream: Stream, maxFrameBytes: number): Inbox {
  const reader = createFrameReader(maxFrameBytes);
  const frames: Uint8Array[] = [];
  const listeners = new Set<() => void>();
  let queuedBytes = 0;
  let ended: { error: Error | undefined } | undefined;
  let discarding = false;
  /** The other end closed its side in order; a lost connection never says so. */
  let finished = stream.remoteWriteStatus === 'closed';

  const news = (): void => {
    for (const wake of listeners) wake();
  };
  function end(error: Error | undefined): void {
    // What was received before a reset is still delivered: a CLOSE frame with its reason is often the last thing sent.
    setPaused(stream, false);
    const cutShort = !finished || reader.pendingBytes > 0 ? new Error('the stream broke off') : undefined;
    ended ??= { error: error ?? cutShort };
    news();
  }
  function take(piece: Uint8Array): void {
    if (discarding || ended !== undefined) return;
    for (const frame of reader.push(piece)) {
      frames.push(frame);
      queuedBytes += frame.length;
    }
  }

  stream.addEventListener('message', ({ data }) => {
    try {
      if (data instanceof Uint8Array) take(data);
      else for (const piece of data) take(piece);
    } catch (error) {
      ended ??= { error: error as Error };
      stream.abort(error as Error);
    }
    if (queuedBytes >= READ_QUEUE_HIGH_BYTES && ended === undefined) setPaused(stream, true);
    news();
  });
  stream.addEventListener('remoteCloseWrite', () => {
    finished = true;
  });
  // A reset says 'end' too, before 'close' tells the error.
  stream.addEventListener('end', () => {
    if (finished) end(undefined);
  });
  stream.addEventListener('close', (event) => end(event.error));

  return {
    shift() {
      const frame = frames.shift();
      if (frame === undefined) return undefined;
      queuedBytes -= frame.length;
      if (queuedBytes <= READ_QUEUE_LOW_BYTES) setPaused(stream, false);
      return frame;
    },
    get ready() {
      return frames.length > 0 || ended !== undefined;
    },
    get ended() {
      return ended;
    },
    discard() {
      discarding = true;
      frames.length = 0;
      queuedBytes = 0;
      setPaused(stream, false);
    },
    onNews(wake) {
      listeners.add(wake);
      return () => listeners.delete(wake);
    },
  };
}

/** Pauses or resumes unless the stream's reading side has ended, where libp2p throws. */
function setPaused(stream: Stream, paused: boolean): void {
  if (stream.readStatus === 'readable' && paused) stream.pause();
  else if (stream.readStatus === 'paused' && !paused) stream.resume();
}
