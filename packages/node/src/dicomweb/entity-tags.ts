import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Coercion } from '../dicom/coerce.ts';
import type { InstanceRow } from '../store/rows.ts';

/**
 * Entity tag of what is served: the digest of the one instance, or of the digests of all, together with what changes the
 * answer besides (coercion, picture size…).
 */
export function entityTag(instances: readonly InstanceRow[], coercion: Coercion | undefined, ...variant: readonly string[]): string {
  const [only] = instances;
  const beside = [...variant, ...(coercion === undefined ? [] : [JSON.stringify(coercion)])];
  if (instances.length === 1 && only !== undefined && beside.length === 0) return `"${only.sha256.toString('hex')}"`;
  const hash = createHash('sha256');
  for (const instance of instances) hash.update(instance.sha256);
  for (const text of beside) hash.update(`\0${text}`);
  return `"${hash.digest('hex')}"`;
}

/**
 * Sets ETag and the caching of patient data (only the user's own, asked about each time: a copy may be locked at any
 * moment). True where the client holds this answer already and 304 was set.
 */
export function isUnchanged(request: FastifyRequest, reply: FastifyReply, tag: string): boolean {
  reply.header('etag', tag).header('cache-control', 'private, no-cache').header('vary', 'Accept');
  const held = request.headers['if-none-match'];
  if (held === undefined) return false;
  const same = held.trim() === '*' || held.split(',').some((one) => one.trim().replace(/^W\//, '') === tag);
  if (same) reply.code(304);
  return same;
}
