import { inspect } from 'node:util';
import { parentPort, workerData } from 'node:worker_threads';
import { asMeshError } from './errors.ts';
import type { WorkerAnswer } from './workers.ts';

// The first file of a thread of workers.ts: loads the module of jobs and runs them one at a time.
const { jobs } = workerData as { jobs: string };
const loaded = import(jobs) as Promise<Record<string, unknown>>;

parentPort?.on('message', (message: { job: string; argument: unknown }) => {
  void answer(message).then((reply) => parentPort?.postMessage(reply));
});

async function answer({ job, argument }: { job: string; argument: unknown }): Promise<WorkerAnswer> {
  try {
    const run = (await loaded)[job];
    if (typeof run !== 'function') throw new Error(`${jobs} has no job ${job}`);
    return { ok: true, result: await (run as (argument: unknown) => unknown)(argument) };
  } catch (thrown) {
    const error = asMeshError(thrown);
    const cause = error.cause instanceof Error ? (error.cause.stack ?? error.cause.message) : inspect(error.cause);
    return { ok: false, code: error.code, reason: error.reason, message: error.message, cause };
  }
}
