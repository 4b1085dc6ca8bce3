/** What a job sees of the database: prepared statements, kept between calls. Integers come as numbers. */
export interface JobDatabase {
  prepare(sql: string): JobStatement;
}

/** A prepared statement of a job; parameters are positional or one object of named ones. */
export interface JobStatement {
  run(...parameters: unknown[]): { changes: number; lastInsertRowid: number | bigint };
  get(...parameters: unknown[]): unknown;
  all(...parameters: unknown[]): unknown[];
}

/** Opens the connection of a database thread; `jobModule` is a URL as text. */
export interface ThreadOpen {
  readonly id: number;
  readonly kind: 'open';
  readonly file: string;
  readonly role: 'writer' | 'reader';
  readonly jobModule?: string | undefined;
}

/** A request to a database thread. */
export type ThreadRequest =
  | ThreadOpen
  | { readonly id: number; readonly kind: 'query'; readonly sql: string; readonly parameters: readonly unknown[] }
  | { readonly id: number; readonly kind: 'job'; readonly name: string; readonly argument: unknown }
  | { readonly id: number; readonly kind: 'rollback' }
  | { readonly id: number; readonly kind: 'close' };

/** An error as it crosses the thread boundary, where classes do not survive. */
export interface ThreadFailure {
  readonly message: string;
  readonly stack?: string;
  readonly sqliteCode?: string;
  readonly mesh?: { readonly code: string; readonly reason: string; readonly details: Readonly<Record<string, string>> };
}

/** A database thread's answer to the request of the same id. */
export type ThreadAnswer =
  | {
      readonly id: number;
      readonly ok: true;
      readonly rows?: unknown[];
      readonly changes?: number;
      readonly insertId?: bigint;
      readonly value?: unknown;
    }
  | { readonly id: number; readonly ok: false; readonly failure: ThreadFailure };

/** Whether an error is a MeshError, told by shape: jobs may throw one of another copy of the class. */
export function isMeshError(error: Error): error is Error & { code: string; reason: string; details: Readonly<Record<string, string>> } {
  return error.name === 'MeshError' && 'reason' in error && 'code' in error && 'details' in error;
}
