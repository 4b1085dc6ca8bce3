import { MeshError } from '@meridian/shared/errors';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import type { Disk } from './disk.ts';

/** Watches the free space of the archive's file system. */
export interface DiskSpace {
  /** @throws MeshError RESOURCE_EXHAUSTED / DISK_LOW while new objects are refused; it ends by itself when space is free. */
  assertRoom(): void;
  now(): { readonly freeBytes: number; readonly isLow: boolean };
}

const LOOK_EVERY_MS = 500;

/** Opens the watch of one folder; it looks at most twice a second, when it is asked. */
export function watchDiskSpace(parts: { folder: string; disk: Disk; clock: Clock; log: Logger; minimumFreeFraction: number }): DiskSpace {
  const { folder, disk, clock, log, minimumFreeFraction } = parts;
  let lookedAtMs = -Infinity;
  let isLow = false;
  let freeBytes = 0;
  const look = (): void => {
    if (clock.monotonicMs() - lookedAtMs < LOOK_EVERY_MS) return;
    lookedAtMs = clock.monotonicMs();
    const free = disk.free(folder);
    freeBytes = free.bytes;
    const wasLow = isLow;
    isLow = free.fraction < minimumFreeFraction;
    if (isLow !== wasLow) log[isLow ? 'error' : 'info']({ event: isLow ? 'disk-low' : 'disk-room-again', freeBytes, minimumFreeFraction });
  };
  return {
    assertRoom: () => {
      look();
      if (isLow)
        throw new MeshError(
          'RESOURCE_EXHAUSTED',
          'DISK_LOW',
          `Less than ${minimumFreeFraction * 100} % of the disk is free, so this node takes no new objects; what it holds stays readable. Free space: it goes on by itself.`,
        );
    },
    now: () => {
      look();
      return { freeBytes, isLow };
    },
  };
}

/** A failure of the disk as callers see it: full, or broken. */
export function diskError(thrown: unknown): MeshError {
  if (thrown instanceof MeshError) return thrown;
  const code = typeof thrown === 'object' && thrown !== null && 'code' in thrown ? thrown.code : '';
  if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'SQLITE_FULL') {
    return new MeshError(
      'RESOURCE_EXHAUSTED',
      'DISK_FULL',
      'The disk is full. Nothing that was accepted is lost; free space and send again.',
      { cause: thrown },
    );
  }
  return new MeshError(
    'INTERNAL',
    'DISK_FAILED',
    'The disk refused to write the object, so it was not stored. Check the disk, then send it again.',
    { cause: thrown },
  );
}
