import { join } from 'node:path';
import type { ConsentStatement } from '@meridian/shared/consent';
import { openSqlite } from '@meridian/shared/database';
import { asMeshError, MeshError } from '@meridian/shared/errors';
import { openQueue, queueMigrations, type QueueItem, type QueueSchema } from '@meridian/shared/queue';
import { refusal } from '../transfer/close-reason.ts';
import type { FetchProgress } from '../transfer/fetch.ts';
import { ends } from './copy-locks.ts';
import { openFetchJob, type FetchJob, type FetchJobView } from './fetch-job.ts';
import { fetchFromHolders, type FetchedStudyView, type FetchOrder } from './fetch-study.ts';
import { ENDED_FETCHES_SHOWN, FIRST_RETRY_MS, GIVE_UP_AFTER_MS, MAX_FETCHES, MAX_RETRY_MS, TRIES_BEFORE_TELLING } from './limits.ts';
import type { JoinedParts } from './ports.ts';

/** Fetches that outlive the process: an interrupted one goes on by itself. */
export interface FetchQueue {
  /** Starts a fetch, or joins the one that runs for the study. @throws what {@link fetchFromHolders} throws. */
  fetch(
    order: FetchOrder,
    run: { readonly signal: AbortSignal; readonly onProgress: (progress: FetchProgress) => void },
  ): Promise<FetchedStudyView>;
  list(): Promise<FetchJobView[]>;
  /** Ends what rests on a consent that this statement withdraws. */
  withdraw(statement: ConsentStatement): void;
  /** Stops the running fetches; they go on at the next start. */
  close(): Promise<void>;
}

interface QueuedOrder extends FetchOrder {
  readonly id: string;
  readonly queuedAtEpochMs: number;
}

type OrderedJob = FetchJob & { readonly order: QueuedOrder };

/** Opens the queue and goes on with what an earlier process left. */
export async function openFetchQueue(parts: JoinedParts): Promise<FetchQueue> {
  const { clock, log } = parts;
  const jobs = new Map<string, OrderedJob>();
  const ended: FetchJobView[] = [];
  const database = await openSqlite<QueueSchema>({ file: join(parts.folder, 'transfers.sqlite'), migrations: queueMigrations, readers: 1 });

  function end(job: FetchJob, change: Partial<FetchJobView>): void {
    jobs.delete(job.view.studyInstanceUid);
    ended.push({ ...job.view, ...change, finishedAtEpochMs: clock.now() });
    if (ended.length > ENDED_FETCHES_SHOWN) ended.shift();
  }
  function fail(job: FetchJob, error: MeshError): void {
    const state = error.code === 'CANCELLED' ? 'cancelled' : 'failed';
    end(job, { state, ...(state === 'failed' ? { failure: { code: error.code, reason: error.reason, message: error.message } } : {}) });
    job.reject(error);
  }
  function jobOf(order: QueuedOrder): OrderedJob {
    const known = jobs.get(order.studyInstanceUid);
    if (known !== undefined) return known;
    const job: OrderedJob = Object.assign(
      openFetchJob(queuedView(order), () => abandon(order.studyInstanceUid, job)),
      { order },
    );
    jobs.set(order.studyInstanceUid, job);
    return job;
  }
  /** A waiting item leaves the queue here; a running one when its try ends by the stop. */
  function abandon(study: string, job: FetchJob): void {
    if (job.view.state === 'queued')
      void queue.remove(study).then(
        () => fail(job, asMeshError(job.stop.signal.reason)),
        (thrown: unknown) => log.error({ event: 'retrieve.queue-failed', err: thrown }),
      );
  }

  /** One try. Resolves when the order is done or lost for good; throws to be tried again. */
  async function work(item: QueueItem<QueuedOrder>, closing: AbortSignal): Promise<void> {
    const order = item.payload;
    const job = jobOf(order);
    const signal = AbortSignal.any([closing, job.stop.signal]);
    job.view = { ...job.view, state: 'running' };
    let begun = item.attempt > 1;
    try {
      const onProgress = (progress: FetchProgress): void => {
        begun = true;
        job.tell(progress);
      };
      const onBasis = (basis: FetchJob['basis']): void => void (job.basis = basis);
      const result = await fetchFromHolders(parts, order, { signal, onProgress, onBasis });
      end(job, {
        state: 'done',
        resumedInstances: result.resumedInstances,
        digestMismatches: result.digestMismatches,
        holderNode: result.holderNode,
      });
      job.resolve(result);
    } catch (thrown) {
      const error = asMeshError(job.stop.signal.aborted ? job.stop.signal.reason : thrown);
      if (closing.aborted && !job.stop.signal.aborted) {
        job.reject(new MeshError('CANCELLED', 'NODE_STOPPING', 'The node is stopping; the copy goes on after the restart.'));
        throw error;
      }
      const isOver = clock.now() - order.queuedAtEpochMs > GIVE_UP_AFTER_MS;
      if (job.stop.signal.aborted || !begun || isOver || !isTemporary(error)) {
        // The copy may have been begun in the very instant of the withdrawal, after what was there was locked.
        if (job.basis !== undefined && isWithdrawal(error) && job.stop.signal.aborted)
          await parts.store.fetched.lock(job.basis.consent.hash);
        if (error.code === 'INTERNAL') log.error({ event: 'retrieve.fetch-failed', study: order.studyInstanceUid, err: thrown });
        return fail(job, error);
      }
      job.view = { ...job.view, state: 'queued' };
      job.basis = undefined;
      if ((job.triesWithoutProgress += 1) >= TRIES_BEFORE_TELLING) job.reject(error);
      throw error;
    }
  }
  /** A study that was ordered anew while its ended order still stood in the queue. */
  function onForgotten({ payload, key }: QueueItem<QueuedOrder>): void {
    const next = jobs.get(key);
    if (next === undefined || next.order.id === payload.id) return;
    void enqueueAgain(next, key);
  }
  async function enqueueAgain(job: OrderedJob, key: string): Promise<void> {
    try {
      await queue.enqueue(job.order, { key });
    } catch (thrown) {
      fail(job, asMeshError(thrown));
    }
  }
  const queue = await openQueue<QueuedOrder>({
    database,
    topic: 'fetch',
    clock,
    log,
    concurrency: MAX_FETCHES,
    timeoutMs: GIVE_UP_AFTER_MS,
    firstRetryMs: FIRST_RETRY_MS,
    maxRetryMs: MAX_RETRY_MS,
    handler: work,
    onForgotten,
  });

  return {
    async fetch(order, run) {
      run.signal.throwIfAborted();
      const queued: QueuedOrder = { ...order, id: parts.random.uuid(), queuedAtEpochMs: clock.now() };
      // The waiter stands before the work begins, so that it misses nothing.
      const job = jobOf(queued);
      // Who asks for the images of one hospital must not be given those of another because these are on their way.
      if (order.holderNode !== undefined && job.order.holderNode !== order.holderNode)
        throw new MeshError(
          'FAILED_PRECONDITION',
          'COPY_OF_ANOTHER_HOLDER',
          'This study is being copied from another hospital now. Wait for its end, or cancel it.',
        );
      const result = job.wait(run.signal, run.onProgress);
      await Promise.all([
        result,
        queue.enqueue(queued, { key: order.studyInstanceUid }).catch((thrown: unknown) => fail(job, asMeshError(thrown))),
      ]);
      return result;
    },
    async list() {
      const pending = await queue.pending();
      // An order that has just ended may still stand in the queue.
      const over = new Set(ended.map((view) => view.id));
      const left = pending.map(({ payload }) => payload).filter((order) => !jobs.has(order.studyInstanceUid) && !over.has(order.id));
      const live = [...[...jobs.values()].map((job) => job.view), ...left.map(queuedView)];
      const studies = new Set(live.map((view) => view.studyInstanceUid));
      return [...live, ...ended.filter((view) => !studies.has(view.studyInstanceUid))];
    },
    withdraw(statement) {
      const self = parts.mesh.federation.nodeId;
      for (const job of jobs.values()) {
        if (job.basis === undefined || !ends(statement, job.basis.consent, self)) continue;
        job.stop.abort(refusal(statement.status === 'refused' ? 'CONSENT_REFUSED' : 'CONSENT_REVOKED'));
      }
    },
    async close() {
      await queue.close();
      await database.close();
    },
  };
}

function queuedView(order: QueuedOrder): FetchJobView {
  return {
    id: order.id,
    studyInstanceUid: order.studyInstanceUid,
    state: 'queued',
    ...(order.holderNode === undefined ? {} : { holderNode: order.holderNode }),
    startedAtEpochMs: order.queuedAtEpochMs,
  };
}

function isWithdrawal(error: MeshError): boolean {
  return error.reason === 'CONSENT_REVOKED' || error.reason === 'CONSENT_REFUSED';
}

/** Another hospital, the index or the line is away for now, or the grant ran out while they were. */
function isTemporary(error: MeshError): boolean {
  return (
    error.code === 'UNAVAILABLE' ||
    error.code === 'DEADLINE_EXCEEDED' ||
    error.reason === 'GRANT_EXPIRED' ||
    error.reason === 'TRANSFERS_BUSY' ||
    error.reason === 'DISK_LOW'
  );
}
