// One SQLite connection in a thread of its own: runs what database-thread.ts sends, one request at a time.
import { writeFileSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import SqliteDatabase from 'better-sqlite3';
import {
  isMeshError,
  type JobDatabase,
  type ThreadAnswer,
  type ThreadFailure,
  type ThreadOpen,
  type ThreadRequest,
} from './database-messages.ts';

type Job = (database: JobDatabase, argument: unknown) => unknown;

const STATEMENT_CACHE_SIZE = 256;
const port = parentPort;
if (port === null) throw new Error('database-worker.ts runs as a worker thread only');

let connection: SqliteDatabase.Database | undefined;
let lock: SqliteDatabase.Database | undefined;
let jobs: Readonly<Record<string, Job>> = {};
const statements = new Map<string, SqliteDatabase.Statement>();
const jobStatements = new Map<string, SqliteDatabase.Statement>();

port.on('message', (request: ThreadRequest) => {
  void answer(request).then((reply) => port.postMessage(reply));
});

async function answer(request: ThreadRequest): Promise<ThreadAnswer> {
  try {
    return { id: request.id, ok: true, ...(await perform(request)) };
  } catch (thrown) {
    return { id: request.id, ok: false, failure: describeFailure(thrown) };
  }
}

type Outcome = { rows?: unknown[]; changes?: number; insertId?: bigint; value?: unknown };

async function perform(request: ThreadRequest): Promise<Outcome> {
  switch (request.kind) {
    case 'open':
      jobs = request.jobModule === undefined ? {} : ((await import(request.jobModule)) as Record<string, Job>);
      open(request);
      return {};
    case 'query':
      return query(request.sql, request.parameters);
    case 'job':
      return { value: runJob(request.name, request.argument) };
    case 'rollback':
      // A commit that failed for want of space may have rolled back already.
      if (opened().inTransaction) opened().exec('ROLLBACK');
      return {};
    case 'close':
      connection?.close();
      lock?.close();
      return {};
  }
}

function opened(): SqliteDatabase.Database {
  if (connection === undefined) throw new Error('The database connection is not open');
  return connection;
}

function open(request: ThreadOpen): void {
  const { file, role } = request;
  if (role === 'writer' && file !== ':memory:') takeLock(file);
  const database = new SqliteDatabase(file, { readonly: role === 'reader' });
  connection = database;
  database.pragma('busy_timeout = 10000');
  database.pragma('foreign_keys = ON');
  database.pragma('cache_size = -32768');
  database.pragma('temp_store = MEMORY');
  if (role === 'reader') {
    database.pragma('query_only = ON');
    return;
  }
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = FULL');
  database.pragma('journal_size_limit = 67108864');
  // A checkpoint costs two flushes: one in 4,000 pages (16 MB) instead of 1,000.
  database.pragma('wal_autocheckpoint = 4000');
  assertSetting(database, 'synchronous', 2);
  assertSetting(database, 'foreign_keys', 1);
  if (file !== ':memory:') assertSetting(database, 'journal_mode', 'wal');
}

/** What was acknowledged must survive a power cut: a build of SQLite that ignores these settings is refused. */
function assertSetting(database: SqliteDatabase.Database, name: string, wanted: string | number): void {
  const found: unknown = database.pragma(name, { simple: true });
  if (found !== wanted)
    throw meshFailure(
      'FAILED_PRECONDITION',
      'DATABASE_NOT_DURABLE',
      `SQLite kept ${name} = ${String(found)} where ${wanted} is required for durability.`,
    );
}

/**
 * Holds an exclusive SQLite lock on a file beside the database for as long as this thread lives. The operating system
 * releases it when the process dies, so a lock can never be stale; the -pid file only serves the message.
 */
function takeLock(file: string): void {
  const database = new SqliteDatabase(`${file}-lock`, { timeout: 0 });
  try {
    database.pragma('journal_mode = MEMORY');
    database.exec('BEGIN EXCLUSIVE');
  } catch (thrown) {
    database.close();
    if (isSqliteError(thrown) && thrown.code.startsWith('SQLITE_BUSY'))
      throw meshFailure('FAILED_PRECONDITION', 'NODE_ALREADY_RUNNING', '');
    throw thrown;
  }
  lock = database;
  writeFileSync(`${file}-pid`, `${process.pid}\n`);
}

function query(sql: string, parameters: readonly unknown[]): Outcome {
  const statement = cached(statements, sql, true);
  if (statement.reader) return { rows: statement.all(...parameters).map(narrowIntegers) };
  const { changes, lastInsertRowid } = statement.run(...parameters);
  return { rows: [], changes, insertId: BigInt(lastInsertRowid) };
}

/** Integers are read as bigint so that none loses digits, and handed on as numbers where they fit. */
function narrowIntegers(row: unknown): unknown {
  const record = row as Record<string, unknown>;
  for (const key in record) {
    const value = record[key];
    if (typeof value === 'bigint' && value <= 9007199254740991n && value >= -9007199254740991n) record[key] = Number(value);
  }
  return record;
}

function cached(cache: Map<string, SqliteDatabase.Statement>, sql: string, safeIntegers: boolean): SqliteDatabase.Statement {
  const known = cache.get(sql);
  if (known !== undefined) return known;
  const statement = opened().prepare(sql).safeIntegers(safeIntegers);
  // The oldest goes first; texts with lists of varying length would otherwise grow the cache without bound.
  if (cache.size >= STATEMENT_CACHE_SIZE) cache.delete(cache.keys().next().value as string);
  cache.set(sql, statement);
  return statement;
}

const jobDatabase: JobDatabase = { prepare: (sql) => cached(jobStatements, sql, false) };

function runJob(name: string, argument: unknown): unknown {
  const job = jobs[name];
  if (typeof job !== 'function') throw new Error(`The job module exports no function ${name}`);
  const database = opened();
  database.exec('BEGIN IMMEDIATE');
  try {
    const value = job(jobDatabase, argument);
    database.exec('COMMIT');
    return value;
  } catch (thrown) {
    if (database.inTransaction) database.exec('ROLLBACK');
    throw thrown;
  }
}

function isSqliteError(thrown: unknown): thrown is Error & { code: string } {
  return thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string';
}

/** A failure that the calling thread turns into a MeshError as it stands. */
function meshFailure(code: string, reason: string, message: string): Error {
  return Object.assign(new Error(message), { name: 'MeshError', code, reason, details: {} });
}

function describeFailure(thrown: unknown): ThreadFailure {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  return {
    message: error.message,
    ...(error.stack === undefined ? {} : { stack: error.stack }),
    ...(isSqliteError(error) && !isMeshError(error) ? { sqliteCode: error.code } : {}),
    ...(isMeshError(error) ? { mesh: { code: error.code, reason: error.reason, details: error.details } } : {}),
  };
}
