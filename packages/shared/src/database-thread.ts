import { readFileSync, statfsSync } from 'node:fs';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import type { ThreadAnswer, ThreadFailure, ThreadRequest } from './database-messages.ts';
import { MeshError, type Reason, type StatusCode } from './errors.ts';

/** The rows and counts of one statement. */
export interface StatementOutcome {
  readonly rows: unknown[];
  readonly changes?: number;
  readonly insertId?: bigint;
}

/** One SQLite connection in a worker thread. Requests run in the order in which they are sent. */
export interface DatabaseThread {
  query(sql: string, parameters: readonly unknown[]): Promise<StatementOutcome>;
  job(name: string, argument: unknown): Promise<unknown>;
  rollback(): Promise<void>;
  close(): Promise<void>;
}

type Outgoing = ThreadRequest extends infer R ? (R extends ThreadRequest ? Omit<R, 'id'> : never) : never;
type Success = Extract<ThreadAnswer, { ok: true }>;

/**
 * Starts a thread and opens the file in it.
 * @throws MeshError FAILED_PRECONDITION / NODE_ALREADY_RUNNING when another process holds the file.
 */
export async function startDatabaseThread(options: {
  file: string;
  role: 'writer' | 'reader';
  job?: URL | undefined;
}): Promise<DatabaseThread> {
  // A plain thread: flags of the parent (a test runner's) are not inherited.
  const worker = new Worker(new URL('./database-worker.ts', import.meta.url), { execArgv: ['--no-warnings'] });
  const waiting = new Map<number, { resolve(answer: Success): void; reject(error: MeshError): void }>();
  let nextId = 1;
  let stopped: MeshError | undefined;

  const stop = (cause?: unknown): void => {
    stopped ??= new MeshError('UNAVAILABLE', 'DATABASE_CLOSED', `The database ${options.file} is closed.`, { cause });
    for (const { reject } of waiting.values()) reject(stopped);
    waiting.clear();
  };
  worker.on('error', stop);
  worker.on('exit', () => stop());
  worker.on('message', (answer: ThreadAnswer) => {
    const caller = waiting.get(answer.id);
    waiting.delete(answer.id);
    if (waiting.size === 0) worker.unref();
    if (answer.ok) caller?.resolve(answer);
    else caller?.reject(toMeshError(answer.failure, options.file));
  });
  const send = (request: Outgoing): Promise<Success> =>
    new Promise((resolve, reject) => {
      if (stopped !== undefined) return reject(stopped);
      const id = nextId++;
      if (waiting.size === 0) worker.ref();
      waiting.set(id, { resolve, reject });
      try {
        worker.postMessage({ ...request, id });
      } catch (thrown) {
        waiting.delete(id);
        reject(
          new MeshError('INTERNAL', 'DATABASE_ARGUMENT', 'A value was given to the database that cannot cross to its thread.', {
            cause: thrown,
          }),
        );
      }
    });

  try {
    await send({ kind: 'open', file: options.file, role: options.role, jobModule: options.job?.href });
  } catch (thrown) {
    await worker.terminate();
    throw thrown;
  }
  return {
    query: async (sql, parameters) => {
      const { rows, changes, insertId } = await send({ kind: 'query', sql, parameters: parameters.map(toSqlite) });
      return {
        rows: (rows ?? []).map(restoreBuffers),
        ...(changes === undefined ? {} : { changes }),
        ...(insertId === undefined ? {} : { insertId }),
      };
    },
    job: async (name, argument) => (await send({ kind: 'job', name, argument })).value,
    rollback: async () => {
      await send({ kind: 'rollback' });
    },
    close: async () => {
      if (stopped === undefined) await send({ kind: 'close' });
      stop();
      await worker.terminate();
    },
  };
}

/** SQLite has no booleans; a slice of a pooled Buffer would drag its whole pool across the thread boundary. */
function toSqlite(value: unknown): unknown {
  if (typeof value === 'boolean') return value ? 1 : 0;
  if (value === undefined) return null;
  if (value instanceof Uint8Array && value.buffer.byteLength !== value.byteLength) return Uint8Array.from(value);
  return value;
}

/** Structured clone turns a Buffer into a Uint8Array. */
function restoreBuffers(row: unknown): unknown {
  const record = row as Record<string, unknown>;
  for (const key in record) {
    const value = record[key];
    if (value instanceof Uint8Array) record[key] = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  }
  return record;
}

function toMeshError(failure: ThreadFailure, file: string): MeshError {
  const cause = Object.assign(
    new Error(failure.message),
    failure.stack === undefined ? {} : { stack: failure.stack },
    failure.sqliteCode === undefined ? {} : { code: failure.sqliteCode },
  );
  if (failure.mesh !== undefined) {
    const message = failure.mesh.reason === 'NODE_ALREADY_RUNNING' ? alreadyRunning(file) : failure.message;
    return new MeshError(failure.mesh.code as StatusCode, failure.mesh.reason as Reason, message, { cause, details: failure.mesh.details });
  }
  const code = failure.sqliteCode ?? '';
  const details = { sqliteCode: code };
  // Without room SQLite fails in places where it can only say "I/O error", such as the file of its shared memory.
  if (code === 'SQLITE_FULL' || code === 'ENOSPC' || code === 'EDQUOT' || (code.startsWith('SQLITE_IOERR') && isWithoutRoom(file))) {
    return new MeshError(
      'RESOURCE_EXHAUSTED',
      'DISK_FULL',
      'The disk is full. Nothing that was accepted is lost; free space and send again.',
      { cause, details },
    );
  }
  if (code.startsWith('SQLITE_IOERR'))
    return new MeshError(
      'INTERNAL',
      'DISK_FAILED',
      'The disk failed to read or write the database. Check the disk; what was accepted before is not touched.',
      { cause, details },
    );
  if (code.startsWith('SQLITE_CORRUPT') || code === 'SQLITE_NOTADB')
    return new MeshError('DATA_LOSS', 'DATABASE_CORRUPT', `The database ${file} is damaged. Restore it from a backup.`, { cause });
  if (code.startsWith('SQLITE_BUSY'))
    return new MeshError('UNAVAILABLE', 'DATABASE_BUSY', 'Another program holds the database. Close it and try again.', { cause });
  if (code.startsWith('SQLITE_CONSTRAINT')) {
    return new MeshError('FAILED_PRECONDITION', 'CONSTRAINT_VIOLATED', 'The database refused a row that would contradict another one.', {
      cause,
      details,
    });
  }
  return new MeshError('INTERNAL', 'DATABASE_FAILED', 'The database refused a statement. The log says which.', { cause });
}

function isWithoutRoom(file: string): boolean {
  try {
    const { bavail, bsize } = statfsSync(path.dirname(file));
    return bavail * bsize < 1024 * 1024;
  } catch {
    return false;
  }
}

function alreadyRunning(file: string): string {
  let pid = 'unknown';
  try {
    pid = readFileSync(`${file}-pid`, 'utf8').trim();
  } catch {
    // The other process has not written it yet, or the folder is not readable; the message stands without it.
  }
  return `Another Meridian process (pid ${pid}) already uses ${file}. Stop it, or use another data folder.`;
}
