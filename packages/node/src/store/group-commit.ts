import type { Database } from '@meridian/shared/database';
import type { Clock } from '@meridian/shared/platform/clock';
import type { CommitRecord, CommitResult } from './commit-record.ts';
import type { StoreSchema } from './schema.ts';

const GROUP_SIZE = 256;
/** Files that may wait for the writer thread, which flushes them one by one; more are flushed side by side elsewhere. */
const MOST_FILES = 4;

/** Enters instances into the tables; those that wait at the same time share one commit, hence one flush. */
export interface GroupCommit {
  /** Resolves when the row is durable. The file must be durable before, or come with the record. */
  add(record: CommitRecord): Promise<CommitResult>;
  /** Whether a record may bring its file; false while the writer thread has enough to flush. */
  readonly takesFiles: boolean;
  idle(): Promise<void>;
}

interface Waiting {
  readonly record: CommitRecord;
  resolve(result: CommitResult): void;
  reject(thrown: unknown): void;
}

/** Opens the committer over a database whose job module has `commitInstances`. */
export function openGroupCommit(parts: { database: Database<StoreSchema>; clock: Clock }): GroupCommit {
  const { database, clock } = parts;
  let queue: Waiting[] = [];
  let running: Promise<void> | undefined;
  let files = 0;

  const commit = async (group: readonly Waiting[]): Promise<void> => {
    try {
      const results = await database.run<CommitResult[]>('commitInstances', {
        nowEpochMs: clock.now(),
        records: group.map(({ record }) => record),
      });
      for (const [index, result] of results.entries()) group[index]?.resolve(result);
    } catch (thrown) {
      if (group.length === 1) return group[0]?.reject(thrown);
      // One bad record must not take its neighbours with it.
      for (const one of group) await commit([one]);
    }
  };
  const drain = async (): Promise<void> => {
    while (queue.length > 0) {
      const group = queue.slice(0, GROUP_SIZE);
      queue = queue.slice(GROUP_SIZE);
      await commit(group);
      files -= filesOf(group);
    }
    running = undefined;
  };
  return {
    add: (record) =>
      new Promise((resolve, reject) => {
        queue.push({ record, resolve, reject });
        if (record.file !== null) files += 1;
        running ??= drain();
      }),
    get takesFiles() {
      return files < MOST_FILES;
    },
    idle: async () => {
      await running;
    },
  };
}

function filesOf(group: readonly Waiting[]): number {
  return group.filter(({ record }) => record.file !== null).length;
}
