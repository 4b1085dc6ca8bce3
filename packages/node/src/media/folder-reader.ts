import { createReadStream } from 'node:fs';
import { lstat, open, opendir } from 'node:fs/promises';
import { join } from 'node:path';
import { MeshError } from '@meridian/shared/errors';

/** One regular file under the folder, or a thing that is not read, with the reason. */
export type FolderEntry =
  | { readonly path: string; readonly bytes: number }
  | { readonly path: string; readonly skip: 'symbolic-link' | 'not-a-file' | 'unreadable' };

/** The folder as the import sees it. */
export interface FolderReader {
  /** Every entry below, folder by folder, names in order; never follows a link out of the folder. */
  walk(folder: string): AsyncIterable<FolderEntry>;
  /** The first bytes of a file, at most `length`. */
  head(path: string, length: number): Promise<Buffer>;
  /** The bytes from `offset` to the end. */
  read(path: string, offset: number): AsyncIterable<Buffer>;
}

/** Deeper folders than this are a loop or an attack. */
const DEPTH_LIMIT = 64;

/** The disk of this machine. */
export const diskFolder: FolderReader = {
  walk: (folder) => walk(folder),
  async head(path, length) {
    const file = await open(path, 'r');
    try {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, 0);
      return buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  },
  read: (path, offset) => createReadStream(path, { start: offset, highWaterMark: 256 * 1024 }),
};

async function* walk(root: string): AsyncGenerator<FolderEntry> {
  const status = await lstat(root).catch(() => undefined);
  if (status === undefined || !status.isDirectory()) {
    throw new MeshError(
      'NOT_FOUND',
      'FOLDER_ABSENT',
      'There is no such folder on the machine of the node. Nothing was imported; check the path and who may read it.',
    );
  }
  const waiting = [{ folder: root, depth: 0 }];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const names: { name: string; kind: 'file' | 'folder' | 'link' | 'other' }[] = [];
    try {
      for await (const entry of await opendir(next.folder)) {
        names.push({
          name: entry.name,
          kind: entry.isFile() ? 'file' : entry.isDirectory() ? 'folder' : entry.isSymbolicLink() ? 'link' : 'other',
        });
      }
    } catch {
      yield { path: next.folder, skip: 'unreadable' };
      continue;
    }
    names.sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const { name, kind } of names) {
      const path = join(next.folder, name);
      if (kind === 'file') {
        const size = await lstat(path).catch(() => undefined);
        yield size === undefined ? { path, skip: 'unreadable' } : { path, bytes: size.size };
      } else if (kind !== 'folder') yield { path, skip: kind === 'link' ? 'symbolic-link' : 'not-a-file' };
    }
    const folders = names.filter((entry) => entry.kind === 'folder').reverse();
    for (const { name } of folders) {
      if (next.depth + 1 > DEPTH_LIMIT) yield { path: join(next.folder, name), skip: 'unreadable' };
      else waiting.push({ folder: join(next.folder, name), depth: next.depth + 1 });
    }
  }
}
