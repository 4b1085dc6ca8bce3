import { Readable } from 'node:stream';
import type { FastifyReply } from 'fastify';
import { asMeshError } from '@meridian/shared/errors';
import type { Clock } from '@meridian/shared/platform/clock';
import type { FailureView } from './views.ts';

/** Media type of a stream of JSON lines. */
export const NDJSON = 'application/x-ndjson; charset=utf-8';

/** A quiet stream says that it lives this often, so that no idle limit on the way cuts it. */
const QUIET_MS = 10_000;

/** One line of a long answer: some progress, then one result or one problem. */
export type StreamLine =
  | { readonly type: 'progress'; readonly progress: unknown }
  | { readonly type: 'waiting' }
  | { readonly type: 'result'; readonly result: unknown }
  | { readonly type: 'problem'; readonly problem: FailureView };

type Work = (signal: AbortSignal, onProgress: (progress: unknown) => void) => Promise<unknown>;

/**
 * Answers with JSON lines while `work` runs. Only the newest progress waits for a slow reader, so memory stays bounded;
 * a reader that goes away aborts the work's signal.
 */
export function streamWork({ reply, clock }: { reply: FastifyReply; clock: Clock }, work: Work): FastifyReply {
  const stop = new AbortController();
  reply.raw.once('close', () => stop.abort(new Error('the reader went away')));
  const lines = Readable.from(linesOf(work, { stop: stop.signal, clock }), { objectMode: false });
  return reply.type(NDJSON).header('cache-control', 'no-store').send(lines);
}

async function* linesOf(work: Work, { stop, clock }: { stop: AbortSignal; clock: Clock }): AsyncGenerator<string> {
  const news: StreamLine[] = [];
  let last: StreamLine | undefined;
  let wake = (): void => {};
  const tell = (): void => wake();
  const outcome = work(stop, (progress) => {
    news[0] = { type: 'progress', progress };
    tell();
  }).then(
    (result) => ({ type: 'result', result }) as const,
    (thrown: unknown) => ({ type: 'problem', problem: problemOf(thrown) }) as const,
  );
  const ended = outcome.then((line) => {
    last = line;
    tell();
  });
  stop.addEventListener('abort', tell, { once: true });
  while (last === undefined && !stop.aborted) {
    const woken = new Promise<void>((resolve) => (wake = resolve));
    const quiet = clock.after(QUIET_MS, tell);
    if (news.length === 0 && !isSet(last)) await woken;
    quiet.cancel();
    if (!isSet(last)) yield lineOf(news.pop() ?? { type: 'waiting' });
  }
  await ended;
  const rest = news.pop();
  if (rest !== undefined) yield lineOf(rest);
  if (isSet(last)) yield lineOf(last);
}

/** The part of an error that may leave the node. */
export function problemOf(thrown: unknown): FailureView {
  const error = asMeshError(thrown);
  return { code: error.code, reason: error.reason, message: error.message };
}

function isSet<T>(value: T | undefined): value is T {
  return value !== undefined;
}

function lineOf(line: StreamLine): string {
  return `${JSON.stringify(line)}\n`;
}
