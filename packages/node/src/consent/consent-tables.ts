import { sql } from 'kysely';
import type { Database, Migrations } from '@meridian/shared/database';
import { queueMigrations, type QueueSchema } from '@meridian/shared/queue';

/** What a node knows of consents; statements are verified before they come in and kept as they were signed. */
export interface ConsentSchema extends QueueSchema {
  consent_statement: {
    hash: string;
    compact: string;
    writer: string;
    seq: number;
    consent_id: string;
    status: string;
    received_epoch_ms: number;
  };
  consent_patient: { patient_key: string; epoch: string; hash: string };
  /** The last number that this node gave to a statement of its own. */
  own_seq: { one: number; seq: number };
  /** Who first presented a grant. */
  seen_grant: { jti: string; peer_id: string; expires_epoch_ms: number };
  denial: { kind: DenialKind; value: string; reason: string; at_epoch_ms: number };
}

/** What a hospital can refuse on its own: one grant, one node, one peer, one consent. */
export type DenialKind = 'jti' | 'node' | 'peer' | 'consent';

/** SQLite database of the consent room. */
export type ConsentDatabase = Database<ConsentSchema>;

export const consentMigrations: Migrations = {
  ...queueMigrations,
  '001-create-consent': async (database) => {
    await sql`CREATE TABLE consent_statement (hash TEXT PRIMARY KEY, compact TEXT NOT NULL, writer TEXT NOT NULL, seq INTEGER NOT NULL, consent_id TEXT NOT NULL, status TEXT NOT NULL, received_epoch_ms INTEGER NOT NULL) WITHOUT ROWID`.execute(
      database,
    );
    await sql`CREATE INDEX consent_statement_id ON consent_statement (consent_id)`.execute(database);
    await sql`CREATE TABLE consent_patient (patient_key TEXT NOT NULL, epoch TEXT NOT NULL, hash TEXT NOT NULL REFERENCES consent_statement (hash), PRIMARY KEY (patient_key, epoch, hash)) WITHOUT ROWID`.execute(
      database,
    );
    await sql`CREATE TABLE own_seq (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL)`.execute(database);
    await sql`CREATE TABLE seen_grant (jti TEXT PRIMARY KEY, peer_id TEXT NOT NULL, expires_epoch_ms INTEGER NOT NULL) WITHOUT ROWID`.execute(
      database,
    );
    await sql`CREATE INDEX seen_grant_expiry ON seen_grant (expires_epoch_ms)`.execute(database);
    await sql`CREATE TABLE denial (kind TEXT NOT NULL, value TEXT NOT NULL, reason TEXT NOT NULL, at_epoch_ms INTEGER NOT NULL, PRIMARY KEY (kind, value)) WITHOUT ROWID`.execute(
      database,
    );
  },
  '002-index-consent-writers': async (database) => {
    await sql`CREATE INDEX consent_statement_writer ON consent_statement (writer, seq)`.execute(database);
  },
};
