import { MeshError } from '@meridian/shared/errors';
import type { Clock } from '@meridian/shared/platform/clock';

/** A sender must bring so much in each window of waiting for it; time in which we are the slow ones does not count. */
export interface Pace {
  readonly bytes: number;
  readonly waitMs: number;
}

/** 1 KiB/s: slower than any network that carries images. */
export const SENDER_PACE: Pace = { bytes: 30 * 1024, waitMs: 30_000 };

/**
 * Passes a body on and ends it where the sender trickles: each such request would hold a connection for days. Total
 * silence is ended by the listener's idle limit.
 * @throws MeshError DEADLINE_EXCEEDED / SENDER_TOO_SLOW
 */
export async function* atPace(
  source: AsyncIterable<Buffer>,
  clock: Clock,
  pace: Pace = SENDER_PACE,
): AsyncGenerator<Buffer, void, undefined> {
  const chunks = source[Symbol.asyncIterator]();
  let waitedMs = 0;
  let bytes = 0;
  try {
    for (;;) {
      const asked = clock.monotonicMs();
      const { done, value } = await chunks.next();
      if (done === true) return;
      waitedMs += clock.monotonicMs() - asked;
      bytes += value.length;
      if (bytes >= pace.bytes) {
        waitedMs = 0;
        bytes = 0;
      } else if (waitedMs > pace.waitMs) {
        throw new MeshError(
          'DEADLINE_EXCEEDED',
          'SENDER_TOO_SLOW',
          'The request came too slowly and was ended. What had come whole is stored; send the rest again.',
        );
      }
      yield value;
    }
  } finally {
    await chunks.return?.();
  }
}
