import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { silentLog } from '@meridian/shared/log';
import { systemClock, type Clock } from '@meridian/shared/platform/clock';
import { systemRandom } from '@meridian/shared/platform/random';
import type { IngestOutcome, IngestSource } from '../ingest.ts';
import { openStore, type Store, type StoreParts } from '../store.ts';
import { EXPLICIT_LE } from './data-sets.ts';

/** A clock that moves when told. */
export interface ManualClock extends Clock {
  advance(ms: number): void;
}

export function manualClock(): ManualClock {
  let now = 1_800_000_000_000;
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
      const end = now + ms;
      for (;;) {
        const next = [...timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
        if (next === undefined) break;
        timers.delete(next);
        now = Math.max(now, next.at);
        next.callback();
      }
      now = end;
    },
  };
}

/** Opens a store, gives it to `work` and closes it; without `parts.folder` in a folder of its own, which is removed. */
export async function usingStore(
  parts: Partial<StoreParts>,
  work: (store: Store, context: { folder: string; reopen(): Promise<Store> }) => Promise<void>,
): Promise<void> {
  const folder = parts.folder ?? (await mkdtemp(path.join(os.tmpdir(), 'meridian-store-')));
  const open = (): Promise<Store> => openStore({ clock: systemClock, random: systemRandom, log: silentLog, ...parts, folder });
  try {
    let store = await open();
    const reopen = async (): Promise<Store> => {
      await store.close();
      store = await open();
      return store;
    };
    try {
      await work(store, { folder, reopen });
    } finally {
      await store.close();
    }
  } finally {
    if (parts.folder === undefined) await rm(folder, { recursive: true, force: true });
  }
}

/** Sends one data set in pieces. */
export async function send(
  store: Store,
  bytes: Buffer,
  source: Partial<IngestSource> = {},
  pieceBytes = 16 * 1024,
): Promise<IngestOutcome> {
  const sink = store.ingest.begin({ door: 'dimse', transferSyntaxUid: EXPLICIT_LE, assigningAuthority: 'HOSPITAL', ...source });
  for (let at = 0; at < bytes.length; at += pieceBytes)
    if (!sink.write(Buffer.from(bytes.subarray(at, at + pieceBytes)))) await sink.drained();
  return sink.end();
}
