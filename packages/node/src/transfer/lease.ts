import { CLOCK_TOLERANCE_MS, type GrantClaims } from '@meridian/shared/grant';
import type { Clock } from '@meridian/shared/platform/clock';

/** How long a transfer may go on: from acceptance on it runs on the monotonic clock, whatever the wall clock does. */
export interface Lease {
  /** Takes an accepted grant; a renewal never shortens the lease. */
  extend(grant: Pick<GrantClaims, 'iat' | 'exp'>): void;
  readonly over: boolean;
  cancel(): void;
}

/** @param onOver called once when the lease runs out. */
export function openLease(clock: Clock, onOver: () => void): Lease {
  let endsAtMs = 0;
  let timer: { cancel(): void } | undefined;
  return {
    extend(grant) {
      // The grant's own life at most; the two clocks may differ by the tolerance.
      const lifeMs = Math.min((grant.exp - grant.iat) * 1000, grant.exp * 1000 + CLOCK_TOLERANCE_MS - clock.now());
      endsAtMs = Math.max(endsAtMs, clock.monotonicMs() + Math.max(lifeMs, 0));
      timer?.cancel();
      timer = clock.after(endsAtMs - clock.monotonicMs(), onOver);
    },
    get over() {
      return clock.monotonicMs() >= endsAtMs;
    },
    cancel() {
      timer?.cancel();
    },
  };
}
