// Runs in the writer thread.
import fs from 'node:fs';
import { diskError } from './disk-space.ts';

/** A file that is in memory from end to end and not yet on disk; it crosses a thread boundary. */
export interface WholeFile {
  readonly path: string;
  /** Not changed until the writer thread has answered. */
  readonly memory: SharedArrayBuffer;
  readonly bytes: number;
}

/**
 * Makes the file durable; returns when bytes and length are on the device. It may exist: a group of records that failed
 * is entered again one by one.
 * @throws MeshError RESOURCE_EXHAUSTED / DISK_FULL, INTERNAL / DISK_FAILED
 */
export function writeWholeFile(whole: WholeFile): void {
  try {
    const file = fs.openSync(whole.path, 'w', 0o640);
    try {
      const bytes = new Uint8Array(whole.memory, 0, whole.bytes);
      // A disk that is nearly full takes a part; the next call tells the reason.
      for (let at = 0; at < bytes.length;) at += fs.writeSync(file, bytes, at, bytes.length - at);
      fs.fdatasyncSync(file);
    } finally {
      fs.closeSync(file);
    }
  } catch (thrown) {
    throw diskError(thrown);
  }
}
