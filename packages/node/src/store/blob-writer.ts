import type { Disk } from './disk.ts';
import { diskError } from './disk-space.ts';
import type { MeshError } from '@meridian/shared/errors';

/** Writes one new file as its bytes come, holding no more than what the disk has not taken yet. */
export interface BlobWriter {
  /** Takes ownership of the chunk. */
  append(chunk: Buffer): void;
  /** Bytes that wait for the disk. */
  pendingBytes(): number;
  /** The first failure, after which everything else is ignored. */
  failure(): MeshError | undefined;
  /** Resolves when no more than half of `pendingLimit` waits, or the writer has failed. */
  drained(): Promise<void>;
  /** Resolves when all bytes are on the device. @throws MeshError RESOURCE_EXHAUSTED / DISK_FULL, INTERNAL / DISK_FAILED */
  seal(): Promise<void>;
  /** Closes and removes the file; what fails there is left to the next start, which collects files without a row. */
  discard(): Promise<void>;
}

/** Bytes of one file that are written before they are flushed. */
const FLUSH_BYTES = 64 * 1024 * 1024;

/** Opens a writer; the file is made with the first bytes. */
export function openBlobWriter(parts: { disk: Disk; path: string; writeBytes: number; pendingLimit: number }): BlobWriter {
  const { disk, path } = parts;
  let gathered: Buffer[] = [];
  let gatheredBytes = 0;
  let writingBytes = 0;
  let isBegun = false;
  let unflushedBytes = 0;
  let file: number | undefined;
  let failure: MeshError | undefined;
  let closing: Promise<void> | undefined;
  let tail: Promise<void> = Promise.resolve();
  let waiting: (() => void)[] = [];

  const step = (action: () => Promise<void>): void => {
    tail = tail.then(async () => {
      if (failure === undefined) await action();
    }).catch((thrown: unknown) => {
      failure ??= diskError(thrown);
    });
  };
  const wakeWaiting = (): void => {
    if (failure === undefined && writingBytes > parts.pendingLimit / 2) return;
    for (const resolve of waiting) resolve();
    waiting = [];
  };
  // The file is made while the rest of the object is still coming.
  const begin = (): void => {
    isBegun = true;
    step(async () => {
      file = await disk.create(path);
    });
  };
  const push = (): void => {
    if (gatheredBytes === 0) return;
    const chunks = gathered;
    const bytes = gatheredBytes;
    gathered = [];
    gatheredBytes = 0;
    writingBytes += bytes;
    step(async () => {
      if (file === undefined) throw new Error('The file of this instance is not open');
      await disk.append(file, chunks);
      unflushedBytes += bytes;
      // Else the last flush of a large object would write all of it at once, long after its sender has ended.
      if (unflushedBytes < FLUSH_BYTES) return;
      unflushedBytes = 0;
      await disk.flush(file);
    });
    tail = tail.then(() => {
      writingBytes -= bytes;
      wakeWaiting();
    });
  };
  const close = async (): Promise<void> => {
    if (file === undefined) return;
    const open = file;
    file = undefined;
    await disk.close(open);
  };

  return {
    append: (chunk) => {
      if (failure !== undefined) return;
      if (!isBegun) begin();
      gathered.push(chunk);
      gatheredBytes += chunk.length;
      if (gatheredBytes >= parts.writeBytes) push();
    },
    pendingBytes: () => gatheredBytes + writingBytes,
    failure: () => failure,
    drained: () =>
      new Promise((resolve) => {
        waiting.push(resolve);
        wakeWaiting();
      }),
    seal: async () => {
      push();
      step(async () => {
        if (file === undefined) throw new Error('The file of this instance is not open');
        await disk.flush(file);
      });
      await tail;
      if (failure !== undefined) throw failure;
      // The bytes are on the device: the row need not wait for the descriptor, and a failure of close says nothing more.
      closing = close().catch(() => undefined);
    },
    discard: async () => {
      gathered = [];
      gatheredBytes = 0;
      await tail;
      await closing;
      try {
        await close();
      } finally {
        await disk.remove(path);
      }
    },
  };
}
