/**
 * The mesh's closed status codes: the gRPC status names.
 * @see https://grpc.io/docs/guides/status-codes/
 */
export const STATUS_NUMBERS = {
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;

/** One of the closed gRPC status names. */
export type StatusCode = keyof typeof STATUS_NUMBERS;

/** HTTP status of each code, used by every HTTP door (problem+json, RFC 9457). */
export const HTTP_STATUS: Readonly<Record<StatusCode, number>> = {
  CANCELLED: 499,
  UNKNOWN: 500,
  INVALID_ARGUMENT: 400,
  DEADLINE_EXCEEDED: 504,
  NOT_FOUND: 404,
  ALREADY_EXISTS: 409,
  PERMISSION_DENIED: 403,
  RESOURCE_EXHAUSTED: 429,
  FAILED_PRECONDITION: 409,
  ABORTED: 409,
  OUT_OF_RANGE: 416,
  UNIMPLEMENTED: 501,
  INTERNAL: 500,
  UNAVAILABLE: 503,
  DATA_LOSS: 500,
  UNAUTHENTICATED: 401,
};

/** A stable reason: UPPER_SNAKE_CASE, never reused for another meaning, safe to switch on and to translate. */
export type Reason = Uppercase<string>;

/**
 * The one error of the mesh: a closed code, a stable reason and one plain sentence that says what happened and what to
 * do. The message never holds patient data, secrets or file contents.
 */
export class MeshError extends Error {
  override readonly name = 'MeshError';
  readonly code: StatusCode;
  readonly reason: Reason;
  /** Facts a caller can use (a limit, an expected sequence number…), never patient data. */
  readonly details: Readonly<Record<string, string>>;

  constructor(
    code: StatusCode,
    reason: Reason,
    message: string,
    options: { cause?: unknown; details?: Readonly<Record<string, string>> } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.reason = reason;
    this.details = options.details ?? {};
  }

  get httpStatus(): number {
    return HTTP_STATUS[this.code];
  }
}

/** Any thrown value as a MeshError; what is unknown becomes INTERNAL / UNEXPECTED with the cause kept for the log. */
export function asMeshError(thrown: unknown): MeshError {
  if (thrown instanceof MeshError) return thrown;
  if (isDiskFull(thrown)) {
    return new MeshError(
      'RESOURCE_EXHAUSTED',
      'DISK_FULL',
      'The disk is full. Nothing that was accepted is lost; free space and send again.',
      { cause: thrown },
    );
  }
  return new MeshError('INTERNAL', 'UNEXPECTED', 'Something failed here that should not. The log says what; nothing accepted was lost.', {
    cause: thrown,
  });
}

/** The name of a numeric gRPC status; unknown numbers are UNKNOWN. */
export function statusName(number: number): StatusCode {
  for (const [name, value] of Object.entries(STATUS_NUMBERS)) if (value === number) return name as StatusCode;
  return 'UNKNOWN';
}

/** By code, not by class: an error of another realm (a thread, a test's context) is no instance of ours. */
function isDiskFull(thrown: unknown): boolean {
  return (
    typeof thrown === 'object' &&
    thrown !== null &&
    'code' in thrown &&
    (thrown.code === 'ENOSPC' || thrown.code === 'EDQUOT' || thrown.code === 'SQLITE_FULL')
  );
}
