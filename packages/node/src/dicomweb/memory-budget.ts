import { MeshError } from '@meridian/shared/errors';
import type { Clock } from '@meridian/shared/platform/clock';

/** Memory that somebody has been allowed; given back once, however often that is said. */
export interface HeldMemory {
  /** Gives back what is above so many bytes. */
  shrinkTo(bytes: number): void;
  release(): void;
}

/** Bytes that many requests may hold together. */
export interface MemoryBudget {
  /**
   * Waits until so many bytes are free, first come first served.
   * @throws MeshError RESOURCE_EXHAUSTED / MEMORY_BUSY where they are not in time, or never can be
   */
  take(bytes: number): Promise<HeldMemory>;
}

interface Waiter {
  readonly bytes: number;
  readonly admit: () => void;
}

/** @param options.waitMs longest wait of one request */
export function openMemoryBudget({
  totalBytes,
  waitMs,
  clock,
}: {
  readonly totalBytes: number;
  readonly waitMs: number;
  readonly clock: Clock;
}): MemoryBudget {
  let freeBytes = totalBytes;
  const waiting: Waiter[] = [];
  const giveBack = (bytes: number): void => {
    freeBytes += bytes;
    for (let next = waiting[0]; next !== undefined && next.bytes <= freeBytes; next = waiting[0]) {
      waiting.shift();
      freeBytes -= next.bytes;
      next.admit();
    }
  };
  const held = (taken: number): HeldMemory => {
    let bytes = taken;
    const shrinkTo = (left: number): void => {
      const over = bytes - left;
      if (over <= 0) return;
      bytes = left;
      giveBack(over);
    };
    return { shrinkTo, release: () => shrinkTo(0) };
  };
  return {
    async take(bytes) {
      if (bytes > totalBytes) throw busy();
      if (waiting.length === 0 && bytes <= freeBytes) {
        freeBytes -= bytes;
        return held(bytes);
      }
      return new Promise((resolve, reject) => {
        const waiter: Waiter = {
          bytes,
          admit: () => {
            timer.cancel();
            resolve(held(bytes));
          },
        };
        const timer = clock.after(waitMs, () => {
          waiting.splice(waiting.indexOf(waiter), 1);
          reject(busy());
          // The one behind may be smaller.
          giveBack(0);
        });
        waiting.push(waiter);
      });
    },
  };
}

function busy(): MeshError {
  return new MeshError(
    'RESOURCE_EXHAUSTED',
    'MEMORY_BUSY',
    'Too many large objects are being prepared at this moment. Ask again in a minute.',
  );
}
