import { CLOCK_TOLERANCE_MS, type GrantClaims } from '@meridian/shared/grant';
import type { Clock } from '@meridian/shared/platform/clock';

/** Counts what was sent under each grant, all streams and resumptions together. */
export interface ByteBudget {
  /** @returns false when `bytes` more would exceed the grant's cap; nothing is charged then. */
  charge(grant: Pick<GrantClaims, 'jti' | 'bytes' | 'exp'>, bytes: number): boolean;
}

/** Grants are forgotten once nobody can present them any more. */
export function openByteBudget(clock: Clock): ByteBudget {
  const spent = new Map<string, { bytes: number; readonly forgetAtEpochMs: number }>();
  function accountOf(grant: Pick<GrantClaims, 'jti' | 'exp'>): { bytes: number } {
    const known = spent.get(grant.jti);
    if (known !== undefined) return known;
    for (const [jti, account] of spent) if (account.forgetAtEpochMs < clock.now()) spent.delete(jti);
    // A lease may outlive exp by the tolerance, on its own clock; twice that is kept.
    const account = { bytes: 0, forgetAtEpochMs: grant.exp * 1000 + 2 * CLOCK_TOLERANCE_MS };
    spent.set(grant.jti, account);
    return account;
  }
  return {
    charge(grant, bytes) {
      const account = accountOf(grant);
      if (account.bytes + bytes > grant.bytes) return false;
      account.bytes += bytes;
      return true;
    },
  };
}
