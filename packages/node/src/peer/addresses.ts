import { isIPv4, isIPv6 } from 'node:net';
import { MeshError } from '@meridian/shared/errors';

/**
 * A place to listen or to be reached as a multiaddr.
 * @param text a multiaddr ("/ip4/10.0.0.7/tcp/4001") or "host:port" with a name, an IPv4 address or a bracketed IPv6 address.
 * @throws MeshError INVALID_ARGUMENT / ADDRESS_INVALID
 */
export function toMultiaddrText(text: string): string {
  if (text.startsWith('/')) return text;
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:\s/]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65_535) {
    throw new MeshError(
      'INVALID_ARGUMENT',
      'ADDRESS_INVALID',
      `A peer address must be "host:port" or a multiaddr like "/ip4/10.0.0.7/tcp/4001", got "${text}".`,
    );
  }
  return multiaddrOf(host, port);
}

/** @param host a name or an IP address without brackets. */
export function multiaddrOf(host: string, port: number): string {
  if (isIPv4(host)) return `/ip4/${host}/tcp/${port}`;
  if (isIPv6(host)) return `/ip6/${host}/tcp/${port}`;
  return `/dns/${host}/tcp/${port}`;
}
