import type { Clock } from '@meridian/shared/platform/clock';

/**
 * One deadline that is moved often (at every PDU) and passes rarely: a moved deadline costs no timer, the one that is
 * armed looks again when it fires.
 */
export class Deadline {
  readonly #clock: Clock;
  readonly #onPassed: (waitedMs: number) => void;
  #waitMs = 0;
  #atMs: number | undefined;
  #armed: { readonly atMs: number; cancel(): void } | undefined;

  constructor(clock: Clock, onPassed: (waitedMs: number) => void) {
    this.#clock = clock;
    this.#onPassed = onPassed;
  }

  /** The deadline is now `ms` from now; one set before is forgotten. */
  set(ms: number): void {
    const now = this.#clock.monotonicMs();
    const atMs = now + ms;
    this.#waitMs = ms;
    this.#atMs = atMs;
    if (this.#armed !== undefined && this.#armed.atMs <= atMs) return;
    this.#armed?.cancel();
    this.#arm(now, atMs);
  }

  /** There is no deadline until the next `set`. */
  clear(): void {
    this.#atMs = undefined;
  }

  /** For good: nothing is left armed. */
  close(): void {
    this.#atMs = undefined;
    this.#armed?.cancel();
    this.#armed = undefined;
  }

  #arm(now: number, atMs: number): void {
    const timer = this.#clock.after(Math.max(1, atMs - now), () => this.#look());
    this.#armed = { atMs, cancel: () => timer.cancel() };
  }

  #look(): void {
    this.#armed = undefined;
    if (this.#atMs === undefined) return;
    const now = this.#clock.monotonicMs();
    if (now < this.#atMs) return this.#arm(now, this.#atMs);
    this.#atMs = undefined;
    this.#onPassed(this.#waitMs);
  }
}
