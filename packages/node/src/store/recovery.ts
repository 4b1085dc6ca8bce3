import type { Database } from '@meridian/shared/database';
import type { Logger } from '@meridian/shared/log';
import type { BlobFolder } from './blob-folder.ts';
import type { Disk } from './disk.ts';
import { isWholeInstance, type LostAndFound } from './lost-and-found.ts';
import type { StoreSchema } from './schema.ts';

const BATCH = 500;

/** What became of files without a row. */
export interface Recovery {
  /** Torn: their senders were never told "stored". */
  readonly filesRemoved: number;
  /** Whole: moved to lost-and-found. */
  readonly filesKept: number;
}

/**
 * Looks at the files without a row that earlier runs left. A row never stands before its file is whole, so a torn file
 * was never acknowledged and goes; a whole one may have been, by a database that a backup has since replaced, and is
 * kept aside. Copies of other hospitals' studies are acknowledged to nobody and go: they are fetched again.
 *
 * Only runs that did not end cleanly, or that this database does not know, are looked at, told by the beginning of a
 * file's name.
 */
export async function collectOrphans(parts: {
  database: Database<StoreSchema>;
  blobs: BlobFolder;
  lostAndFound: LostAndFound;
  disk: Disk;
  log: Logger;
}): Promise<Recovery> {
  const { database, blobs, lostAndFound, disk, log } = parts;
  const known = await database.read.selectFrom('ingest_session').select(['id', 'clean']).execute();
  const clean = new Set(known.filter((session) => session.clean === 1).map(({ id }) => id));
  const killed = known.filter((session) => session.clean === 0).map(({ id }) => id);
  const last = await blobs.lastSession();
  let filesRemoved = 0;
  let filesKept = 0;
  if (killed.length > 0 || (last !== undefined && !clean.has(last))) {
    const looked = new Set(killed);
    let batch: string[] = [];
    const collect = async (): Promise<void> => {
      const held = await namesWithRow(database, batch);
      for (const name of batch) {
        if (held.has(name)) continue;
        const file = blobs.pathOf(name);
        if (blobs.isCopy(name) || !(await isWholeInstance(file))) {
          await disk.remove(file);
          filesRemoved++;
          continue;
        }
        await lostAndFound.keep(file);
        filesKept++;
      }
      batch = [];
    };
    for await (const { name, session } of blobs.files()) {
      if (clean.has(session)) continue;
      looked.add(session);
      batch.push(name);
      if (batch.length >= BATCH) await collect();
    }
    await collect();
    if (filesKept > 0) {
      await lostAndFound.settle();
      log.error(
        { event: 'files-without-row-kept', files: filesKept, folder: lostAndFound.folder },
        'whole images are unknown to the database: import the folder',
      );
    }
    log.info({ event: 'recovered-after-kill', filesRemoved, filesKept });
    for (const id of looked) {
      await database.write
        .insertInto('ingest_session')
        .values({ id, clean: 1 })
        .onConflict((conflict) => conflict.column('id').doUpdateSet({ clean: 1 }))
        .execute();
    }
  }
  await database.write.insertInto('ingest_session').values({ id: blobs.session, clean: 0 }).execute();
  await blobs.noteSession();
  return { filesRemoved, filesKept };
}

/** Notes that this run left nothing behind. The row stays: a run that a database does not know came after its backup. */
export async function closeSession(database: Database<StoreSchema>, session: string): Promise<void> {
  await database.write.updateTable('ingest_session').set({ clean: 1 }).where('id', '=', session).execute();
}

async function namesWithRow(database: Database<StoreSchema>, names: readonly string[]): Promise<ReadonlySet<string>> {
  if (names.length === 0) return new Set();
  const [instances, quarantined] = await Promise.all([
    database.read.selectFrom('instance').select('blob').where('blob', 'in', names).execute(),
    database.read.selectFrom('quarantine').select('blob').where('blob', 'in', names).execute(),
  ]);
  return new Set([...instances, ...quarantined].map(({ blob }) => blob));
}
