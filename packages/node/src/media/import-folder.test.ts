import { join } from 'node:path';
import { expect } from '@jest/globals';
import { systemClock } from '@meridian/shared/platform/clock';
import { sharedDataFolder, testNeeding } from '@meridian/shared/testing/needs';
import { usingStore } from '../store/testing/stores.ts';
import { diskFolder } from './folder-reader.ts';
import type { ImportProgress } from '../store/import-result.ts';
import { importFolder } from './import-folder.ts';

testNeeding('shared data', 'a folder of real files of many makers is imported, and importing it again finds all of them', async () => {
  await usingStore({}, async (store) => {
    const told: ImportProgress[] = [];
    const run = (): ReturnType<typeof importFolder> =>
      importFolder(
        {
          folder: join(sharedDataFolder, 'CT'),
          assigningAuthority: 'CD',
          foreignIds: true,
          associationId: 'import-1',
          signal: new AbortController().signal,
          onProgress: (progress) => told.push(progress),
        },
        { ingest: store.ingest, reader: diskFolder, clock: systemClock },
      );
    const first = await run();
    expect(first.stored).toBeGreaterThan(10);
    // One file of the collection is broken (dcmdump says so too); it stops nothing.
    expect(first.refused.map(({ file }) => file)).toEqual(['fo-dicom__FreezePattern.dcm']);
    expect(first.files).toBe(first.stored + first.duplicates + first.quarantined + first.refusedTotal + (first.skipped['NOT_DICOM'] ?? 0));
    expect(told.at(-1)).toMatchObject({ stored: first.stored });
    const again = await run();
    expect(again).toMatchObject({ stored: 0, duplicates: first.stored + first.duplicates });
  });
});

testNeeding('shared data', 'an import that is stopped keeps what it stored and says so', async () => {
  await usingStore({}, async (store) => {
    const stop = new AbortController();
    const result = await importFolder(
      {
        folder: sharedDataFolder,
        assigningAuthority: 'CD',
        foreignIds: true,
        associationId: 'import-1',
        signal: stop.signal,
        onProgress: ({ stored }) => stored >= 3 && stop.abort(),
      },
      { ingest: store.ingest, reader: diskFolder, clock: systemClock },
    );
    expect(result.cancelled).toBe(true);
    expect(result.stored).toBeGreaterThanOrEqual(3);
    expect((await store.usage()).instances).toBe(result.stored);
  });
});
