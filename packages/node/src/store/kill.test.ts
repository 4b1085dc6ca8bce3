import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { expect, test } from '@jest/globals';
import { usingStore } from './testing/stores.ts';
import type { Store } from './store.ts';

const LOAD = new URL('./testing/ingest-load.ts', import.meta.url).pathname;

/** Small seeded generator (mulberry32): kills fall at the same moments for the same seed. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** Runs the load until it has acknowledged some and a random moment has come, then kills it. */
async function runAndKill(
  folder: string,
  options: { round: number; minimum: number; extraMs: number; fault?: string },
): Promise<Map<string, string>> {
  const child = spawn(process.execPath, ['--no-warnings', LOAD, folder, String(options.round), options.fault ?? ''], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const acknowledged = new Map<string, string>();
  const exited = once(child, 'exit');
  try {
    for await (const line of createInterface({ input: child.stdout })) {
      const [sop, digest] = line.split(' ');
      if (sop !== undefined && digest !== undefined) acknowledged.set(sop, digest);
      if (acknowledged.size === options.minimum) setTimeout(() => child.kill('SIGKILL'), options.extraMs);
    }
  } finally {
    child.kill('SIGKILL');
    await exited;
  }
  return acknowledged;
}

/** Counts what was acknowledged and is not here whole, and rows whose file is torn. */
async function inspect(
  store: Store,
  folder: string,
  acknowledged: ReadonlyMap<string, string>,
): Promise<{ lost: number; halfRows: number; filesWithoutRow: number }> {
  const rows = await store.studies.findInstances({ limit: 10_000 });
  const held = new Map<string, string>();
  let halfRows = 0;
  for (const row of rows) {
    const bytes = await store.studies.readDataSet(row, 0, row.bytes).catch(() => Buffer.alloc(0));
    const digest = createHash('sha256').update(bytes).digest();
    if (!digest.equals(row.sha256)) halfRows++;
    await store.studies.header(row.sopInstanceUid);
    held.set(row.sopInstanceUid, digest.toString('hex'));
  }
  const study = await store.studies.findStudies({});
  if (study.reduce((total, { instanceCount }) => total + instanceCount, 0) !== rows.length) halfRows++;
  const lost = [...acknowledged].filter(([sop, digest]) => held.get(sop) !== digest).length;
  const files = (await readdir(path.join(folder, 'blobs'), { recursive: true })).filter((name) => name.endsWith('.dcm'));
  return { lost, halfRows, filesWithoutRow: files.length - rows.length };
}

test('20 kills at random moments lose nothing that was acknowledged, and leave no half rows and no stray files', async () => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'meridian-kill-'));
  const random = seeded(1);
  const acknowledged = new Map<string, string>();
  try {
    for (let round = 0; round < 20; round++) {
      for (const [sop, digest] of await runAndKill(folder, { round, minimum: 5, extraMs: Math.floor(random() * 120) }))
        acknowledged.set(sop, digest);
    }
    expect(acknowledged.size).toBeGreaterThanOrEqual(100);
    await usingStore({ folder }, async (store) => {
      expect(await inspect(store, folder, acknowledged)).toEqual({ lost: 0, halfRows: 0, filesWithoutRow: 0 });
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}, 420_000);

test('the planted fault, acknowledging before the write, is seen by the same check', async () => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'meridian-kill-'));
  try {
    const acknowledged = await runAndKill(folder, { round: 0, minimum: 20, extraMs: 50, fault: 'acknowledge-before-write' });
    await usingStore({ folder }, async (store) => {
      expect((await inspect(store, folder, acknowledged)).lost).toBeGreaterThan(0);
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}, 120_000);
