import { MeshError } from '@meridian/shared/errors';
import type { FetchProgress } from '../transfer/fetch.ts';
import { openCopyLocks } from './copy-locks.ts';
import type { FetchJobView } from './fetch-job.ts';
import { openFetchQueue } from './fetch-queue.ts';
import type { FetchedStudyView, FetchOrder } from './fetch-study.ts';
import { patientHistory, type HistoryRequest, type HistoryView } from './history.ts';
import type { JoinedParts, RetrieveParts } from './ports.ts';

/** The journey of a doctor: what is there of a person, and bring me this study. */
export interface Retrieve {
  /** See {@link patientHistory}. */
  patientHistory(request: HistoryRequest): Promise<HistoryView>;
  /**
   * Brings a study here and resolves when it is whole. It goes on by itself after an interruption, also of this process.
   * A signal that aborts with the reason NODE_STOPPING leaves it queued; any other cancels it.
   * @throws MeshError PERMISSION_DENIED / NO_CONSENT | CONSENT_…, NOT_FOUND / STUDY_UNKNOWN, UNAVAILABLE / …,
   *   DATA_LOSS / DIGEST_MISMATCH, FAILED_PRECONDITION / NOT_JOINED
   */
  fetch(
    order: FetchOrder & { readonly signal: AbortSignal; readonly onProgress: (progress: FetchProgress) => void },
  ): Promise<FetchedStudyView>;
  listTransfers(): Promise<FetchJobView[]>;
  close(): Promise<void>;
}

/** Opens the room; on a node that has joined it goes on with the fetches that an earlier process left. */
export async function openRetrieve(parts: RetrieveParts): Promise<Retrieve> {
  const { mesh } = parts;
  if (mesh === undefined) {
    return {
      patientHistory: (request) => patientHistory(parts, request),
      fetch: () =>
        Promise.reject(
          new MeshError(
            'FAILED_PRECONDITION',
            'NOT_JOINED',
            'This node has not joined a network. An administrator joins it with `meridian join` and the link from the operator.',
          ),
        ),
      listTransfers: async () => [],
      close: async () => undefined,
    };
  }
  const joined: JoinedParts = { ...parts, mesh };
  const locks = openCopyLocks(joined);
  const queue = await openFetchQueue(joined);
  const underway = new Set<Promise<void>>();
  const track = (work: Promise<void>): void => {
    const done = work.finally(() => underway.delete(done));
    underway.add(done);
  };
  const unsubscribe = mesh.consent.onRevoked((statement) => {
    // Running fetches end first: what they had stored is locked with the rest.
    queue.withdraw(statement);
    track(locks.withdraw(statement));
  });
  locks.watchValidity();
  track(locks.reconcile());

  return {
    patientHistory: (request) => patientHistory(parts, request),
    fetch: ({ signal, onProgress, ...order }) => queue.fetch(order, { signal, onProgress }),
    listTransfers: () => queue.list(),
    async close() {
      unsubscribe();
      await queue.close();
      await locks.close();
      await Promise.all(underway);
    },
  };
}
