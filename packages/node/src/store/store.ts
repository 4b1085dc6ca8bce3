import path from 'node:path';
import { openSqlite, type Database } from '@meridian/shared/database';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import type { Random } from '@meridian/shared/platform/random';
import { openBlobFolder } from './blob-folder.ts';
import { openChangeFeed, type ChangeFeed } from './changes.ts';
import { systemDisk, type Disk } from './disk.ts';
import { watchDiskSpace } from './disk-space.ts';
import { acknowledgingBeforeWrite, type StoreFaults } from './faults.ts';
import { openFetchedStudies, type FetchedStudies } from './fetched-studies.ts';
import { openGroupCommit } from './group-commit.ts';
import type { Ingest } from './ingest.ts';
import { DEFAULT_STORE_LIMITS, type StoreLimits } from './limits.ts';
import { openLostAndFound } from './lost-and-found.ts';
import { storeMigrations } from './migrations/migrations.ts';
import { openIngest } from './open-ingest.ts';
import { closeSession, collectOrphans } from './recovery.ts';
import type { StoreSchema } from './schema.ts';
import { openSettle, type Settle } from './settle.ts';
import { openStaging } from './staging.ts';
import { openStudyReader, type StudyReader } from './study-reader.ts';

/** How full the archive is. */
export interface StoreUsage {
  readonly studies: number;
  readonly instances: number;
  /** Of data sets. */
  readonly bytes: number;
  readonly freeBytes: number;
  readonly quarantined: number;
  /** New objects are refused for want of disk. */
  readonly readOnly: boolean;
}

/** What a person has to look at. */
export interface StoreAttention {
  /** Studies whose PatientID stands for more than one person, each under a patient row of its own. */
  readonly patientConflicts: number;
  /** Whole files that the tables do not know, in `lostFolder`. */
  readonly lostFiles: number;
  readonly lostFolder: string;
}

/** The archive of one node: files of instances and the tables that know them. */
export interface Store {
  readonly ingest: Ingest;
  readonly studies: StudyReader;
  readonly changes: ChangeFeed;
  readonly settle: Settle;
  readonly fetched: FetchedStudies;
  readonly database: Database<StoreSchema>;
  usage(): Promise<StoreUsage>;
  /** Looks through the patients: for a person who asks what is wrong, not for every page. */
  attention(): Promise<StoreAttention>;
  /** Resolves when nothing is being written. Studies may still be arriving. */
  idle(): Promise<void>;
  /** Gives up sinks that are open, finishes what is being written, and closes. */
  close(): Promise<void>;
}

/** What {@link openStore} works with. */
export interface StoreParts {
  /** Holds `archive.sqlite` and `blobs/`; made if absent. */
  readonly folder: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly limits?: Partial<StoreLimits>;
  readonly disk?: Disk;
  readonly faults?: StoreFaults;
}

/**
 * Opens the archive, collects what a killed run left, and goes on with studies that were arriving.
 * @throws MeshError as {@link openSqlite}: NODE_ALREADY_RUNNING, SCHEMA_NEWER, DISK_FULL
 */
export async function openStore(parts: StoreParts): Promise<Store> {
  const { folder, clock, random, log } = parts;
  const disk = parts.disk ?? systemDisk;
  const limits = { ...DEFAULT_STORE_LIMITS, ...parts.limits };
  const database = await openSqlite<StoreSchema>({
    file: path.join(folder, 'archive.sqlite'),
    migrations: storeMigrations,
    readers: limits.readers,
    job: new URL('./store-jobs.ts', import.meta.url),
  });
  try {
    const blobs = await openBlobFolder({ folder: path.join(folder, 'blobs'), random });
    const lostAndFound = openLostAndFound(folder);
    await collectOrphans({ database, blobs, lostAndFound, disk, log });
    const feed = openChangeFeed(database, log);
    const space = watchDiskSpace({ folder, disk, clock, log, minimumFreeFraction: limits.minimumFreeFraction });
    const commit = openGroupCommit({ database, clock });
    const settle = await openSettle({ database, clock, log, limits, onChange: feed.announce });
    let hasLeftovers = false;
    const ingest = openIngest({
      blobs,
      disk,
      staging: disk.isOfThisMachine === true ? openStaging() : undefined,
      space,
      commit,
      settle,
      limits,
      log,
      onChange: feed.announce,
      onLeftover: () => (hasLeftovers = true),
    });
    const idle = async (): Promise<void> => {
      await ingest.idle();
      await commit.idle();
      await settle.idle();
    };
    const close = async (): Promise<void> => {
      await ingest.close();
      await commit.idle();
      await settle.close();
      if (!hasLeftovers) await closeSession(database, blobs.session);
      await database.close();
    };
    let closed: Promise<void> | undefined;
    return {
      ingest: parts.faults?.acknowledgeBeforeWrite === true ? acknowledgingBeforeWrite(ingest, clock) : ingest,
      studies: openStudyReader({ database, clock, pathOf: blobs.pathOf }),
      changes: feed,
      settle,
      fetched: openFetchedStudies({ database, clock, settle, onChange: feed.announce }),
      database,
      usage: async () => {
        const { isLow, freeBytes } = space.now();
        return { ...(await countRows(database)), freeBytes, readOnly: isLow };
      },
      attention: async () => ({
        patientConflicts: await countConflicts(database),
        lostFiles: await lostAndFound.count(),
        lostFolder: lostAndFound.folder,
      }),
      idle,
      close: () => (closed ??= close()),
    };
  } catch (thrown) {
    await database.close();
    throw thrown;
  }
}

async function countRows(database: Database<StoreSchema>): Promise<Pick<StoreUsage, 'studies' | 'instances' | 'bytes' | 'quarantined'>> {
  const [studies, quarantine] = await Promise.all([
    database.read
      .selectFrom('study')
      .select((of) => [
        of.fn.countAll<number>().as('studies'),
        of.fn.sum<number>('instance_count').as('instances'),
        of.fn.sum<number>('bytes').as('bytes'),
      ])
      .executeTakeFirstOrThrow(),
    database.read
      .selectFrom('quarantine')
      .select((of) => of.fn.countAll<number>().as('quarantined'))
      .executeTakeFirstOrThrow(),
  ]);
  return { studies: studies.studies, instances: studies.instances ?? 0, bytes: studies.bytes ?? 0, quarantined: quarantine.quarantined };
}

async function countConflicts(database: Database<StoreSchema>): Promise<number> {
  const { count } = await database.read
    .selectFrom('patient')
    .select((of) => of.fn.countAll<number>().as('count'))
    .where('sole_study_uid', '<>', '')
    .where('patient_id', '<>', '')
    .executeTakeFirstOrThrow();
  return count;
}
