import { mkdir, open, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Random } from '@meridian/shared/platform/random';

const SHARDS = Array.from({ length: 256 }, (_, shard) => shard.toString(16).padStart(2, '0'));
const SESSION_BYTES = 6;
const COPY_ENDING = '.copy.dcm';
const LAST_SESSION = 'last-session';

/** Where the files of instances lie: `<folder>/<2 hex>/<random id>.dcm`. No name comes from outside. */
export interface BlobFolder {
  /** Begins the names of all files made by this run of the program. */
  readonly session: string;
  /** A new relative name; that of another hospital's instance says so, also to somebody who has lost the tables. */
  newName(of: 'own' | 'copy'): string;
  isCopy(name: string): boolean;
  pathOf(name: string): string;
  /** Relative names of all files, with the session that made each. */
  files(): AsyncIterable<{ readonly name: string; readonly session: string }>;
  /** The session that was last noted here, beside the tables: they may be older than the files. */
  lastSession(): Promise<string | undefined>;
  noteSession(): Promise<void>;
}

/**
 * Opens the folder and makes its 256 shards, durably. Later no folder is flushed for a new file: ext4, XFS and btrfs
 * write a new file's name together with its first fdatasync, and a flush of the folder would cost a second wait.
 */
export async function openBlobFolder(parts: { folder: string; random: Random }): Promise<BlobFolder> {
  const { folder, random } = parts;
  await mkdir(folder, { recursive: true });
  const present = new Set(await readdir(folder));
  const missing = SHARDS.filter((shard) => !present.has(shard));
  await Promise.all(missing.map((shard) => mkdir(path.join(folder, shard))));
  if (missing.length > 0) {
    await flushFolder(folder);
    await flushFolder(path.dirname(folder));
  }
  const session = random.bytes(SESSION_BYTES).toString('hex');
  return {
    session,
    newName: (of) => {
      const id = random.bytes(10).toString('hex');
      return `${id.slice(0, 2)}/${session}${id}${of === 'copy' ? COPY_ENDING : '.dcm'}`;
    },
    isCopy: (name) => name.endsWith(COPY_ENDING),
    pathOf: (name) => path.join(folder, name),
    files: async function* () {
      for (const shard of SHARDS) {
        for (const name of await readdir(path.join(folder, shard)))
          if (name.endsWith('.dcm')) yield { name: `${shard}/${name}`, session: name.slice(0, SESSION_BYTES * 2) };
      }
    },
    lastSession: async () => {
      try {
        return (await readFile(path.join(folder, LAST_SESSION), 'utf8')).trim();
      } catch (thrown) {
        if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
        throw thrown;
      }
    },
    noteSession: () => writeFile(path.join(folder, LAST_SESSION), `${session}\n`, { flush: true }),
  };
}

async function flushFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
