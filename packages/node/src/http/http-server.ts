import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Socket } from 'node:net';
import fastify, { type FastifyInstance, type FastifyPluginAsync, type FastifyReply, type FastifyRequest } from 'fastify';
import { MeshError } from '@meridian/shared/errors';
import type { Logger } from '@meridian/shared/log';
import { systemClock, type Clock } from '@meridian/shared/platform/clock';
import { answerClientError } from './client-errors.ts';
import { HTTP_LIMITS, type HttpLimits } from './limits.ts';
import { listen } from './listen.ts';
import { isRoutePolicy, ROUTE_POLICIES, type RoutePolicy } from './policies.ts';
import { asHttpError, problemOf, PROBLEM_MEDIA_TYPE, writeProblem } from './problem.ts';
import { allowedHostNames, checkHost, checkOrigin, isLoopback } from './request-guards.ts';
import { setSecurityHeaders } from './security-headers.ts';

/** A door: a Fastify plugin that adds its routes, each with `config: { policy }`. */
export type Door = FastifyPluginAsync;

/** Decides whether this request may do what the route's policy allows; throws a MeshError if not. */
export type Authorise = (request: FastifyRequest, policy: RoutePolicy) => Promise<void>;

/** What the HTTP listener needs. */
export interface HttpOptions {
  /** Address to listen on. Beyond loopback, `tls` and `authorise` are required. */
  readonly host: string;
  /** Port; 0 takes a free one. */
  readonly port: number;
  readonly log: Logger;
  readonly clock?: Clock;
  /** PEM certificate chain and key. */
  readonly tls?: { readonly certificate: string | Buffer; readonly privateKey: string | Buffer };
  /** Further host names that requests may use, without port. */
  readonly allowedHosts?: readonly string[];
  readonly authorise?: Authorise;
  readonly limits?: Partial<HttpLimits>;
  /** Name of the port's setting, for the message when the port is taken. */
  readonly portSetting?: string;
}

/** The one HTTP listener of a node. */
export interface HttpServer {
  readonly port: number;
  /** Base address, such as `http://127.0.0.1:8042`. */
  readonly address: string;
  /** Aborts when the listener closes: long answers end themselves on it. */
  readonly closing: AbortSignal;
  /**
   * Adds a door. `policy` is the policy of those routes of the door that state none (static files).
   * @throws MeshError FAILED_PRECONDITION / ROUTE_WITHOUT_POLICY | HTTP_ALREADY_OPEN
   */
  mount(door: Door, options?: { readonly policy?: RoutePolicy }): Promise<void>;
  /** Opens the mounted doors; until then requests wait, then get 503. */
  ready(): Promise<void>;
  /** Stops listening, aborts `closing`, gives running answers a short grace, then cuts them. */
  close(): Promise<void>;
}

/**
 * Binds the address at once, so that a taken port is known before anything else is opened, and serves after `ready()`.
 * @throws MeshError FAILED_PRECONDITION / PORT_IN_USE | PORT_NOT_PERMITTED | ADDRESS_NOT_AVAILABLE | TLS_AND_CREDENTIALS_REQUIRED
 */
export async function openHttp(options: HttpOptions): Promise<HttpServer> {
  const { host, log, clock = systemClock } = options;
  const limits = { ...HTTP_LIMITS, ...options.limits };
  const scheme = options.tls === undefined ? 'http' : 'https';
  if (!isLoopback(host) && (options.tls === undefined || options.authorise === undefined)) {
    throw new MeshError(
      'FAILED_PRECONDITION',
      'TLS_AND_CREDENTIALS_REQUIRED',
      `The web interface may not listen on ${host} without a TLS certificate and credentials: patient data would be open to the network. Until people have accounts here, let MERIDIAN_HTTP_HOST be 127.0.0.1.`,
    );
  }
  const closing = new AbortController();
  const app = buildApp({ options, limits, scheme, clock, closing: closing.signal });
  const allowed = allowedHostNames(host, options.allowedHosts ?? []);
  const opened = Promise.withResolvers<void>();

  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    try {
      checkHost(request, allowed);
      checkOrigin(request, scheme);
    } catch (error) {
      return refuse(log, request, response, error);
    }
    void waitUntilOpen({ opened: opened.promise, clock, signal: closing.signal, limitMs: limits.startWaitMs }).then(
      () => app.routing(request, response),
      (error: unknown) => refuse(log, request, response, error),
    );
  };
  const server = createListener(options, limits, onRequest);
  const sockets = trackSockets(server);
  server.on('clientError', (error, socket) => answerClientError(error, socket as Socket));
  const port = await listen(server, { host, port: options.port, setting: options.portSetting ?? 'http.port' });
  let isReady = false;
  let closed: Promise<void> | undefined;
  log.info({ event: 'http-listening', port, scheme });

  return {
    port,
    address: `${scheme}://${host.includes(':') && !host.startsWith('[') ? `[${host}]` : host}:${port}`,
    closing: closing.signal,
    mount: async (door, mountOptions = {}) => {
      if (isReady)
        throw new MeshError(
          'FAILED_PRECONDITION',
          'HTTP_ALREADY_OPEN',
          'A door was mounted after the web interface was opened. Mount every door before ready().',
        );
      // A wrapper, so that the default policy holds for this door alone.
      await app.register(async (scope) => {
        scope.addHook('onRoute', (route) => requirePolicy(route, mountOptions.policy));
        await scope.register(door);
      });
    },
    ready: async () => {
      isReady = true;
      await app.ready();
      opened.resolve();
    },
    close: () => (closed ??= closeAll({ server, sockets, app, closing, clock, graceMs: limits.closeGraceMs })),
  };
}

function buildApp(parts: {
  options: HttpOptions;
  limits: HttpLimits;
  scheme: 'http' | 'https';
  clock: Clock;
  closing: AbortSignal;
}): FastifyInstance {
  const { options, limits, scheme, clock } = parts;
  const answer = (thrown: unknown, request: FastifyRequest, reply: FastifyReply): void => {
    const error = asHttpError(thrown);
    // The pattern of the route, never the address: its query may hold patient data.
    if (error.httpStatus >= 500)
      options.log.error({
        event: 'http-failed',
        route: request.routeOptions?.url,
        method: request.method,
        reason: error.reason,
        err: error.cause ?? error,
      });
    else
      options.log.info({
        event: 'http-refused',
        route: request.routeOptions?.url,
        method: request.method,
        status: error.httpStatus,
        reason: error.reason,
      });
    void reply
      .code(error.httpStatus)
      .type(PROBLEM_MEDIA_TYPE)
      .send(JSON.stringify(problemOf(error)));
  };
  const app = fastify({
    bodyLimit: limits.bodyBytes,
    routerOptions: { maxParamLength: limits.parameterLength },
    frameworkErrors: (error, request, reply) => {
      setSecurityHeaders(reply, scheme === 'https');
      answer(error, request, reply);
    },
  });
  app.decorate('closing', parts.closing);
  app.setErrorHandler((error, request, reply) => answer(error, request, reply));
  app.setNotFoundHandler((request, reply) =>
    answer(new MeshError('NOT_FOUND', 'ADDRESS_UNKNOWN', 'There is nothing at this address.'), request, reply),
  );
  app.addHook('onRequest', async (request) => {
    if (request.is404) return;
    limitBodyTime(request, clock, limits.bodyTimeMs);
    await options.authorise?.(request, request.routeOptions.config.policy ?? 'operator');
  });
  app.addHook('onSend', async (_request, reply) => setSecurityHeaders(reply, scheme === 'https'));
  app.addHook('onResponse', async (request, reply) => {
    options.log.debug({
      event: 'http-answered',
      route: request.routeOptions?.url,
      method: request.method,
      status: reply.statusCode,
      elapsedMs: Math.round(reply.elapsedTime),
    });
  });
  return app;
}

function requirePolicy(
  route: { url: string; method: string | string[]; config?: { policy?: RoutePolicy } },
  standing: RoutePolicy | undefined,
): void {
  const policy = route.config?.policy ?? standing;
  if (!isRoutePolicy(policy)) {
    throw new MeshError(
      'FAILED_PRECONDITION',
      'ROUTE_WITHOUT_POLICY',
      `The route ${String(route.method)} ${route.url} states no policy. Give it config: { policy } with one of ${ROUTE_POLICIES.join(', ')}.`,
    );
  }
  route.config = { ...route.config, policy };
}

/** A body that trickles in holds a connection and memory: small bodies must be whole within the limit. */
function limitBodyTime(request: FastifyRequest, clock: Clock, limitMs: number): void {
  if (request.routeOptions.config.streamedBody === true) return;
  if (request.raw.headers['content-length'] === undefined && request.raw.headers['transfer-encoding'] === undefined) return;
  const timer = clock.after(limitMs, () => request.raw.destroy());
  request.raw.once('close', () => timer.cancel());
  request.raw.once('end', () => timer.cancel());
}

function createListener(
  options: HttpOptions,
  limits: HttpLimits,
  onRequest: (request: IncomingMessage, response: ServerResponse) => void,
): Server {
  const settings = {
    maxHeaderSize: limits.headerBytes,
    connectionsCheckingInterval: limits.checkIntervalMs,
    headersTimeout: limits.headersMs,
    requestTimeout: 0,
    keepAliveTimeout: limits.keepAliveMs,
    noDelay: true,
  };
  const server =
    options.tls === undefined
      ? createServer(settings, onRequest)
      : createTlsServer({ ...settings, cert: options.tls.certificate, key: options.tls.privateKey, minVersion: 'TLSv1.2' }, onRequest);
  server.timeout = limits.idleMs;
  server.maxConnections = limits.connections;
  return server;
}

function trackSockets(server: Server): Set<Socket> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  return sockets;
}

async function waitUntilOpen(parts: { opened: Promise<void>; clock: Clock; signal: AbortSignal; limitMs: number }): Promise<void> {
  const wait = new AbortController();
  const late = parts.clock.sleep(parts.limitMs, AbortSignal.any([wait.signal, parts.signal])).then(() => {
    throw new MeshError('UNAVAILABLE', 'STARTING', 'This node is starting. Try again in a moment.');
  });
  late.catch(() => undefined); // Settled by the race below; the abort after it is no failure.
  try {
    await Promise.race([parts.opened, late]);
  } finally {
    wait.abort();
  }
}

function refuse(log: Logger, request: IncomingMessage, response: ServerResponse, thrown: unknown): void {
  const error = asHttpError(thrown);
  log.info({ event: 'http-refused', method: request.method, status: error.httpStatus, reason: error.reason });
  writeProblem(response, error);
  // The body is not read: drop it and the connection with it.
  request.resume();
}

async function closeAll(parts: {
  server: Server;
  sockets: Set<Socket>;
  app: FastifyInstance;
  closing: AbortController;
  clock: Clock;
  graceMs: number;
}): Promise<void> {
  const closedServer = new Promise<void>((resolve) => parts.server.close(() => resolve()));
  parts.closing.abort(new MeshError('UNAVAILABLE', 'STOPPING', 'This node is stopping.'));
  parts.server.closeIdleConnections();
  const grace = new AbortController();
  const late = parts.clock.sleep(parts.graceMs, grace.signal).catch(() => undefined);
  await Promise.race([closedServer, late]);
  grace.abort();
  parts.server.closeAllConnections();
  for (const socket of parts.sockets) socket.destroy();
  await closedServer;
  await parts.app.close();
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Aborts when the listener closes. */
    readonly closing: AbortSignal;
  }
}
