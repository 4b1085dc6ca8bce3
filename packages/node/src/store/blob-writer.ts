import type { Disk } from './disk.ts';
import { diskError } from './disk-space.ts';
import type { MeshError } from '@meridian/shared/errors';
import type { Slab, Staging } from './staging.ts';
import type { WholeFile } from './whole-file.ts';

/** Writes one new file as its bytes come, holding no more than what the disk has not taken yet. */
export interface BlobWriter {
  /** Takes ownership of the chunk. What fits a slab stays in memory until `seal` or `handOver`. */
  append(chunk: Buffer): void;
  /** Bytes that wait for the disk. */
  pendingBytes(): number;
  /** The first failure, after which everything else is ignored. */
  failure(): MeshError | undefined;
  /** Resolves when no more than half of `pendingLimit` waits, or the writer has failed. */
  drained(): Promise<void>;
  /** Resolves when all bytes are on the device. @throws MeshError RESOURCE_EXHAUSTED / DISK_FULL, INTERNAL / DISK_FAILED */
  seal(): Promise<void>;
  /**
   * Instead of `seal`, where the whole file is in memory still: whoever takes it writes and flushes it. `giveBack` follows.
   * @returns undefined where the disk has some of it.
   */
  handOver(): WholeFile | undefined;
  /** What was handed over is no longer needed. */
  giveBack(): void;
  /** Closes and removes the file; what fails there is left to the next start, which collects files without a row. */
  discard(): Promise<void>;
}

/** Bytes of one file that are written before they are flushed. */
const FLUSH_BYTES = 64 * 1024 * 1024;

/** Opens a writer; the file is made with the first bytes, or when they no longer fit a slab. @param parts.staging absent: nothing is kept back. @param parts.keepBackBytes at most a slab */
export function openBlobWriter(parts: {
  disk: Disk;
  path: string;
  writeBytes: number;
  pendingLimit: number;
  staging: Staging | undefined;
  keepBackBytes: number;
}): BlobWriter {
  const { disk, path } = parts;
  let gathered: Buffer[] = [];
  let gatheredBytes = 0;
  let writingBytes = 0;
  let isBegun = false;
  let slab: Slab | undefined;
  let slabBytes = 0;
  let unflushedBytes = 0;
  let file: number | undefined;
  let failure: MeshError | undefined;
  let closing: Promise<void> | undefined;
  let tail: Promise<void> = Promise.resolve();
  let waiting: (() => void)[] = [];

  const step = (action: () => Promise<void>): void => {
    tail = tail
      .then(async () => {
        if (failure === undefined) await action();
      })
      .catch((thrown: unknown) => {
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
  const enqueue = (chunk: Buffer): void => {
    if (!isBegun) begin();
    gathered.push(chunk);
    gatheredBytes += chunk.length;
    if (gatheredBytes >= parts.writeBytes) push();
  };
  /** True when the slab has taken the chunk. */
  const keepBack = (chunk: Buffer): boolean => {
    if (isBegun || slabBytes + chunk.length > parts.keepBackBytes) return false;
    slab ??= parts.staging?.take();
    if (slab === undefined) return false;
    chunk.copy(slab.bytes, slabBytes);
    slabBytes += chunk.length;
    return true;
  };
  const giveBack = (): void => {
    if (slab !== undefined) parts.staging?.giveBack(slab);
    slab = undefined;
    slabBytes = 0;
  };
  /** From now on bytes go to the disk as they come. */
  const spill = (): void => {
    const kept = slab?.bytes.subarray(0, slabBytes);
    if (kept !== undefined && kept.length > 0) enqueue(Buffer.from(kept));
    giveBack();
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
      if (keepBack(chunk)) return;
      spill();
      enqueue(chunk);
    },
    pendingBytes: () => slabBytes + gatheredBytes + writingBytes,
    failure: () => failure,
    drained: () =>
      new Promise((resolve) => {
        waiting.push(resolve);
        wakeWaiting();
      }),
    handOver: () => (slab === undefined || isBegun ? undefined : { path, memory: slab.memory, bytes: slabBytes }),
    giveBack,
    seal: async () => {
      spill();
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
      giveBack();
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
