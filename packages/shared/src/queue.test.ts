import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { sql } from 'kysely';
import { openSqlite, type Database } from './database.ts';
import { MeshError } from './errors.ts';
import { silentLog } from './log.ts';
import type { Clock } from './platform/clock.ts';
import { openQueue, queueMigrations, type QueueItem, type QueueSchema } from './queue.ts';

/** A clock that moves when told; callbacks run when their time has come. */
function manualClock(): Clock & { advance(ms: number): void } {
  let now = 1_000_000;
  const timers = new Set<{ at: number; callback: () => void }>();
  return {
    now: () => now,
    monotonicMs: () => now,
    sleep: () => Promise.reject(new Error('not used')),
    after: (ms, callback) => {
      const timer = { at: now + ms, callback };
      timers.add(timer);
      return { cancel: () => timers.delete(timer) };
    },
    advance: (ms) => {
      now += ms;
      for (const timer of [...timers].filter(({ at }) => at <= now)) {
        timers.delete(timer);
        timer.callback();
      }
    },
  };
}

async function using(
  work: (database: Database<QueueSchema>, reopen: () => Promise<Database<QueueSchema>>) => Promise<void>,
): Promise<void> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'meridian-queue-'));
  const open = (): Promise<Database<QueueSchema>> =>
    openSqlite<QueueSchema>({ file: path.join(folder, 'q.sqlite'), migrations: queueMigrations });
  let database = await open();
  try {
    await work(database, async () => {
      await database.close();
      database = await open();
      return database;
    });
  } finally {
    await database.close();
    await rm(folder, { recursive: true, force: true });
  }
}

test('a failed item is tried again with growing pauses, then is dead until requeued', () =>
  using(async (database) => {
    const clock = manualClock();
    const tries: number[] = [];
    let works = false;
    const queue = await openQueue<{ n: number }>({
      database,
      topic: 't',
      clock,
      log: silentLog,
      firstRetryMs: 100,
      maxRetryMs: 150,
      maxAttempts: 3,
      handler: (item) => {
        tries.push(clock.now() - 1_000_000);
        return works ? Promise.resolve() : Promise.reject(new MeshError('UNAVAILABLE', 'INDEX_UNREACHABLE', `No ${item.payload.n}`));
      },
    });
    try {
      expect(await queue.enqueue({ n: 1 }, { key: 'a' })).toBe(true);
      expect(await queue.enqueue({ n: 1 }, { key: 'a' })).toBe(false);
      await queue.idle();
      for (const step of [99, 1, 149, 1, 1000]) {
        clock.advance(step);
        await queue.idle();
      }
      expect(tries).toEqual([0, 100, 250]);
      expect(await queue.dead()).toMatchObject([{ key: 'a', payload: { n: 1 }, attempt: 3, lastError: 'INDEX_UNREACHABLE' }]);
      works = true;
      await queue.requeue('a');
      await queue.idle();
      expect(await queue.dead()).toEqual([]);
      expect(await queue.pending()).toEqual([]);
      expect(await queue.enqueue({ n: 2 }, { key: 'a' })).toBe(true);
      await queue.idle();
    } finally {
      await queue.close();
    }
  }));

test('strict order: a failing head holds up the rest, and everything survives a restart in order', () =>
  using(async (first, reopen) => {
    const clock = manualClock();
    const handled: string[] = [];
    let down = true;
    const handler = (item: QueueItem<number>): Promise<void> => {
      if (down) return Promise.reject(new Error('down'));
      handled.push(item.key);
      return Promise.resolve();
    };
    const open = (database: Database<QueueSchema>): ReturnType<typeof openQueue<number>> =>
      openQueue<number>({ database, topic: 'outbox', clock, log: silentLog, order: 'strict', handler });
    let queue = await open(first);
    for (const key of ['a', 'b', 'c']) await queue.enqueue(1, { key });
    await queue.idle();
    await queue.close();
    const second = await reopen();
    queue = await open(second);
    try {
      await second.write.transaction().execute(async (transaction) => {
        await queue.enqueue(1, { key: 'd', within: transaction });
      });
      await queue.idle();
      expect(handled).toEqual([]);
      down = false;
      queue.wake({ retryNow: true });
      await queue.idle();
      expect(handled).toEqual(['a', 'b', 'c', 'd']);
    } finally {
      await queue.close();
    }
  }));

test('closing aborts a running handler and leaves its item for the next start; an endless one is cut', () =>
  using(async (database) => {
    const clock = manualClock();
    const reasons: string[] = [];
    const options = {
      database,
      topic: 't',
      clock,
      log: silentLog,
      timeoutMs: 500,
      handler: (_: QueueItem<number>, signal: AbortSignal): Promise<void> =>
        new Promise((_resolve, reject) =>
          signal.addEventListener('abort', () => {
            reasons.push((signal.reason as Error).message);
            reject(signal.reason as Error);
          }),
        ),
    };
    const queue = await openQueue<number>(options);
    await queue.enqueue(1, { key: 'a' });
    while ((await database.read.selectFrom('queue_item').selectAll().where('state', '=', 'running').execute()).length === 0)
      await new Promise(setImmediate);
    await new Promise(setImmediate);
    clock.advance(500);
    await queue.idle();
    expect(await queue.pending()).toMatchObject([{ attempt: 1 }]);
    clock.advance(1000);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await queue.close();
    expect(reasons).toEqual(['No end after 500 ms', 'The queue is closing']);
    const again = await openQueue<number>({ ...options, handler: () => Promise.resolve() });
    await again.idle();
    expect(await again.pending()).toEqual([]);
    await again.close();
  }));

test('an item whose end could not be written is not lost: it is written later, and then its key is free', () =>
  using(async (database) => {
    const clock = manualClock();
    const handled: string[] = [];
    const forgotten: string[] = [];
    const queue = await openQueue<number>({
      database,
      topic: 't',
      clock,
      log: silentLog,
      firstRetryMs: 100,
      concurrency: 2,
      handler: async ({ key, attempt }) => {
        handled.push(`${key}${attempt}`);
        if (key === 'b' && attempt === 1) throw new MeshError('UNAVAILABLE', 'INDEX_UNREACHABLE', 'Not now.');
      },
      onForgotten: ({ key }) => forgotten.push(key),
    });
    // As a full disk does: what is taken can no longer be changed.
    await sql`CREATE TRIGGER full_delete BEFORE DELETE ON queue_item BEGIN SELECT RAISE(ABORT, 'full'); END`.execute(database.write);
    await sql`CREATE TRIGGER full_update BEFORE UPDATE ON queue_item WHEN new.state = 'waiting' BEGIN SELECT RAISE(ABORT, 'full'); END`.execute(
      database.write,
    );
    await queue.enqueue(1, { key: 'a' });
    await queue.enqueue(2, { key: 'b' });
    await queue.idle();
    clock.advance(100);
    await queue.idle();
    expect([handled, forgotten]).toEqual([['a1', 'b1'], []]);
    expect(await queue.enqueue(3, { key: 'a' })).toBe(false);
    await sql`DROP TRIGGER full_delete`.execute(database.write);
    await sql`DROP TRIGGER full_update`.execute(database.write);
    clock.advance(100);
    await queue.idle();
    clock.advance(1000);
    await queue.idle();
    expect([handled, forgotten]).toEqual([
      ['a1', 'b1', 'b2'],
      ['a', 'b'],
    ]);
    expect(await queue.enqueue(4, { key: 'a' })).toBe(true);
    await queue.idle();
    expect(handled.at(-1)).toBe('a1');
    expect(await queue.pending()).toEqual([]);
    await queue.close();
  }));
