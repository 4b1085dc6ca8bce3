import type { Clock } from '@meridian/shared/platform/clock';

/**
 * Waits for a condition that changes by events, never longer than `limitMs` since the last wake.
 * @param listen registers a callback for every event that may change the condition; returns how to unregister.
 * @returns true when the condition holds, false when nothing happened for `limitMs`.
 * @throws the signal's reason when aborted.
 */
export async function waitUntil(parts: {
  readonly ready: () => boolean;
  readonly listen: (wake: () => void) => () => void;
  readonly clock: Clock;
  readonly limitMs: number;
  readonly signal?: AbortSignal | undefined;
}): Promise<boolean> {
  const { ready, listen, clock, limitMs, signal } = parts;
  for (;;) {
    signal?.throwIfAborted();
    if (ready()) return true;
    const woke = await new Promise<boolean>((resolve) => {
      const finish = (value: boolean): void => {
        unlisten();
        timer.cancel();
        signal?.removeEventListener('abort', onAbort);
        resolve(value);
      };
      const onAbort = (): void => finish(true);
      const timer = clock.after(limitMs, () => finish(false));
      const unlisten = listen(() => finish(true));
      signal?.addEventListener('abort', onAbort, { once: true });
    });
    if (!woke) return ready();
  }
}
