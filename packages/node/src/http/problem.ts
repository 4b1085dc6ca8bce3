import { STATUS_CODES, type ServerResponse } from 'node:http';
import { asMeshError, MeshError, type Reason, type StatusCode } from '@meridian/shared/errors';

/** Media type of every error body (RFC 9457). */
export const PROBLEM_MEDIA_TYPE = 'application/problem+json; charset=utf-8';

/** Body of an HTTP error (RFC 9457) with the mesh's stable reason. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly reason: string;
  readonly details?: Readonly<Record<string, string>>;
}

/** A MeshError whose HTTP status is more exact than the one of its code: 406, 413, 415… */
export class HttpStatusError extends MeshError {
  readonly #status: number;

  constructor(
    status: number,
    code: StatusCode,
    reason: Reason,
    message: string,
    options: { cause?: unknown; details?: Readonly<Record<string, string>> } = {},
  ) {
    super(code, reason, message, options);
    this.#status = status;
  }

  override get httpStatus(): number {
    return this.#status;
  }
}

/** The problem document of an error. */
export function problemOf(error: MeshError): Problem {
  const status = error.httpStatus;
  return {
    type: `urn:meridian:reason:${error.reason}`,
    title: STATUS_CODES[status] ?? error.code,
    status,
    detail: error.message,
    reason: error.reason,
    ...(Object.keys(error.details).length > 0 ? { details: error.details } : {}),
  };
}

/** Any thrown value as a MeshError, with the web framework's own errors given a reason and a sentence of ours. */
export function asHttpError(thrown: unknown): MeshError {
  if (thrown instanceof MeshError) return thrown;
  const { code, statusCode } = (thrown ?? {}) as { code?: unknown; statusCode?: unknown };
  const known = typeof code === 'string' ? FRAMEWORK_ERRORS[code] : undefined;
  if (known !== undefined) return new HttpStatusError(known.status, known.code, known.reason, known.message, { cause: thrown });
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
    return new HttpStatusError(
      statusCode,
      'INVALID_ARGUMENT',
      'REQUEST_INVALID',
      'The request is not valid here. Check its address, headers and body.',
      { cause: thrown },
    );
  }
  return asMeshError(thrown);
}

/** Writes a problem on a bare response, for requests that never reach a route. */
export function writeProblem(response: ServerResponse, error: MeshError): void {
  const body = JSON.stringify(problemOf(error));
  response.writeHead(error.httpStatus, {
    'content-type': PROBLEM_MEDIA_TYPE,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    connection: 'close',
  });
  response.end(body);
}

interface FrameworkError {
  readonly status: number;
  readonly code: StatusCode;
  readonly reason: Reason;
  readonly message: string;
}

const FRAMEWORK_ERRORS: Readonly<Record<string, FrameworkError>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: {
    status: 413,
    code: 'RESOURCE_EXHAUSTED',
    reason: 'BODY_TOO_LARGE',
    message: 'The body of the request is larger than this address accepts.',
  },
  FST_ERR_CTP_INVALID_MEDIA_TYPE: {
    status: 415,
    code: 'INVALID_ARGUMENT',
    reason: 'MEDIA_TYPE_UNSUPPORTED',
    message: 'This address does not accept the Content-Type of the request.',
  },
  FST_ERR_CTP_EMPTY_JSON_BODY: {
    status: 400,
    code: 'INVALID_ARGUMENT',
    reason: 'BODY_EMPTY',
    message: 'The request says that it carries JSON, but its body is empty.',
  },
  FST_ERR_CTP_INVALID_JSON_BODY: {
    status: 400,
    code: 'INVALID_ARGUMENT',
    reason: 'BODY_NOT_JSON',
    message: 'The body of the request is not valid JSON.',
  },
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: {
    status: 400,
    code: 'INVALID_ARGUMENT',
    reason: 'CONTENT_LENGTH_INVALID',
    message: 'The body of the request is not as long as its Content-Length says.',
  },
  FST_ERR_VALIDATION: {
    status: 400,
    code: 'INVALID_ARGUMENT',
    reason: 'REQUEST_INVALID',
    message: 'The request does not have the shape that this address needs.',
  },
  FST_ERR_BAD_URL: {
    status: 400,
    code: 'INVALID_ARGUMENT',
    reason: 'URL_INVALID',
    message: 'The address of the request cannot be decoded.',
  },
  FST_ERR_MAX_PARAM_LENGTH: {
    status: 414,
    code: 'INVALID_ARGUMENT',
    reason: 'URL_TOO_LONG',
    message: 'A part of the address is too long.',
  },
};
