import { DatabaseSync, type SQLOutputValue } from 'node:sqlite';

/** Every value of every table of a SQLite file, with the table and column it stands in. */
export interface DumpedValue {
  readonly table: string;
  readonly column: string;
  readonly bytes: Buffer;
}

/** Dumps a database whole; opened for reading only, beside the program that uses it. */
export function* dumpDatabase(file: string): Generator<DumpedValue> {
  const database = new DatabaseSync(file, { readOnly: true });
  try {
    for (const table of tableNames(database)) {
      for (const row of database.prepare(`SELECT * FROM "${table}"`).iterate() as Iterable<Record<string, SQLOutputValue>>) {
        for (const [column, value] of Object.entries(row)) {
          if (value === null) continue;
          yield { table, column, bytes: value instanceof Uint8Array ? Buffer.from(value) : Buffer.from(String(value)) };
        }
      }
    }
  } finally {
    database.close();
  }
}

/** Names of the tables of a SQLite file with their row counts. */
export function countRows(file: string): ReadonlyMap<string, number> {
  const database = new DatabaseSync(file, { readOnly: true });
  try {
    return new Map(
      tableNames(database).map((table) => [
        table,
        Number((database.prepare(`SELECT count(*) AS n FROM "${table}"`).get() as { n: number }).n),
      ]),
    );
  } finally {
    database.close();
  }
}

/** Where one of these words stands in a database, as UTF-8 or GB18030 bytes, in text or blobs. */
export function findInDatabase(
  file: string,
  words: readonly string[],
  alsoBytes: readonly Buffer[] = [],
): { table: string; column: string; word: string }[] {
  const needles = [
    ...words.map((word) => ({ word, bytes: Buffer.from(word) })),
    ...alsoBytes.map((bytes) => ({ word: bytes.toString('hex'), bytes })),
  ];
  const found: { table: string; column: string; word: string }[] = [];
  for (const { table, column, bytes } of dumpDatabase(file)) {
    for (const needle of needles) if (bytes.includes(needle.bytes)) found.push({ table, column, word: needle.word });
  }
  return found;
}

function tableNames(database: DatabaseSync): string[] {
  return (
    database.prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name").all() as {
      name: string;
    }[]
  ).map(({ name }) => name);
}
