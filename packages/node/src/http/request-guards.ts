import type { IncomingMessage } from 'node:http';
import { MeshError } from '@meridian/shared/errors';

const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE']);
const LOOPBACK_NAMES = ['127.0.0.1', 'localhost', '[::1]'];

/** The names that a Host header may carry: loopback's, the listening host's and the configured ones; lower case. */
export function allowedHostNames(host: string, configured: readonly string[]): ReadonlySet<string> {
  const own = host === '0.0.0.0' || host === '::' ? [] : [host.includes(':') && !host.startsWith('[') ? `[${host}]` : host];
  return new Set([...LOOPBACK_NAMES, ...own, ...configured].map((name) => name.toLowerCase()));
}

/**
 * Refuses a request whose Host is not one of ours: a page elsewhere whose name was made to resolve to this machine
 * (DNS rebinding) would otherwise read patient data through the user's browser.
 * @throws MeshError PERMISSION_DENIED / HOST_NOT_ALLOWED
 */
export function checkHost(request: IncomingMessage, allowed: ReadonlySet<string>): void {
  const host = /^(\[[0-9a-fA-F:.]+\]|[^:/\\@\s]+)(?::\d{1,5})?$/.exec(request.headers.host ?? '')?.[1]?.toLowerCase();
  if (host !== undefined && allowed.has(host)) return;
  throw new MeshError(
    'PERMISSION_DENIED',
    'HOST_NOT_ALLOWED',
    'This node is not known by the host name of the request. Open it by its own address, such as http://127.0.0.1 with its port.',
  );
}

/**
 * Refuses a change that a page of another origin asks for (cross-site request forgery). Programs send no Origin and
 * pass. To be called after {@link checkHost}, since the own origin is derived from Host.
 * @throws MeshError PERMISSION_DENIED / ORIGIN_NOT_ALLOWED
 */
export function checkOrigin(request: IncomingMessage, scheme: 'http' | 'https'): void {
  if (SAFE_METHODS.has(request.method ?? '')) return;
  const origin = request.headers.origin;
  const ownOrigin = `${scheme}://${request.headers.host ?? ''}`.toLowerCase();
  const foreign = (origin !== undefined && origin.toLowerCase() !== ownOrigin) || request.headers['sec-fetch-site'] === 'cross-site';
  if (!foreign) return;
  throw new MeshError('PERMISSION_DENIED', 'ORIGIN_NOT_ALLOWED', 'Another web page asked for this change. Only pages of this node may.');
}

/** True for an address that only this machine can reach. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host === '[::1]' || /^127(\.\d{1,3}){3}$/.test(host);
}
