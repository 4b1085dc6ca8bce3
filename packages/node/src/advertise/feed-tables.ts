import { sql, type Generated } from 'kysely';
import type { Database, Migrations } from '@meridian/shared/database';

/** The durable feed of a node: what was signed, in order, and how far the index has it. */
export interface FeedSchema {
  /** `seq` is 1, 2, 3… without a gap; `manifest` an encoded SignedObject, verbatim; `refused` why the index refused it for good. */
  feed_entry: {
    seq: number;
    study_instance_uid: string;
    version: number;
    store_version: number;
    manifest: Buffer;
    refused: Generated<string | null>;
  };
  /** Encoded InstanceList of one version, raw-deflated. */
  instance_list: { study_instance_uid: string; version: number; list: Buffer };
  /** `change_seq`: the archive's changes are worked off up to here; `last_seq`: newest entry; `key_id`: of the signing key of all entries, '' before it was noted. */
  feed: { one: number; feed_id: Buffer; change_seq: number; last_seq: number; acknowledged_seq: number; key_id: Generated<string> };
}

/** SQLite database of the advertise room. */
export type FeedDatabase = Database<FeedSchema>;

export const feedMigrations: Migrations = {
  '001-create-feed': async (database) => {
    await sql`CREATE TABLE feed_entry (seq INTEGER PRIMARY KEY, study_instance_uid TEXT NOT NULL, version INTEGER NOT NULL, store_version INTEGER NOT NULL, manifest BLOB NOT NULL)`.execute(
      database,
    );
    await sql`CREATE UNIQUE INDEX feed_entry_study ON feed_entry (study_instance_uid, version)`.execute(database);
    await sql`CREATE TABLE instance_list (study_instance_uid TEXT NOT NULL, version INTEGER NOT NULL, list BLOB NOT NULL, PRIMARY KEY (study_instance_uid, version))`.execute(
      database,
    );
    await sql`CREATE TABLE feed (one INTEGER PRIMARY KEY CHECK (one = 1), feed_id BLOB NOT NULL, change_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, acknowledged_seq INTEGER NOT NULL)`.execute(
      database,
    );
  },
  '002-note-refused-entries': async (database) => {
    await sql`ALTER TABLE feed_entry ADD COLUMN refused TEXT`.execute(database);
    await sql`CREATE INDEX feed_entry_refused ON feed_entry (seq) WHERE refused IS NOT NULL`.execute(database);
  },
  '003-note-signing-key': async (database) => {
    await sql`ALTER TABLE feed ADD COLUMN key_id TEXT NOT NULL DEFAULT ''`.execute(database);
  },
};
