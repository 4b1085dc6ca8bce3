import {
  logVerbosity,
  Server,
  setLogVerbosity,
  type handleUnaryCall,
  type ServerCredentials,
  type ServerUnaryCall,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { asMeshError, MeshError } from './errors.ts';
import { errorOfCall } from './grpc-errors.ts';
import { serverOptions } from './grpc-limits.ts';
import type { Logger } from './log.ts';

/** Who calls, and a signal that aborts when the caller goes away or its deadline passes. */
export interface CallContext<Caller> {
  readonly caller: Caller;
  readonly signal: AbortSignal;
}

/** A listening gRPC server. */
export interface GrpcServer {
  readonly port: number;
  /** Ends running calls within `graceMs` (default 1 s), then cuts them. */
  close(graceMs?: number): Promise<void>;
}

interface AnyCall {
  readonly cancelled: boolean;
  once(event: 'cancelled' | 'close', listener: () => void): unknown;
}

/** What {@link runStream} needs of a server-streaming or bidirectional call. */
export interface StreamCall extends AnyCall {
  getPath(): string;
  end(): unknown;
  emit(event: 'error', error: unknown): boolean;
}

/** What {@link writeMessage} needs of a call. */
export interface WritableCall<Response> {
  write(message: Response): boolean;
  once(event: 'drain', listener: () => void): unknown;
  removeListener(event: 'drain', listener: () => void): unknown;
}

/**
 * A unary handler that authenticates first, then handles; what is thrown becomes status, reason and sentence, and a line
 * in the log.
 */
export function unaryHandler<Request, Response, Caller>(parts: {
  readonly log: Logger;
  readonly authenticate: (call: ServerUnaryCall<Request, Response>) => Caller;
  readonly handle: (request: Request, context: CallContext<Caller>) => Promise<Response>;
}): handleUnaryCall<Request, Response> {
  return (call, callback) => {
    const answer = async (): Promise<void> => {
      let response: Response;
      try {
        response = await parts.handle(call.request, { caller: parts.authenticate(call), signal: signalOf(call) });
      } catch (thrown) {
        logRefusal(parts.log, call.getPath(), thrown);
        callback(errorOfCall(thrown));
        return;
      }
      callback(null, response);
    };
    void answer();
  };
}

/**
 * Runs a streaming call: authenticates, runs, ends the stream; what is thrown ends it with status, reason and sentence.
 */
export function runStream<Call extends StreamCall, Caller>(
  call: Call,
  parts: {
    readonly log: Logger;
    readonly authenticate: (call: Call) => Caller;
    readonly run: (context: CallContext<Caller>) => Promise<void>;
  },
): void {
  const signal = signalOf(call);
  const run = async (): Promise<void> => parts.run({ caller: parts.authenticate(call), signal });
  run().then(
    () => call.end(),
    (thrown: unknown) => {
      if (signal.aborted) return;
      logRefusal(parts.log, call.getPath(), thrown);
      call.emit('error', errorOfCall(thrown));
    },
  );
}

/**
 * Writes one message and waits while the other side does not keep up.
 * @throws MeshError CANCELLED / CANCELLED when the call ends meanwhile.
 */
export async function writeMessage<Response>(call: WritableCall<Response>, message: Response, signal: AbortSignal): Promise<void> {
  if (signal.aborted) throw cancelled();
  if (call.write(message)) return;
  await new Promise<void>((resolve, reject) => {
    const onAbort = (): void => {
      call.removeListener('drain', onDrain);
      reject(cancelled());
    };
    const onDrain = (): void => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    };
    call.once('drain', onDrain);
    signal.addEventListener('abort', onAbort, { once: true });
  });
}

/**
 * Listens with TLS and the mesh's limits.
 * @param server `port` 0 takes any free one.
 * @throws MeshError FAILED_PRECONDITION / PORT_IN_USE, FAILED_PRECONDITION / LISTEN_FAILED
 */
export async function openGrpcServer(server: {
  readonly host: string;
  readonly port: number;
  readonly credentials: ServerCredentials;
  readonly services: readonly { readonly definition: ServiceDefinition; readonly implementation: UntypedServiceImplementation }[];
}): Promise<GrpcServer> {
  // grpc-js would print to the console what is thrown and logged here anyway.
  setLogVerbosity(logVerbosity.NONE);
  const grpc = new Server(serverOptions());
  for (const { definition, implementation } of server.services) grpc.addService(definition, implementation);
  const address = server.host.includes(':') ? `[${server.host}]:${server.port}` : `${server.host}:${server.port}`;
  const port = await new Promise<number>((resolve, reject) => {
    grpc.bindAsync(address, server.credentials, (error, bound) => (error === null ? resolve(bound) : reject(listenError(server, error))));
  });
  return { port, close: (graceMs = 1000) => closeServer(grpc, graceMs) };
}

function closeServer(grpc: Server, graceMs: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      grpc.forceShutdown();
      resolve();
    }, graceMs);
    grpc.tryShutdown(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}

function signalOf(call: AnyCall): AbortSignal {
  const controller = new AbortController();
  const abort = (): void => controller.abort(cancelled());
  if (call.cancelled) abort();
  call.once('cancelled', abort);
  call.once('close', abort);
  return controller.signal;
}

function logRefusal(log: Logger, path: string, thrown: unknown): void {
  const error = asMeshError(thrown);
  const fields = { event: 'call-refused', path, code: error.code, reason: error.reason };
  if (error.code === 'INTERNAL' || error.code === 'UNKNOWN') log.error({ ...fields, err: error.cause ?? error }, 'a call failed');
  else log.info(fields, 'a call was refused');
}

function listenError(server: { readonly host: string; readonly port: number }, error: Error): MeshError {
  if (error.message.includes('EADDRINUSE')) {
    return new MeshError(
      'FAILED_PRECONDITION',
      'PORT_IN_USE',
      `Port ${server.port} on ${server.host} is taken by another program. Stop that one, or choose another port.`,
      { cause: error },
    );
  }
  return new MeshError(
    'FAILED_PRECONDITION',
    'LISTEN_FAILED',
    `It is not possible to listen on ${server.host}:${server.port} (${error.message}). Check the address and the rights.`,
    { cause: error },
  );
}

function cancelled(): MeshError {
  return new MeshError('CANCELLED', 'CANCELLED', 'The call was cancelled.');
}
