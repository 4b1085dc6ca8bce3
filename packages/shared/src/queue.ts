import { sql, type Generated, type Kysely } from 'kysely';
import type { Database, Migrations } from './database.ts';
import { asMeshError, type MeshError } from './errors.ts';
import type { Logger } from './log.ts';
import type { Clock } from './platform/clock.ts';

/** The table behind every queue of a database; put it into the owner's schema type. */
export interface QueueSchema {
  queue_item: {
    id: Generated<number>;
    topic: string;
    key: string;
    payload: string;
    state: 'waiting' | 'running' | 'dead';
    attempts: number;
    due_at_epoch_ms: number;
    last_error: string | null;
  };
}

/** Add to the owner's migrations: one table serves all topics. */
export const queueMigrations: Migrations = {
  '900-create-queue': async (database) => {
    await sql`CREATE TABLE queue_item (
      id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, key TEXT NOT NULL, payload TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'waiting',
      attempts INTEGER NOT NULL DEFAULT 0, due_at_epoch_ms INTEGER NOT NULL, last_error TEXT, UNIQUE (topic, key))`.execute(database);
    await sql`CREATE INDEX queue_item_due ON queue_item (topic, state, due_at_epoch_ms, id)`.execute(database);
  },
};

/** One piece of work as the handler sees it. */
export interface QueueItem<Payload> {
  readonly id: number;
  readonly key: string;
  readonly payload: Payload;
  /** 1 on the first try. */
  readonly attempt: number;
  /** Reason of the last failure or, of a dead item, of the one that ended it. */
  readonly lastError?: string;
}

/** A durable queue: work survives a crash and is handled at least once. */
export interface Queue<Payload> {
  /**
   * Durable when it resolves. While an unfinished item has the same key, nothing changes.
   * @param options.within a transaction of the same database; call {@link Queue.wake} after it committed.
   * @returns whether a new item was made.
   */
  enqueue(payload: Payload, options: { key: string; delayMs?: number; within?: Kysely<QueueSchema> }): Promise<boolean>;
  /** Looks for work now: waiting items forget their back-off. */
  wake(options?: { retryNow?: boolean }): void;
  pending(): Promise<QueueItem<Payload>[]>;
  /** Items that failed for good; they stay until requeued or removed. */
  dead(): Promise<QueueItem<Payload>[]>;
  requeue(key: string): Promise<void>;
  remove(key: string): Promise<void>;
  /** Resolves when nothing runs and nothing is due now. */
  idle(): Promise<void>;
  /** Aborts the running handlers and waits for them; their items are tried again at the next start. */
  close(): Promise<void>;
}

/** How a queue works; times in milliseconds. */
export interface QueueOptions<Payload> {
  readonly database: Database<QueueSchema>;
  readonly topic: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** Resolved: done and forgotten. Thrown: tried again later. The signal aborts at `timeoutMs` and on close. */
  handler(item: QueueItem<Payload>, signal: AbortSignal): Promise<void>;
  /** Called when a handled item is forgotten: from now on its key is free. */
  onForgotten?(item: QueueItem<Payload>): void;
  /** Items handled at once; 1 unless given. */
  readonly concurrency?: number;
  /** `strict`: a failed item holds up those behind it. */
  readonly order?: 'strict' | 'loose';
  readonly timeoutMs?: number;
  readonly firstRetryMs?: number;
  readonly maxRetryMs?: number;
  /** After so many failures the item is dead; never unless given. */
  readonly maxAttempts?: number;
  /** Failures that no retry can mend. */
  isPermanent?(error: MeshError): boolean;
}

type Row = { id: number; key: string; payload: string; attempts: number; last_error: string | null };

/** Opens the queue of one topic and starts to work on what an earlier process left. */
export async function openQueue<Payload>(options: QueueOptions<Payload>): Promise<Queue<Payload>> {
  const { database, topic, clock, log } = options;
  const closing = new AbortController();
  const running = new Set<Promise<void>>();
  /** What could not be written of items whose handler has ended (a full disk): written as soon as it can be. */
  const unwritten = new Map<number, () => Promise<void>>();
  let timer: { cancel(): void } | undefined;
  let looking: Promise<void> = Promise.resolve();

  // One process works on a file: what is marked running was left by one that died.
  await database.write
    .updateTable('queue_item')
    .set({ state: 'waiting' })
    .where('topic', '=', topic)
    .where('state', '=', 'running')
    .execute();

  const take = async (): Promise<Row | undefined> =>
    database.write.transaction().execute(async (transaction) => {
      const head = await transaction
        .selectFrom('queue_item')
        .select(['id', 'key', 'payload', 'attempts', 'last_error', 'due_at_epoch_ms', 'state'])
        .where('topic', '=', topic)
        .where('state', 'in', options.order === 'strict' ? ['waiting', 'running'] : ['waiting'])
        .orderBy(options.order === 'strict' ? 'id' : 'due_at_epoch_ms')
        .orderBy('id')
        .limit(1)
        .executeTakeFirst();
      if (head === undefined || head.state === 'running' || head.due_at_epoch_ms > clock.now()) {
        if (head?.state === 'waiting') rest(head.due_at_epoch_ms - clock.now());
        return undefined;
      }
      await transaction
        .updateTable('queue_item')
        .set({ state: 'running', attempts: head.attempts + 1 })
        .where('id', '=', head.id)
        .execute();
      return { ...head, attempts: head.attempts + 1 };
    });

  const rest = (ms: number): void => {
    timer?.cancel();
    timer = closing.signal.aborted ? undefined : clock.after(Math.max(ms, 1), wake);
  };

  const work = async (row: Row): Promise<void> => {
    const overdue = new AbortController();
    const limit = clock.after(options.timeoutMs ?? 600_000, () =>
      overdue.abort(new Error(`No end after ${options.timeoutMs ?? 600_000} ms`)),
    );
    try {
      await options.handler(toItem(row), AbortSignal.any([closing.signal, overdue.signal]));
      await write(row, () => forget(row));
    } catch (thrown) {
      if (!closing.signal.aborted) await write(row, () => putBack(row, asMeshError(thrown)));
    } finally {
      limit.cancel();
    }
  };

  const write = async (row: Row, change: () => Promise<void>): Promise<void> => {
    try {
      await change();
      unwritten.delete(row.id);
    } catch (thrown) {
      unwritten.set(row.id, () => write(row, change));
      log.error({ event: 'queue-failed', topic, reason: asMeshError(thrown).reason, err: thrown });
    }
  };

  const forget = async (row: Row): Promise<void> => {
    await database.write.deleteFrom('queue_item').where('id', '=', row.id).execute();
    options.onForgotten?.(toItem(row));
  };

  const putBack = async (row: Row, error: MeshError): Promise<void> => {
    const over = row.attempts >= (options.maxAttempts ?? Infinity) || options.isPermanent?.(error) === true;
    const delayMs = Math.min(options.maxRetryMs ?? 60_000, (options.firstRetryMs ?? 1_000) * 2 ** Math.min(row.attempts - 1, 30));
    log[over ? 'error' : 'warn']({
      event: over ? 'queue-item-dead' : 'queue-item-failed',
      topic,
      key: row.key,
      attempt: row.attempts,
      reason: error.reason,
      err: error.cause ?? error,
    });
    await database.write
      .updateTable('queue_item')
      .set({ state: over ? 'dead' : 'waiting', due_at_epoch_ms: clock.now() + delayMs, last_error: error.reason })
      .where('id', '=', row.id)
      .execute();
  };

  const look = async (): Promise<void> => {
    for (const again of unwritten.values()) await again();
    try {
      await takeAll();
    } finally {
      if (unwritten.size > 0) rest(options.firstRetryMs ?? 1_000);
    }
  };

  const takeAll = async (): Promise<void> => {
    while (!closing.signal.aborted && running.size < (options.concurrency ?? 1)) {
      const row = await take();
      if (row === undefined) return;
      const job: Promise<void> = work(row)
        .catch((thrown: unknown) => log.error({ event: 'queue-failed', topic, err: thrown }))
        .then(() => {
          running.delete(job);
          wake();
        });
      running.add(job);
    }
  };

  const wake = (): void => {
    looking = looking.then(look).catch((thrown: unknown) => {
      if (closing.signal.aborted) return;
      log.error({ event: 'queue-failed', topic, err: thrown });
      rest(options.maxRetryMs ?? 60_000);
    });
  };

  const list = async (states: QueueSchema['queue_item']['state'][]): Promise<QueueItem<Payload>[]> => {
    const rows = await database.read
      .selectFrom('queue_item')
      .select(['id', 'key', 'payload', 'attempts', 'last_error'])
      .where('topic', '=', topic)
      .where('state', 'in', states)
      .orderBy('id')
      .execute();
    return rows.map((row) => toItem(row));
  };

  const toItem = (row: Row): QueueItem<Payload> => ({
    id: row.id,
    key: row.key,
    payload: JSON.parse(row.payload) as Payload,
    attempt: row.attempts,
    ...(row.last_error === null ? {} : { lastError: row.last_error }),
  });

  wake();
  return {
    enqueue: async (payload, { key, delayMs, within }) => {
      const result = await (within ?? database.write)
        .insertInto('queue_item')
        .values({
          topic,
          key,
          payload: JSON.stringify(payload),
          state: 'waiting',
          attempts: 0,
          due_at_epoch_ms: clock.now() + (delayMs ?? 0),
          last_error: null,
        })
        .onConflict((conflict) => conflict.columns(['topic', 'key']).doNothing())
        .executeTakeFirst();
      if (within === undefined) wake();
      return (result.numInsertedOrUpdatedRows ?? 0n) > 0n;
    },
    wake: (how) => {
      if (how?.retryNow !== true) return wake();
      looking = looking
        .then(async () => {
          await database.write
            .updateTable('queue_item')
            .set({ due_at_epoch_ms: clock.now() })
            .where('topic', '=', topic)
            .where('state', '=', 'waiting')
            .where('due_at_epoch_ms', '>', clock.now())
            .execute();
        })
        .catch((thrown: unknown) => log.error({ event: 'queue-failed', topic, err: thrown }));
      wake();
    },
    pending: () => list(['waiting', 'running']),
    dead: () => list(['dead']),
    requeue: async (key) => {
      await database.write
        .updateTable('queue_item')
        .set({ state: 'waiting', attempts: 0, due_at_epoch_ms: clock.now() })
        .where('topic', '=', topic)
        .where('key', '=', key)
        .where('state', '=', 'dead')
        .execute();
      wake();
    },
    remove: async (key) => {
      await database.write
        .deleteFrom('queue_item')
        .where('topic', '=', topic)
        .where('key', '=', key)
        .where('state', '!=', 'running')
        .execute();
    },
    idle: async () => {
      for (;;) {
        const before = looking;
        await before;
        if (running.size > 0) await Promise.race(running);
        else if (before === looking) return;
      }
    },
    close: async () => {
      closing.abort(new Error('The queue is closing'));
      timer?.cancel();
      await looking;
      await Promise.all(running);
    },
  };
}
