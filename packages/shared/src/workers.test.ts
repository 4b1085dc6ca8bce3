import { expect, test } from '@jest/globals';
import { openWorkerPool, type WorkerPool } from './workers.ts';

const jobs = new URL('./workers-testing-jobs.ts', import.meta.url);
const open = (options: Partial<Parameters<typeof openWorkerPool>[0]> = {}): WorkerPool =>
  openWorkerPool({ jobs, size: 2, deadlineMs: 5_000, memoryMib: 64, queueLimit: 50, ...options });

test('work is done in threads, in any number, and an error keeps its code and reason', async () => {
  const pool = open();
  try {
    const results = await Promise.all(Array.from({ length: 20 }, (_, value) => pool.run<number>('double', value)));
    expect(results).toEqual(Array.from({ length: 20 }, (_, value) => value * 2));
    await expect(pool.run('refuse', undefined)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', reason: 'TEST_REFUSED' });
    await expect(pool.run('absent', undefined)).rejects.toMatchObject({ code: 'INTERNAL' });
    await expect(pool.run('double', () => 1)).rejects.toMatchObject({ reason: 'WORKER_ARGUMENT' });
  } finally {
    await pool.close();
  }
  await expect(pool.run('double', 1)).rejects.toMatchObject({ reason: 'WORKERS_CLOSED' });
});

test('a job that hangs, grows or ends its thread is stopped, and the pool goes on', async () => {
  const pool = open({ size: 1, deadlineMs: 30_000, memoryMib: 24 });
  try {
    await expect(pool.run('grow', undefined)).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED', reason: 'WORKER_OUT_OF_MEMORY' });
    await expect(pool.run('exit', undefined)).rejects.toMatchObject({ code: 'INTERNAL' });
    expect(await pool.run('double', 4)).toBe(8);
  } finally {
    await pool.close();
  }
  const quick = open({ size: 1, deadlineMs: 1_500 });
  try {
    const after = [quick.run('hang', undefined), quick.run('double', 21)];
    await expect(after[0]).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED', reason: 'WORKER_DEADLINE' });
    expect(await after[1]).toBe(42);
  } finally {
    await quick.close();
  }
});

test('the queue has an end, and a caller that goes away is not kept waiting', async () => {
  const pool = open({ size: 1, queueLimit: 1 });
  try {
    const caller = new AbortController();
    const first = pool.run('nap', 300);
    const second = pool.run('nap', 1, { signal: caller.signal });
    await expect(pool.run('nap', 1)).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED', reason: 'WORKERS_BUSY' });
    caller.abort();
    await expect(second).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(await first).toBe(300);
  } finally {
    await pool.close();
  }
});
