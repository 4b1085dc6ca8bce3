import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';

/** What the client accepts: the query parameter `accept` wins over the header, for links and images in pages (PS3.18 8.3.3.1). */
export function acceptOf(request: FastifyRequest): string | undefined {
  const at = request.url.indexOf('?');
  const asked = at < 0 ? null : new URLSearchParams(request.url.slice(at + 1)).get('accept');
  return asked === null || asked === '' ? request.headers.accept : asked;
}

/** Sends bytes as they are made, no faster than the client takes them; a HEAD request reads nothing. */
export function sendStream(request: FastifyRequest, reply: FastifyReply, bytes: AsyncIterable<Buffer>): FastifyReply {
  // An empty stream, for without one the framework would state a length of 0.
  if (request.method === 'HEAD') return reply.send(Readable.from([]));
  return reply.send(Readable.from(bytes, { objectMode: false }));
}
