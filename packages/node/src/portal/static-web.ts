import { readdir, readFile } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { PUBLIC } from './policies.ts';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.ico': 'image/x-icon',
  '.png': 'image/png',
  '.woff2': 'font/woff2',
  '.json': 'application/json; charset=utf-8',
};
/** A built page is some hundred kilobytes; a folder beyond this is not one. */
const MOST_FILES = 200;

interface WebFile {
  readonly url: string;
  readonly type: string;
  readonly plain: Buffer;
  readonly gzip: Buffer;
}

/**
 * Routes of the built page. Its few files are read once and each is a route of its own: no path from the network ever
 * reaches the disk. Without a build, `/` says how to make one.
 */
export async function webRoutes(app: FastifyInstance, folder: string | undefined): Promise<void> {
  const files = folder === undefined ? [] : await filesOf(folder);
  const index = files.find((file) => file.url === '/index.html');
  if (index === undefined) {
    app.get('/', { config: PUBLIC }, async (_request, reply) =>
      reply.type('text/html; charset=utf-8').header('cache-control', 'no-cache').send(NOT_BUILT),
    );
    return;
  }
  app.get('/', { config: PUBLIC }, (request, reply) => send(request, reply, index));
  for (const file of files) if (file !== index) app.get(file.url, { config: PUBLIC }, (request, reply) => send(request, reply, file));
}

function send(request: FastifyRequest, reply: FastifyReply, file: WebFile): FastifyReply {
  // Asset names carry a hash of their content; the page itself is asked for anew each time.
  const forEver = file.url.startsWith('/assets/');
  reply
    .type(file.type)
    .header('cache-control', forEver ? 'public, max-age=31536000, immutable' : 'no-cache')
    .header('vary', 'accept-encoding');
  if (!/\bgzip\b/.test(request.headers['accept-encoding'] ?? '')) return reply.send(file.plain);
  return reply.header('content-encoding', 'gzip').send(file.gzip);
}

async function filesOf(folder: string): Promise<WebFile[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  const names = entries.filter((entry) => entry.isFile() && TYPES[extname(entry.name)] !== undefined).slice(0, MOST_FILES);
  return Promise.all(
    names.map(async (entry) => {
      const path = join(entry.parentPath, entry.name);
      const plain = await readFile(path);
      return {
        url: path.slice(folder.length).replaceAll('\\', '/'),
        type: TYPES[extname(entry.name)] as string,
        plain,
        gzip: gzipSync(plain),
      };
    }),
  );
}

const NOT_BUILT = `<!doctype html><html lang="en"><meta charset="utf-8"><title>Meridian node</title>
<h1>The node works. Its page is not built yet.</h1>
<p>Build it with <code>npm run build:web</code>, then restart the node. The API is at <a href="/api/v1/node">/api/v1/node</a>.</p>
<p lang="zh-CN">节点工作正常,但页面尚未构建。请运行 <code>npm run build:web</code>,然后重启节点。</p></html>
`;
