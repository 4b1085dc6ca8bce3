import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { MeshError, type Reason, type StatusCode } from '@meridian/shared/errors';
import type { Language, Say } from './words.ts';

/** What `serve` writes to `<data>/run/node.json`. */
export interface RunningNode {
  readonly pid: number;
  readonly apiUrl: string;
}

/** The running node, by its own API. */
export interface NodeClient {
  readonly running: RunningNode;
  get(path: string): Promise<unknown>;
  post(path: string, body: object): Promise<unknown>;
  /** JSON lines: calls back for progress, resolves to the result, throws the problem. */
  stream(
    path: string,
    request: { readonly body?: object; readonly signal?: AbortSignal; readonly onProgress: (progress: unknown) => void },
  ): Promise<unknown>;
}

/** A short answer takes at most this; a history waits for the index. */
const ANSWER_MS = 60_000;

/**
 * Finds the node that serves a data folder.
 * @throws MeshError UNAVAILABLE NODE_NOT_RUNNING
 */
export async function connectNode({ folder, say, language }: { folder: string; say: Say; language: Language }): Promise<NodeClient> {
  const running = await runningNode(folder);
  if (running === undefined) throw new MeshError('UNAVAILABLE', 'NODE_NOT_RUNNING', say('notRunning', { folder }));

  async function send(path: string, method: 'GET' | 'POST', body: object | undefined, signal: AbortSignal): Promise<Response> {
    const target = running as RunningNode;
    try {
      const response = await fetch(`${target.apiUrl}${path}`, {
        method,
        signal,
        headers: { 'accept-language': language, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      if (!response.ok) throw await problemOf(response);
      return response;
    } catch (thrown) {
      if (thrown instanceof MeshError) throw thrown;
      if (signal.aborted && !(signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError'))
        throw new MeshError('CANCELLED', 'CANCELLED', 'Stopped.');
      throw new MeshError('UNAVAILABLE', 'NODE_NOT_ANSWERING', say('notAnswering', { pid: target.pid, url: target.apiUrl }), {
        cause: thrown,
      });
    }
  }

  const answer = async (path: string, method: 'GET' | 'POST', body?: object): Promise<unknown> =>
    (await send(path, method, body, AbortSignal.timeout(ANSWER_MS))).json();
  return {
    running,
    get: (path) => answer(path, 'GET'),
    post: (path, body) => answer(path, 'POST', body),
    async stream(path, { body, signal, onProgress }) {
      const response = await send(path, body === undefined ? 'GET' : 'POST', body, signal ?? new AbortController().signal);
      if (response.body === null) throw cutShort();
      try {
        // The web stream of fetch and the one of node:stream/web are the same object under two type names.
        const lines = createInterface({
          input: Readable.fromWeb(response.body as Parameters<typeof Readable.fromWeb>[0]),
          crlfDelay: Infinity,
        });
        for await (const text of lines) {
          const line = JSON.parse(text) as {
            type: string;
            progress?: unknown;
            result?: unknown;
            problem?: { code: StatusCode; reason: Reason; message: string };
          };
          if (line.type === 'progress') onProgress(line.progress);
          else if (line.type === 'problem' && line.problem !== undefined)
            throw new MeshError(line.problem.code, line.problem.reason, line.problem.message);
          else if (line.type === 'result') return line.result;
        }
      } catch (thrown) {
        if (thrown instanceof MeshError) throw thrown;
        if (signal?.aborted === true) throw new MeshError('CANCELLED', 'CANCELLED', 'Stopped.');
        throw cutShort(thrown);
      }
      throw cutShort();
    },
  };
}

/** The node that `serve` wrote down, or undefined where none is alive. */
export async function runningNode(folder: string): Promise<RunningNode | undefined> {
  try {
    const found = JSON.parse(await readFile(join(folder, 'run', 'node.json'), 'utf8')) as Partial<RunningNode>;
    if (typeof found.pid !== 'number' || typeof found.apiUrl !== 'string') return undefined;
    return isAlive(found.pid) ? { pid: found.pid, apiUrl: found.apiUrl.replace(/\/$/, '') } : undefined;
  } catch {
    // No file, or a torn one: no node runs here.
    return undefined;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (thrown) {
    // It lives, under another user.
    return (thrown as NodeJS.ErrnoException).code === 'EPERM';
  }
}

async function problemOf(response: Response): Promise<MeshError> {
  const text = await response.text();
  try {
    const { reason, detail, title, code } = JSON.parse(text) as { reason?: Reason; detail?: string; title?: string; code?: StatusCode };
    return new MeshError(code ?? codeOf(response.status), reason ?? 'UNEXPECTED', detail ?? title ?? `HTTP ${response.status}`);
  } catch {
    return new MeshError(codeOf(response.status), 'UNEXPECTED', `The node answered HTTP ${response.status}. Its log says more.`);
  }
}

function codeOf(status: number): StatusCode {
  const codes: Readonly<Record<number, StatusCode>> = {
    400: 'INVALID_ARGUMENT',
    401: 'UNAUTHENTICATED',
    403: 'PERMISSION_DENIED',
    404: 'NOT_FOUND',
    409: 'FAILED_PRECONDITION',
    429: 'RESOURCE_EXHAUSTED',
    503: 'UNAVAILABLE',
    504: 'DEADLINE_EXCEEDED',
  };
  return codes[status] ?? 'INTERNAL';
}

function cutShort(cause?: unknown): MeshError {
  return new MeshError(
    'UNAVAILABLE',
    'ANSWER_CUT_SHORT',
    'The node stopped in the middle of its answer. What was stored stays; run the command again.',
    { cause },
  );
}
