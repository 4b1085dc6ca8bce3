/* oxlint-disable jest/expect-expect, jest/valid-title, jest/no-disabled-tests -- the titles and bodies declared here are the callers'; their files are held to these rules. */
import { accessSync, constants, existsSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { test } from '@jest/globals';

/** What a test may need that npm does not bring. */
export type Need = 'dcmtk' | 'orthanc' | 'chromium' | 'shared data' | 'root';

const PROGRAMS: Readonly<Partial<Record<Need, readonly string[]>>> = {
  dcmtk: ['storescu', 'dcmsend', 'echoscu', 'storescp', 'dcmdump'],
  orthanc: ['Orthanc'],
  chromium: ['chromium'],
};

/** Folder of the repository. */
export const repositoryFolder = resolve(import.meta.dirname, '../../../..');

/** Real DICOM files beside the repository; not everybody has them. */
export const sharedDataFolder = resolve(repositoryFolder, '../shared/data');

/** True where this machine has what is needed. */
export function has(need: Need): boolean {
  if (need === 'shared data') return existsSync(join(sharedDataFolder, 'MANIFEST.tsv'));
  if (need === 'root') return process.getuid?.() === 0;
  return (PROGRAMS[need] ?? []).every(onPath);
}

/**
 * A test that needs a stranger's program or data: skipped with a reason where it is missing, failed for it under CI=true.
 */
export function testNeeding(needs: Need | readonly Need[], title: string, body: () => Promise<void> | void, timeoutMs?: number): void {
  const missing = [needs].flat().filter((need) => !has(need));
  if (missing.length === 0) return test(title, async () => body(), timeoutMs);
  const reason = `needs ${missing.join(', ')}`;
  if (process.env['CI'] === 'true') {
    return test(title, () => {
      throw new Error(`${reason}: under CI=true this is a failure, not a skip`);
    });
  }
  test.skip(`${title} (skipped: ${reason})`, () => undefined);
}

function onPath(program: string): boolean {
  return [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin'].some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
