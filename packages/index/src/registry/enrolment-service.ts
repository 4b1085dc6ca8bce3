import { EnrolmentServiceService, type EnrolmentServiceServer } from '@meridian/shared/generated/meridian/v1/enrolment';
import { unaryHandler } from '@meridian/shared/grpc';
import type { Logger } from '@meridian/shared/log';
import type { AttemptLimit } from './attempts.ts';
import { join, type JoinParts } from './join.ts';
import { renew } from './renew.ts';

/** The two doors that need no client certificate. */
export function enrolmentService(parts: JoinParts & { readonly attempts: AttemptLimit; readonly log: Logger }): { definition: typeof EnrolmentServiceService; implementation: EnrolmentServiceServer } {
  const authenticate = (call: { getPeer(): string }): void => parts.attempts.count(call.getPeer());
  return {
    definition: EnrolmentServiceService,
    implementation: {
      join: unaryHandler({ log: parts.log, authenticate, handle: (request) => join(parts, request) }),
      renew: unaryHandler({ log: parts.log, authenticate, handle: (request) => renew(parts, request) }),
    },
  };
}
