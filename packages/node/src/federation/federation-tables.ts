import { sql } from 'kysely';
import type { Database, Migrations } from '@meridian/shared/database';

/** What a node keeps of the federation: the trust list verbatim, patient keys it has learnt, how far it worked off the push channel. */
export interface FederationSchema {
  /** The signed head under the name "", segments under "/name", under "!…" the heads that named a new index key; `signed` are the encoded bytes as they came. */
  trust_part: { name: string; signed: Buffer };
  /** `id_mac` is an HMAC of the person id under a secret of this node: the id itself is nowhere. */
  patient_key: { id_mac: Buffer; epoch: string; patient_key: Buffer };
  setting: { name: string; value: string };
}

/** SQLite database of the federation room. */
export type FederationDatabase = Database<FederationSchema>;

export const federationMigrations: Migrations = {
  '001-create-federation': async (database) => {
    await sql`CREATE TABLE trust_part (name TEXT PRIMARY KEY, signed BLOB NOT NULL) WITHOUT ROWID`.execute(database);
    await sql`CREATE TABLE patient_key (id_mac BLOB NOT NULL, epoch TEXT NOT NULL, patient_key BLOB NOT NULL, PRIMARY KEY (id_mac, epoch)) WITHOUT ROWID`.execute(
      database,
    );
    await sql`CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID`.execute(database);
  },
};

/** A durable text under a name. */
export async function readSetting(database: FederationDatabase, name: string): Promise<string | undefined> {
  const row = await database.read.selectFrom('setting').select('value').where('name', '=', name).executeTakeFirst();
  return row?.value;
}

/** Durable when it resolves. */
export async function writeSetting(database: FederationDatabase, name: string, value: string): Promise<void> {
  await database.write
    .insertInto('setting')
    .values({ name, value })
    .onConflict((conflict) => conflict.column('name').doUpdateSet({ value }))
    .execute();
}
