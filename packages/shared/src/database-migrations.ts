import { sql, type Kysely } from 'kysely';
import { MeshError } from './errors.ts';

/** Steps from an empty file to the newest schema, by name (`001-create-studies`), in order of name. Never edited after they land. */
export type Migrations = Readonly<Record<string, (database: Kysely<unknown>) => Promise<void>>>;

interface MigrationTable {
  schema_migration: { name: string };
}

/**
 * Brings the schema up to date, each step in one transaction with its mark: a kill in between leaves whole steps.
 * @throws MeshError FAILED_PRECONDITION / SCHEMA_NEWER when a newer program wrote the file.
 */
export async function migrate(database: Kysely<unknown>, migrations: Migrations, file: string): Promise<void> {
  await sql`CREATE TABLE IF NOT EXISTS schema_migration (name TEXT PRIMARY KEY) WITHOUT ROWID`.execute(database);
  const marks = database as unknown as Kysely<MigrationTable>;
  const applied = (await marks.selectFrom('schema_migration').select('name').orderBy('name').execute()).map(({ name }) => name);
  const names = Object.keys(migrations).sort();
  const unknown = applied.filter((name) => !names.includes(name));
  if (unknown.length > 0) {
    throw new MeshError(
      'FAILED_PRECONDITION',
      'SCHEMA_NEWER',
      `${file} was written by a newer version of Meridian (it holds ${unknown.join(', ')}). Start that version, or restore a backup made by this one.`,
    );
  }
  for (const name of names) {
    const step = migrations[name];
    if (step === undefined || applied.includes(name)) continue;
    await database.transaction().execute(async (transaction) => {
      await step(transaction);
      await (transaction as unknown as Kysely<MigrationTable>).insertInto('schema_migration').values({ name }).execute();
    });
  }
}
