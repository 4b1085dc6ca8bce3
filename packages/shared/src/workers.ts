import { Worker, type Transferable } from 'node:worker_threads';
import { MeshError, type Reason, type StatusCode } from './errors.ts';
import { systemClock, type Clock } from './platform/clock.ts';

/** What a pool of worker threads needs. */
export interface WorkerPoolOptions {
  /** Module whose named exports are the jobs: `(argument) => result`, sync or async; arguments and results are cloned. */
  readonly jobs: URL;
  /** Threads at most; they start when they are first needed. */
  readonly size: number;
  /** A job that takes longer is killed with its thread. */
  readonly deadlineMs: number;
  /** JavaScript heap of one thread, MiB. Buffers and WebAssembly memory are outside it: jobs bound those by their input. */
  readonly memoryMib: number;
  /** Jobs that may wait for a thread. */
  readonly queueLimit: number;
  readonly clock?: Clock;
}

/** What may be said of one run. */
export interface RunOptions {
  readonly signal?: AbortSignal;
  /** Buffers of the argument that move to the thread instead of being copied. */
  readonly transfer?: readonly Transferable[];
}

/** Worker threads for work that must not hold the main loop, or that may hang or grow on hostile input. */
export interface WorkerPool {
  /**
   * Runs one job.
   * @throws MeshError of the job; DEADLINE_EXCEEDED / WORKER_DEADLINE; RESOURCE_EXHAUSTED / WORKER_OUT_OF_MEMORY |
   * WORKERS_BUSY; CANCELLED / WORK_CANCELLED; UNAVAILABLE / WORKERS_CLOSED
   */
  run<Result>(job: string, argument: unknown, options?: RunOptions): Promise<Result>;
  close(): Promise<void>;
}

/** What the thread answers. */
export type WorkerAnswer =
  | { readonly ok: true; readonly result: unknown }
  | { readonly ok: false; readonly code: StatusCode; readonly reason: Reason; readonly message: string; readonly cause: string };

interface Task {
  readonly job: string;
  readonly argument: unknown;
  readonly transfer: readonly Transferable[];
  settle(answer: WorkerAnswer | MeshError): void;
  settled: boolean;
}

interface Thread {
  readonly worker: Worker;
  /** Ends the task under way: what it came to, and whether the thread may take another. */
  finish: ((answer: WorkerAnswer | MeshError, next: 'reuse' | 'drop') => void) | undefined;
}

/** Opens a pool; no thread starts before the first job. */
export function openWorkerPool(options: WorkerPoolOptions): WorkerPool {
  const clock = options.clock ?? systemClock;
  const idle: Thread[] = [];
  const all = new Set<Thread>();
  const waiting: Task[] = [];
  let closed = false;

  const start = (): Thread => {
    const worker = new Worker(new URL('./worker-entry.ts', import.meta.url), {
      workerData: { jobs: options.jobs.href },
      resourceLimits: { maxOldGenerationSizeMb: options.memoryMib },
    });
    const thread: Thread = { worker, finish: undefined };
    worker.on('message', (answer: WorkerAnswer) => thread.finish?.(answer, 'reuse'));
    worker.on('error', (error: Error) => thread.finish?.(threadError(error), 'drop'));
    worker.on('exit', () => {
      thread.finish?.(new MeshError('INTERNAL', 'WORKER_EXITED', 'The thread that did the work ended.'), 'drop');
      drop(thread);
    });
    all.add(thread);
    return thread;
  };

  const drop = (thread: Thread): void => {
    all.delete(thread);
    const at = idle.indexOf(thread);
    if (at >= 0) idle.splice(at, 1);
    void thread.worker.terminate();
  };

  const pump = (): void => {
    while (waiting.length > 0 && (idle.length > 0 || all.size < options.size)) {
      const task = waiting.shift();
      if (task === undefined || task.settled) continue;
      runOn(idle.pop() ?? start(), task);
    }
  };

  const runOn = (thread: Thread, task: Task): void => {
    const deadline = clock.after(options.deadlineMs, () =>
      thread.finish?.(new MeshError('DEADLINE_EXCEEDED', 'WORKER_DEADLINE', 'The work took longer than it may and was stopped.'), 'drop'),
    );
    thread.finish = (answer, next) => {
      thread.finish = undefined;
      deadline.cancel();
      if (next === 'reuse' && !closed) {
        thread.worker.unref();
        idle.push(thread);
      } else drop(thread);
      task.settle(answer);
      pump();
    };
    thread.worker.ref();
    try {
      thread.worker.postMessage({ job: task.job, argument: task.argument }, task.transfer);
    } catch (error) {
      thread.finish(new MeshError('INTERNAL', 'WORKER_ARGUMENT', 'The work could not be handed to a thread.', { cause: error }), 'reuse');
    }
  };

  return {
    run: <Result>(job: string, argument: unknown, { signal, transfer = [] }: RunOptions = {}) =>
      new Promise<Result>((resolve, reject) => {
        if (closed) return reject(new MeshError('UNAVAILABLE', 'WORKERS_CLOSED', 'This node is stopping.'));
        if (signal?.aborted === true) return reject(cancelled());
        if (waiting.length >= options.queueLimit)
          return reject(new MeshError('RESOURCE_EXHAUSTED', 'WORKERS_BUSY', 'Too much work waits already. Try again in a moment.'));
        const onAbort = (): void => task.settle(cancelled());
        const task: Task = {
          job,
          argument,
          transfer,
          settled: false,
          settle: (answer) => {
            if (task.settled) return;
            task.settled = true;
            signal?.removeEventListener('abort', onAbort);
            if (answer instanceof MeshError) reject(answer);
            else if (answer.ok) resolve(answer.result as Result);
            else reject(new MeshError(answer.code, answer.reason, answer.message, { cause: new Error(answer.cause) }));
          },
        };
        signal?.addEventListener('abort', onAbort, { once: true });
        waiting.push(task);
        pump();
      }),
    close: async () => {
      closed = true;
      for (const task of waiting.splice(0)) task.settle(new MeshError('UNAVAILABLE', 'WORKERS_CLOSED', 'This node is stopping.'));
      await Promise.all([...all].map(({ worker }) => worker.terminate()));
      all.clear();
    },
  };
}

const cancelled = (): MeshError => new MeshError('CANCELLED', 'WORK_CANCELLED', 'The caller went away before the work was done.');

function threadError(error: Error): MeshError {
  if ('code' in error && error.code === 'ERR_WORKER_OUT_OF_MEMORY') {
    return new MeshError('RESOURCE_EXHAUSTED', 'WORKER_OUT_OF_MEMORY', 'The work needed more memory than it may have and was stopped.', {
      cause: error,
    });
  }
  return new MeshError('INTERNAL', 'WORKER_FAILED', 'The thread that did the work failed.', { cause: error });
}
