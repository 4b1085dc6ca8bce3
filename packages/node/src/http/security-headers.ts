import type { FastifyReply } from 'fastify';

/** Pages may load what this node serves and nothing else; nobody may frame them. */
const HTML_POLICY =
  "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const OTHER_POLICY = "default-src 'none'; frame-ancestors 'none'";

/** Sets what every answer carries; a route's own Cache-Control stands, else nothing is kept by any cache. */
export function setSecurityHeaders(reply: FastifyReply, secure: boolean): void {
  const html = String(reply.getHeader('content-type') ?? '').startsWith('text/html');
  reply.header('x-content-type-options', 'nosniff');
  reply.header('referrer-policy', 'no-referrer');
  reply.header('cross-origin-resource-policy', 'same-origin');
  reply.header('cross-origin-opener-policy', 'same-origin');
  reply.header('content-security-policy', html ? HTML_POLICY : OTHER_POLICY);
  if (secure) reply.header('strict-transport-security', 'max-age=31536000');
  if (!reply.hasHeader('cache-control')) reply.header('cache-control', 'no-store');
}
