import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { expect, test } from '@jest/globals';
import { readPart10Start } from '../dicom/part10.ts';
import { send, usingStore } from './testing/stores.ts';

const LOAD = new URL('./testing/ingest-load.ts', import.meta.url).pathname;

test('whole files that an older backup of the tables does not know are kept aside, torn ones are removed', async () => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'meridian-recovery-'));
  const files = async (): Promise<string[]> =>
    (await readdir(path.join(folder, 'blobs'), { recursive: true })).filter((name) => name.endsWith('.dcm'));
  const archive = path.join(folder, 'archive.sqlite');
  try {
    // Monday's backup, taken while nothing runs.
    await usingStore({ folder }, async () => undefined);
    await copyFile(archive, path.join(folder, 'monday.sqlite'));
    const child = spawn(process.execPath, ['--no-warnings', LOAD, folder, '0', ''], { stdio: ['ignore', 'pipe', 'inherit'] });
    const acknowledged = new Set<string>();
    const exited = once(child, 'exit');
    for await (const line of createInterface({ input: child.stdout })) {
      acknowledged.add(line.split(' ')[0] as string);
      if (acknowledged.size === 10) child.kill('SIGKILL');
    }
    await exited;
    for (const ending of ['', '-wal', '-shm']) await rm(`${archive}${ending}`, { force: true });
    await copyFile(path.join(folder, 'monday.sqlite'), archive);
    const [one] = await files();
    const whole = await readFile(path.join(folder, 'blobs', one as string));
    const torn = path.join(folder, 'blobs', `${(one as string).slice(0, 15)}00torn.dcm`);
    await writeFile(torn, whole.subarray(0, whole.length - 100));

    await usingStore({ folder }, async (store) => {
      const { lostFiles, lostFolder } = await store.attention();
      expect(lostFiles).toBeGreaterThanOrEqual(acknowledged.size);
      expect(await files()).toEqual([]);
      expect(lostFolder).toBe(path.join(folder, 'lost-and-found'));
      for (const name of await readdir(lostFolder)) {
        const file = await readFile(path.join(lostFolder, name));
        const start = readPart10Start(file, { ended: true });
        if (start === 'need-more') throw new Error('no Part 10 file');
        expect(await send(store, file.subarray(start.metaEndOffset))).toMatchObject({ outcome: 'stored' });
      }
      const held = new Set((await store.studies.findInstances({ limit: 10_000 })).map(({ sopInstanceUid }) => sopInstanceUid));
      expect([...acknowledged].filter((sop) => !held.has(sop))).toEqual([]);
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}, 120_000);
