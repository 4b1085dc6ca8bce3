import {
  CompiledQuery,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  type QueryResult,
} from 'kysely';
import type { DatabaseThread } from './database-thread.ts';

/** Hands out threads: whoever holds one is alone on it until it is given back. */
export interface ThreadPool {
  acquire(): Promise<DatabaseThread>;
  release(thread: DatabaseThread): void;
}

/** A pool of one thread, served in the order of asking. */
export function exclusivePool(thread: DatabaseThread): ThreadPool {
  return limitedPool([thread], () => Promise.resolve(thread), 1);
}

/** A pool that starts threads when they are first needed, up to `size`. */
export function lazyPool(size: number, start: () => Promise<DatabaseThread>): ThreadPool {
  return limitedPool([], start, size);
}

function limitedPool(idle: DatabaseThread[], start: () => Promise<DatabaseThread>, size: number): ThreadPool {
  const waiting: ((thread: DatabaseThread) => void)[] = [];
  let started = idle.length;
  return {
    acquire: async () => {
      const free = idle.pop();
      if (free !== undefined) return free;
      if (started >= size) return new Promise((resolve) => waiting.push(resolve));
      started++;
      try {
        return await start();
      } catch (thrown) {
        started--;
        throw thrown;
      }
    },
    release: (thread) => {
      const next = waiting.shift();
      if (next === undefined) idle.push(thread);
      else next(thread);
    },
  };
}

interface ThreadConnection extends DatabaseConnection {
  readonly thread: DatabaseThread;
}

/** Kysely over SQLite in worker threads. `transactions: 'none'` serves reads that share the writer (`:memory:`). */
export function threadDialect(pool: ThreadPool, options: { transactions: 'immediate' | 'deferred' | 'none' }): Dialect {
  return {
    createAdapter: () => new SqliteAdapter(),
    createDriver: () => threadDriver(pool, options.transactions),
    createIntrospector: (database) => new SqliteIntrospector(database),
    createQueryCompiler: () => new SqliteQueryCompiler(),
  };
}

function threadDriver(pool: ThreadPool, transactions: 'immediate' | 'deferred' | 'none'): Driver {
  const begin = transactions === 'immediate' ? 'begin immediate' : 'begin';
  const statement = async (connection: DatabaseConnection, text: string): Promise<void> => {
    if (transactions !== 'none') await connection.executeQuery(CompiledQuery.raw(text));
  };
  return {
    init: () => Promise.resolve(),
    acquireConnection: async () => threadConnection(await pool.acquire()),
    beginTransaction: (connection) => statement(connection, begin),
    commitTransaction: (connection) => statement(connection, 'commit'),
    rollbackTransaction: async (connection) => {
      if (transactions !== 'none') await (connection as ThreadConnection).thread.rollback();
    },
    releaseConnection: (connection) => {
      pool.release((connection as ThreadConnection).thread);
      return Promise.resolve();
    },
    destroy: () => Promise.resolve(),
  };
}

function threadConnection(thread: DatabaseThread): ThreadConnection {
  return {
    thread,
    executeQuery: async <R>(query: CompiledQuery): Promise<QueryResult<R>> => {
      const { rows, changes, insertId } = await thread.query(query.sql, query.parameters);
      return {
        rows: rows as R[],
        ...(changes === undefined ? {} : { numAffectedRows: BigInt(changes) }),
        ...(insertId === undefined ? {} : { insertId }),
      };
    },
    streamQuery: () => {
      throw new Error('Streaming queries are not offered: page with limit and a key instead');
    },
  };
}
