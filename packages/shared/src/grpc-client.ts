import { Metadata, type CallOptions, type ClientUnaryCall, type ServiceError } from '@grpc/grpc-js';
import { MeshError } from './errors.ts';
import { fromServiceError } from './grpc-errors.ts';

/** A unary method of a generated client, bound to it: `client.evaluate.bind(client)`. */
export type UnaryMethod<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

const DEFAULT_DEADLINE_MS = 10_000;

/**
 * Calls a unary method with an end.
 * @param options `deadlineMs` from now, 10 s unless given.
 * @throws MeshError as the other side threw it, or of the transport; see {@link fromServiceError}.
 */
export function callUnary<Request, Response>(
  method: UnaryMethod<Request, Response>,
  request: Request,
  options: { readonly deadlineMs?: number; readonly signal?: AbortSignal | undefined } = {},
): Promise<Response> {
  const { signal } = options;
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) return reject(cancelled());
    const deadline = new Date(Date.now() + (options.deadlineMs ?? DEFAULT_DEADLINE_MS));
    const call = method(request, new Metadata(), { deadline }, (error, response) => {
      signal?.removeEventListener('abort', onAbort);
      if (error === null) resolve(response);
      else reject(fromServiceError(error));
    });
    const onAbort = (): void => call.cancel();
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

function cancelled(): MeshError {
  return new MeshError('CANCELLED', 'CANCELLED', 'The call was cancelled.');
}
