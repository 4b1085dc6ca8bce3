import { mkdir, open, readdir } from 'node:fs/promises';
import path from 'node:path';
import type { Random } from '@meridian/shared/platform/random';

const SHARDS = Array.from({ length: 256 }, (_, shard) => shard.toString(16).padStart(2, '0'));
const SESSION_BYTES = 6;

/** Where the files of instances lie: `<folder>/<2 hex>/<random id>.dcm`. No name comes from outside. */
export interface BlobFolder {
  /** Begins the names of all files made by this run of the program. */
  readonly session: string;
  /** A new relative name. */
  newName(): string;
  pathOf(name: string): string;
  /** Relative names of the files that runs with one of these sessions made. */
  filesOf(sessions: ReadonlySet<string>): AsyncIterable<string>;
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
    newName: () => {
      const id = random.bytes(10).toString('hex');
      return `${id.slice(0, 2)}/${session}${id}.dcm`;
    },
    pathOf: (name) => path.join(folder, name),
    filesOf: async function* (sessions) {
      for (const shard of SHARDS) {
        for (const name of await readdir(path.join(folder, shard))) if (sessions.has(name.slice(0, SESSION_BYTES * 2))) yield `${shard}/${name}`;
      }
    },
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
