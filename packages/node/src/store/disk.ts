import fs from 'node:fs';

/** The calls that ingest makes to the file system: a part, so that a test can watch their order or make them fail. */
export interface Disk {
  /** True where the writer thread may make the same calls itself, on whole objects. */
  readonly isOfThisMachine?: boolean;
  /** Makes a file that must not exist yet; opens it for writing. */
  create(path: string): Promise<number>;
  /** Writes all bytes at the end of the file. */
  append(file: number, chunks: readonly Buffer[]): Promise<void>;
  /** Returns when bytes and length are on the device (fdatasync). */
  flush(file: number): Promise<void>;
  close(file: number): Promise<void>;
  remove(path: string): Promise<void>;
  /** Free share of the file system, 0 to 1, and its free bytes. */
  free(folder: string): { readonly fraction: number; readonly bytes: number };
}

/** The machine's file system. */
export const systemDisk: Disk = {
  isOfThisMachine: true,
  create: (path) => new Promise((resolve, reject) => fs.open(path, 'wx', 0o640, (error, file) => (error ? reject(error) : resolve(file)))),
  append: (file, chunks) => appendAll(file, [...chunks]),
  flush: (file) => new Promise((resolve, reject) => fs.fdatasync(file, (error) => (error ? reject(error) : resolve()))),
  close: (file) => new Promise((resolve, reject) => fs.close(file, (error) => (error ? reject(error) : resolve()))),
  remove: (path) => fs.promises.rm(path, { force: true }),
  free: (folder) => {
    const { bavail, blocks, bsize } = fs.statfsSync(folder);
    return { fraction: blocks === 0 ? 1 : bavail / blocks, bytes: bavail * bsize };
  },
};

function appendAll(file: number, chunks: Buffer[]): Promise<void> {
  return new Promise((resolve, reject) => {
    fs.writev(file, chunks, (error, written) => {
      if (error) return reject(error);
      const rest = remaining(chunks, written);
      if (rest.length === 0) return resolve();
      // A disk that is nearly full takes a part; the next call tells the reason.
      appendAll(file, rest).then(resolve, reject);
    });
  });
}

function remaining(chunks: Buffer[], written: number): Buffer[] {
  let left = written;
  for (const [index, chunk] of chunks.entries()) {
    if (left < chunk.length) return [chunk.subarray(left), ...chunks.slice(index + 1)];
    left -= chunk.length;
  }
  return [];
}
