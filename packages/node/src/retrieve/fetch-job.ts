import { MeshError, type StatusCode } from '@meridian/shared/errors';
import type { FetchProgress } from '../transfer/fetch.ts';
import type { FetchBasis, FetchedStudyView } from './fetch-study.ts';

/** A fetch as the list of transfers shows it. No person id is kept here. */
export interface FetchJobView {
  readonly id: string;
  readonly studyInstanceUid: string;
  readonly state: 'queued' | 'running' | 'done' | 'failed' | 'cancelled';
  readonly holderNode?: string;
  readonly progress?: FetchProgress;
  readonly failure?: { readonly code: StatusCode; readonly reason: string; readonly message: string };
  readonly startedAtEpochMs: number;
  readonly finishedAtEpochMs?: number;
  readonly resumedInstances?: number;
  readonly digestMismatches?: number;
}

/** One fetch in this process: those who wait for it, how far it is, and how to stop it. */
export interface FetchJob {
  view: FetchJobView;
  basis: FetchBasis | undefined;
  /** Tries since the last instance arrived. */
  triesWithoutProgress: number;
  readonly stop: AbortController;
  /** Waits for the end. A waiter that goes away with another reason than the node's stop cancels, if it was the last. */
  wait(signal: AbortSignal, onProgress: (progress: FetchProgress) => void): Promise<FetchedStudyView>;
  tell(progress: FetchProgress): void;
  resolve(result: FetchedStudyView): void;
  /** Tells the waiters; the job itself may go on. */
  reject(error: MeshError): void;
}

interface Waiter {
  readonly onProgress: (progress: FetchProgress) => void;
  resolve(result: FetchedStudyView): void;
  reject(error: unknown): void;
}

/** @param onAbandoned called when the last waiter cancelled. */
export function openFetchJob(view: FetchJobView, onAbandoned: () => void): FetchJob {
  const waiters = new Set<Waiter>();
  const settle = (end: (waiter: Waiter) => void): void => {
    for (const waiter of waiters) end(waiter);
    waiters.clear();
  };
  const job: FetchJob = {
    view,
    basis: undefined,
    triesWithoutProgress: 0,
    stop: new AbortController(),
    wait: (signal, onProgress) =>
      new Promise((resolve, reject) => {
        const waiter: Waiter = { onProgress, resolve, reject };
        const onAbort = (): void => {
          if (!waiters.delete(waiter)) return;
          const reason: unknown = signal.reason;
          reject(
            reason instanceof Error
              ? reason
              : new MeshError('CANCELLED', 'TRANSFER_CANCELLED', 'The copy was cancelled here. What had arrived is kept.'),
          );
          if (waiters.size > 0 || (reason instanceof MeshError && reason.reason === 'NODE_STOPPING')) return;
          job.stop.abort(new MeshError('CANCELLED', 'TRANSFER_CANCELLED', 'The copy was cancelled here. What had arrived is kept.'));
          onAbandoned();
        };
        waiters.add(waiter);
        if (signal.aborted) onAbort();
        else signal.addEventListener('abort', onAbort, { once: true });
        if (job.view.progress !== undefined) onProgress(job.view.progress);
      }),
    tell(progress) {
      if (progress.instancesVerified !== job.view.progress?.instancesVerified) job.triesWithoutProgress = 0;
      job.view = { ...job.view, progress };
      for (const waiter of waiters) waiter.onProgress(progress);
    },
    resolve: (result) => settle((waiter) => waiter.resolve(result)),
    reject: (error) => settle((waiter) => waiter.reject(error)),
  };
  return job;
}
