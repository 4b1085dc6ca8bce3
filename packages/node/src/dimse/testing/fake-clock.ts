import type { Clock } from '@meridian/shared/platform/clock';

/** A clock that moves only when told to. */
export class FakeClock implements Clock {
  #nowMs = 1_000;
  readonly #timers = new Set<{ readonly atMs: number; readonly callback: () => void }>();

  now(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  async sleep(ms: number): Promise<void> {
    await new Promise<void>((resolve) => this.after(ms, resolve));
  }

  after(ms: number, callback: () => void): { cancel(): void } {
    const timer = { atMs: this.#nowMs + ms, callback };
    this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  }

  advance(ms: number): void {
    this.#nowMs += ms;
    for (const timer of [...this.#timers].toSorted((a, b) => a.atMs - b.atMs)) {
      if (timer.atMs > this.#nowMs || !this.#timers.delete(timer)) continue;
      timer.callback();
    }
  }
}
