import { MeshError } from '@meridian/shared/errors';
import type { Clock } from '@meridian/shared/platform/clock';

const WINDOW_MS = 60_000;
const MAX_ADDRESSES_REMEMBERED = 10_000;

/** Counts tries at the two doors that need no certificate. */
export interface AttemptLimit {
  /**
   * @param address the caller's, as the transport names it ("ipv4:192.0.2.7:50123").
   * @throws MeshError RESOURCE_EXHAUSTED / TOO_MANY_ATTEMPTS
   */
  count(address: string): void;
}

/** At most `perAddress` tries a minute from one address and `overall` from all. Guessing 128 bits is hopeless; this protects the CPU. */
export function openAttemptLimit(parts: { readonly clock: Clock; readonly perAddress: number; readonly overall: number }): AttemptLimit {
  const counts = new Map<string, number>();
  let total = 0;
  let windowStart = parts.clock.monotonicMs();
  return {
    count: (address) => {
      if (parts.clock.monotonicMs() - windowStart >= WINDOW_MS || counts.size >= MAX_ADDRESSES_REMEMBERED) {
        counts.clear();
        total = 0;
        windowStart = parts.clock.monotonicMs();
      }
      const host = address.replace(/:\d+$/, '');
      const count = (counts.get(host) ?? 0) + 1;
      counts.set(host, count);
      total += 1;
      if (count > parts.perAddress || total > parts.overall) {
        throw new MeshError('RESOURCE_EXHAUSTED', 'TOO_MANY_ATTEMPTS', 'Too many tries in one minute. Wait a minute and try again.');
      }
    },
  };
}
