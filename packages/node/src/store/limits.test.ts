import { spawnSync } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { testNeeding } from '@meridian/shared/testing/needs';
import { makeInstance } from './testing/data-sets.ts';
import { send, usingStore } from './testing/stores.ts';

const LARGE = new URL('./testing/ingest-large.ts', import.meta.url).pathname;

test('memory stays flat while an object of 1 GiB comes in', async () => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'meridian-large-'));
  try {
    const child = spawnSync(process.execPath, ['--no-warnings', LARGE, folder, String(1024 * 1024 * 1024)], {
      encoding: 'utf8',
      timeout: 280_000,
    });
    expect(child.stderr).toBe('');
    const { outcome, growthBytes, bytes } = JSON.parse(child.stdout) as { outcome: string; growthBytes: number; bytes: number };
    expect(outcome).toBe('stored');
    expect(bytes).toBeGreaterThan(1024 * 1024 * 1024);
    expect(growthBytes).toBeLessThan(150 * 1024 * 1024);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}, 300_000);

testNeeding('root', 'a full disk refuses in words, loses nothing that was accepted, and goes on when there is room', async () => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'meridian-full-'));
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', folder]);
  if (mounted.status !== 0) throw new Error(`mount: ${mounted.stderr.toString()}`);
  try {
    await usingStore({ folder: path.join(folder, 'archive'), limits: { minimumFreeFraction: 0 } }, async (store) => {
      const accepted: string[] = [];
      const refused: unknown[] = [];
      const one = async (n: number): Promise<void> => {
        const { sopInstanceUid } = await send(store, makeInstance({ sop: `1.2.3.1.${n}`, instanceNumber: n, pixelBytes: 900_000 }));
        accepted.push(sopInstanceUid);
      };
      for (let n = 1; n <= 40; n++) await one(n).catch((thrown: unknown) => refused.push(thrown));
      expect(accepted.length).toBeGreaterThan(5);
      expect(refused.length).toBeGreaterThan(10);
      for (const error of refused) expect(error).toMatchObject({ code: 'RESOURCE_EXHAUSTED', reason: 'DISK_FULL' });
      const rows = await store.studies.instancesOf('1.2.3');
      expect(rows.map(({ sopInstanceUid }) => sopInstanceUid).sort()).toEqual([...accepted].sort());
      for (const row of rows) expect((await store.studies.readDataSet(row, 0, row.bytes)).length).toBe(row.bytes);
      spawnSync('mount', ['-o', 'remount,size=64m', folder]);
      await one(41);
      expect(await store.usage()).toMatchObject({ instances: accepted.length, readOnly: false });
    });
    // Whatever an I/O error left is collected at the next start.
    await usingStore({ folder: path.join(folder, 'archive') }, async (store) => {
      const rows = await store.studies.instancesOf('1.2.3');
      expect(
        (await readdir(path.join(folder, 'archive', 'blobs'), { recursive: true })).filter((name) => name.endsWith('.dcm')).length,
      ).toBe(rows.length);
    });
  } finally {
    spawnSync('umount', [folder]);
    await rm(folder, { recursive: true, force: true });
  }
});
