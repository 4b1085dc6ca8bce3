import { asMeshError, type MeshError } from '@meridian/shared/errors';
import { readGrant } from '@meridian/shared/grant';
import type { Clock } from '@meridian/shared/platform/clock';
import type { PeerStream } from '../peer/peer-host.ts';
import { encodeStep } from './codec.ts';
import { RENEW_AFTER_SHARE, RENEW_RETRY_MS } from './limits.ts';

/** Keeps a running fetch under a valid grant. */
export interface Renewal {
  /** The refusal of a renewal: the fetch ends with it. An index that cannot be reached is none, it is tried again. */
  failure(): MeshError | undefined;
  stop(): void;
}

/** Asks for a new grant at four fifths of the life of the one before, and sends it to the holder. */
export function keepRenewed(
  request: { readonly grant: string; readonly renewGrant: (signal: AbortSignal) => Promise<string>; readonly clock: Clock },
  stream: PeerStream,
): Renewal {
  const stopped = new AbortController();
  let refused: MeshError | undefined;
  let timer: { cancel(): void };

  function planNext(grant: string): void {
    const { iat, exp } = readGrant(grant);
    timer = request.clock.after((exp - iat) * 1000 * RENEW_AFTER_SHARE, () => void renew());
  }
  async function renew(): Promise<void> {
    try {
      const grant = await request.renewGrant(stopped.signal);
      if (stopped.signal.aborted) return;
      stream.send(encodeStep({ $case: 'renew', value: { grant: { compact: grant } } }));
      planNext(grant);
    } catch (thrown) {
      if (stopped.signal.aborted) return;
      const error = asMeshError(thrown);
      if (error.code === 'UNAVAILABLE' || error.code === 'DEADLINE_EXCEEDED') {
        // The lease still runs; if the index stays away the holder ends the transfer with GRANT_EXPIRED.
        timer = request.clock.after(RENEW_RETRY_MS, () => void renew());
        return;
      }
      refused = error;
      stream.abort('the grant was not renewed');
    }
  }
  planNext(request.grant);
  return {
    failure: () => refused,
    stop() {
      stopped.abort();
      timer.cancel();
    },
  };
}
