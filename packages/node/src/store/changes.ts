import type { Database } from '@meridian/shared/database';
import type { Logger } from '@meridian/shared/log';
import type { StoreSchema } from './schema.ts';

/** What happened to a study. */
export type ChangeKind =
  | 'study-settled'
  | 'study-amended'
  | 'study-incomplete'
  | 'study-linked'
  | 'quarantined'
  | 'patient-conflict'
  | 'copy-complete'
  | 'copy-locked'
  | 'copy-unlocked';

/** One row of the change feed, written in the transaction of what it tells. */
export interface Change {
  /** Grows; may have gaps. */
  readonly seq: number;
  readonly kind: ChangeKind;
  readonly studyInstanceUid: string;
  /** Of the study's manifest; 0 where the change makes none. */
  readonly version: number;
  readonly atEpochMs: number;
  readonly detail: Readonly<Record<string, string | number>>;
}

/** The archive's news, for whoever keeps a cursor. */
export interface ChangeFeed {
  after(seq: number, limit: number): Promise<Change[]>;
  lastSeq(): Promise<number>;
  /** Calls back (soon) after new rows are durable. @returns how to stop that */
  onChange(listener: () => void): () => void;
}

/** Opens the feed. */
export function openChangeFeed(database: Database<StoreSchema>, log: Logger): ChangeFeed & { announce(): void } {
  const listeners = new Set<() => void>();
  return {
    after: async (seq, limit) => {
      const rows = await database.read.selectFrom('change').selectAll().where('seq', '>', seq).orderBy('seq').limit(limit).execute();
      return rows.map((row) => ({
        seq: row.seq,
        kind: row.kind as ChangeKind,
        studyInstanceUid: row.study_instance_uid,
        version: row.version,
        atEpochMs: row.at_epoch_ms,
        detail: JSON.parse(row.detail) as Change['detail'],
      }));
    },
    lastSeq: async () =>
      (
        await database.read
          .selectFrom('change')
          .select((of) => of.fn.max('seq').as('seq'))
          .executeTakeFirst()
      )?.seq ?? 0,
    onChange: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    announce: () => {
      for (const listener of listeners) {
        try {
          listener();
        } catch (thrown) {
          // The rows are durable: who could not take the news reads them next time, and nobody else misses them.
          log.error({ event: 'change-listener-failed', err: thrown });
        }
      }
    },
  };
}
