import { EnrolmentServiceService, type EnrolmentServiceServer } from '@meridian/shared/generated/meridian/v1/enrolment';
import { unaryHandler } from '@meridian/shared/grpc';
import type { Logger } from '@meridian/shared/log';
import { networkOf, type AttemptLimit } from './attempts.ts';
import { join, type JoinParts } from './join.ts';
import { renew } from './renew.ts';

/** The two doors that need no client certificate. */
export function enrolmentService(
  parts: JoinParts & { readonly attempts: AttemptLimit; readonly renewals: AttemptLimit; readonly log: Logger },
): { definition: typeof EnrolmentServiceService; implementation: EnrolmentServiceServer } {
  return {
    definition: EnrolmentServiceService,
    implementation: {
      join: unaryHandler({
        log: parts.log,
        authenticate: (call: { getPeer(): string }) => parts.attempts.count(networkOf(call.getPeer())),
        handle: (request) => join(parts, request),
      }),
      // A renewal is counted by the node that signed it: strangers at this door stop no member.
      renew: unaryHandler({ log: parts.log, authenticate: () => undefined, handle: (request) => renew(parts, request) }),
    },
  };
}
