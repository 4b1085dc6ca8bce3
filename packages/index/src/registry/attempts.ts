import { isIPv6 } from 'node:net';
import { MeshError } from '@meridian/shared/errors';
import type { Clock } from '@meridian/shared/platform/clock';

const WINDOW_MS = 60_000;

/** Counts tries within a minute. */
export interface AttemptLimit {
  /**
   * @param caller who tries: a node id, or an address as {@link networkOf} names it.
   * @throws MeshError RESOURCE_EXHAUSTED / TOO_MANY_ATTEMPTS
   */
  count(caller: string): void;
}

/**
 * At most `perCaller` tries a minute of one caller and `overall` of all. What is turned away for its caller alone does not
 * count toward all, or one stranger would shut the door for everybody.
 */
export function openAttemptLimit(parts: { readonly clock: Clock; readonly perCaller: number; readonly overall?: number }): AttemptLimit {
  const { clock, perCaller, overall = Number.POSITIVE_INFINITY } = parts;
  const counts = new Map<string, number>();
  let total = 0;
  let windowStart = clock.monotonicMs();
  return {
    count: (caller) => {
      if (clock.monotonicMs() - windowStart >= WINDOW_MS) {
        counts.clear();
        total = 0;
        windowStart = clock.monotonicMs();
      }
      const count = counts.get(caller) ?? 0;
      if (count >= perCaller || total >= overall) {
        throw new MeshError('RESOURCE_EXHAUSTED', 'TOO_MANY_ATTEMPTS', 'Too many tries in one minute. Wait a minute and try again.');
      }
      // Only what was let through is remembered: memory is bounded by what may pass in a minute.
      counts.set(caller, count + 1);
      total += 1;
    },
  };
}

/**
 * The network of a caller without a certificate, from what the transport names ("192.0.2.7:50123", "[2001:db8::1]:50123"):
 * an IPv4 address, or the /64 of an IPv6 one, all of which one caller may have.
 */
export function networkOf(peer: string): string {
  const host = peer
    .replace(/^ipv[46]:/, '')
    .replace(/:\d+$/, '')
    .replace(/^\[|\]$/g, '')
    .replace(/^::ffff:(?=\d+\.)/i, '');
  if (!isIPv6(host)) return host;
  const [before, after] = host.split('%')[0]!.split('::') as [string, string?];
  const head = before === '' ? [] : before.split(':');
  const tail = after === undefined || after === '' ? [] : after.split(':');
  const groups =
    after === undefined ? head : [...head, ...Array.from({ length: Math.max(0, 8 - head.length - tail.length) }, () => '0'), ...tail];
  return groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':');
}
