import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { Kysely } from 'kysely';
import { exclusivePool, lazyPool, threadDialect, type ThreadPool } from './database-dialect.ts';
import { migrate, type Migrations } from './database-migrations.ts';
import { startDatabaseThread, type DatabaseThread } from './database-thread.ts';

export type { JobDatabase, JobStatement } from './database-messages.ts';
export type { Migrations } from './database-migrations.ts';

/** A SQLite file whose queries run in worker threads: none blocks the loop that answers the network. */
export interface Database<Schema> {
  /** Queries only, on threads of their own; sees every committed transaction. */
  readonly read: Kysely<Schema>;
  /** The one writer. A transaction is BEGIN IMMEDIATE; others wait until it ends. Never await `write` or `run` of the same database inside its callback. */
  readonly write: Kysely<Schema>;
  /** Calls the named export of the job module in the writer thread, inside one transaction of its own. */
  run<Result>(job: string, argument: unknown): Promise<Result>;
  readonly path: string;
  close(): Promise<void>;
}

/**
 * Opens (or makes) a SQLite database: WAL, synchronous FULL, foreign keys on, all asserted; one process per file.
 * @param options.file path, or `:memory:` for one that lives in the writer thread alone.
 * @param options.readers how many threads may read at once; each starts when it is first needed.
 * @param options.job module with exports `(database: JobDatabase, argument) => result` that {@link Database.run} calls.
 * @throws MeshError FAILED_PRECONDITION / NODE_ALREADY_RUNNING, SCHEMA_NEWER or DATABASE_NOT_DURABLE; RESOURCE_EXHAUSTED / DISK_FULL.
 */
export async function openSqlite<Schema>(options: {
  file: string;
  migrations: Migrations;
  readers?: number;
  job?: URL;
}): Promise<Database<Schema>> {
  const { file, job } = options;
  const inMemory = file === ':memory:';
  if (!inMemory) await mkdir(path.dirname(file), { recursive: true });
  const writer = await startDatabaseThread({ file, role: 'writer', job });
  const threads: DatabaseThread[] = [writer];
  const writePool = exclusivePool(writer);
  const readPool: ThreadPool = inMemory
    ? { acquire: () => Promise.resolve(writer), release: () => undefined }
    : lazyPool(options.readers ?? 2, async () => {
        const thread = await startDatabaseThread({ file, role: 'reader' });
        threads.push(thread);
        return thread;
      });
  const write = new Kysely<Schema>({ dialect: threadDialect(writePool, { transactions: 'immediate' }) });
  const read = new Kysely<Schema>({ dialect: threadDialect(readPool, { transactions: inMemory ? 'none' : 'deferred' }) });
  const close = async (): Promise<void> => {
    await Promise.all([write.destroy(), read.destroy()]);
    // The writer last: it checkpoints the write-ahead log when no reader is left.
    for (const thread of threads.reverse()) await thread.close();
  };
  try {
    await migrate(write as unknown as Kysely<unknown>, options.migrations, file);
  } catch (thrown) {
    await close();
    throw thrown;
  }
  return {
    read,
    write,
    path: file,
    run: async <Result>(name: string, argument: unknown): Promise<Result> => {
      const thread = await writePool.acquire();
      try {
        return (await thread.job(name, argument)) as Result;
      } finally {
        writePool.release(thread);
      }
    },
    close: once(close),
  };
}

function once(action: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined;
  return () => (done ??= action());
}
