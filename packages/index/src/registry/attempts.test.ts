import { expect, test } from '@jest/globals';
import { systemClock } from '@meridian/shared/platform/clock';
import { networkOf, openAttemptLimit } from './attempts.ts';

test('what one stranger is refused does not count against everybody', () => {
  let nowMs = 0;
  const limit = openAttemptLimit({ clock: { ...systemClock, monotonicMs: () => nowMs }, perCaller: 3, overall: 10 });
  const tries = (caller: string, count: number): number =>
    Array.from({ length: count }).filter(() => {
      try {
        limit.count(caller);
        return true;
      } catch {
        return false;
      }
    }).length;
  expect(tries('192.0.2.1', 1000)).toBe(3);
  expect(tries('192.0.2.2', 2)).toBe(2);
  // Many addresses together still meet the limit of all.
  expect(Array.from({ length: 10 }, (_, last) => tries(`198.51.100.${last}`, 1)).filter((passed) => passed === 1)).toHaveLength(5);
  nowMs = 60_000;
  expect(tries('192.0.2.1', 4)).toBe(3);
});

test('an IPv6 caller is counted by its network, an IPv4 one by its address', () => {
  expect(networkOf('192.0.2.7:50123')).toBe('192.0.2.7');
  expect(networkOf('::ffff:192.0.2.7:50123')).toBe('192.0.2.7');
  expect(networkOf('[2001:db8:0:7::1]:50123')).toBe(networkOf('[2001:db8:0:7:ffff:1:2:3]:1'));
  expect(networkOf('[2001:db8:0:8::1]:50123')).not.toBe(networkOf('[2001:db8:0:7::1]:50123'));
  expect(networkOf('unknown')).toBe('unknown');
});
