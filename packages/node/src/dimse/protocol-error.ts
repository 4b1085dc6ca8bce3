import { MeshError, type Reason } from '@meridian/shared/errors';

/** Reason field of an A-ABORT whose source is the service provider (PS3.8 9.3.8). */
const ABORT_REASONS = {
  NOT_SPECIFIED: 0,
  PDU_UNRECOGNISED: 1,
  PDU_UNEXPECTED: 2,
  PDU_PARAMETER_UNRECOGNISED: 4,
  PDU_PARAMETER_UNEXPECTED: 5,
  PDU_PARAMETER_INVALID: 6,
} as const;

/** Why an association is aborted by us. */
export type AbortReason = keyof typeof ABORT_REASONS;

/** A peer broke the protocol of PS3.8 or PS3.7: the association is aborted with this reason. */
export function protocolError(reason: AbortReason, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', reason satisfies Reason, message);
}

/** The number that an A-ABORT carries for an error; anything but a protocol error is "not specified". */
export function abortReasonNumber(error: MeshError): number {
  return ABORT_REASONS[error.reason as AbortReason] ?? ABORT_REASONS.NOT_SPECIFIED;
}
