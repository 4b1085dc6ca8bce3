import { sql, type Kysely } from 'kysely';

/** Until when the consent under a copy carries it, which consent that is, and why a copy is locked. Of older copies it is filled in at the start. */
export async function addCopyValidity(database: Kysely<unknown>): Promise<void> {
  await sql`ALTER TABLE fetched_study ADD COLUMN consent_id TEXT NOT NULL DEFAULT ''`.execute(database);
  await sql`ALTER TABLE fetched_study ADD COLUMN valid_until_epoch_ms INTEGER`.execute(database);
  await sql`ALTER TABLE fetched_study ADD COLUMN lock_reason TEXT NOT NULL DEFAULT ''`.execute(database);
  await sql`CREATE INDEX fetched_study_validity ON fetched_study (valid_until_epoch_ms) WHERE locked = 0`.execute(database);
}
