/**
 * What a route lets a caller do. Every route names one in its config; the access room maps policies to roles.
 * `public`: no patient data (static files, health). `clinical-read` / `clinical-write`: images and history.
 * `export`: image data leaves the node whole. `consent`: consent records. `operator`: status and settings of the node.
 * `machine`: other programs of the hospital.
 */
export const ROUTE_POLICIES = ['public', 'clinical-read', 'clinical-write', 'export', 'consent', 'operator', 'machine'] as const;

/** One of the route policies. */
export type RoutePolicy = (typeof ROUTE_POLICIES)[number];

declare module 'fastify' {
  interface FastifyContextConfig {
    policy?: RoutePolicy;
    /** The body is read as a stream by the route itself: no limit of size or time but the socket's idle limit. */
    streamedBody?: boolean;
  }
}

/** True for a policy that exists; routes state theirs as plain data, so it is checked at mount. */
export function isRoutePolicy(value: unknown): value is RoutePolicy {
  return typeof value === 'string' && (ROUTE_POLICIES as readonly string[]).includes(value);
}
