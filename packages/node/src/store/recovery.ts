import type { Database } from '@meridian/shared/database';
import type { Logger } from '@meridian/shared/log';
import type { BlobFolder } from './blob-folder.ts';
import type { Disk } from './disk.ts';
import type { StoreSchema } from './schema.ts';

const BATCH = 500;

/**
 * Removes the files without a row that earlier, killed runs left. Their senders were never told "stored", so they send
 * again; a row, on the other hand, never stands before its file is whole. Only runs that did not end cleanly are looked
 * at, told by the beginning of a file's name.
 * @returns how many files were removed.
 */
export async function collectOrphans(parts: { database: Database<StoreSchema>; blobs: BlobFolder; disk: Disk; log: Logger }): Promise<number> {
  const { database, blobs, disk, log } = parts;
  const killed = (await database.read.selectFrom('ingest_session').select('id').where('clean', '=', 0).execute()).map(({ id }) => id);
  let removed = 0;
  if (killed.length > 0) {
    let batch: string[] = [];
    const collect = async (): Promise<void> => {
      const held = await namesWithRow(database, batch);
      for (const name of batch) {
        if (held.has(name)) continue;
        await disk.remove(blobs.pathOf(name));
        removed++;
      }
      batch = [];
    };
    for await (const name of blobs.filesOf(new Set(killed))) {
      batch.push(name);
      if (batch.length >= BATCH) await collect();
    }
    await collect();
    log.info({ event: 'recovered-after-kill', filesRemoved: removed });
    await database.write.updateTable('ingest_session').set({ clean: 1 }).where('id', 'in', killed).execute();
  }
  await database.write.insertInto('ingest_session').values({ id: blobs.session, clean: 0 }).execute();
  return removed;
}

/** Notes that this run left nothing behind. */
export async function closeSession(database: Database<StoreSchema>, session: string): Promise<void> {
  await database.write.deleteFrom('ingest_session').where((where) => where.or([where('id', '=', session), where('clean', '=', 1)])).execute();
}

async function namesWithRow(database: Database<StoreSchema>, names: readonly string[]): Promise<ReadonlySet<string>> {
  if (names.length === 0) return new Set();
  const [instances, quarantined] = await Promise.all([
    database.read.selectFrom('instance').select('blob').where('blob', 'in', names).execute(),
    database.read.selectFrom('quarantine').select('blob').where('blob', 'in', names).execute(),
  ]);
  return new Set([...instances, ...quarantined].map(({ blob }) => blob));
}
