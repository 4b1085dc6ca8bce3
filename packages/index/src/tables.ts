import type { Kysely, Transaction } from 'kysely';
import type { Database, Migrations } from '@meridian/shared/database';
import { consentMigrations } from './consent/migrations.ts';
import type { ConsentTables } from './consent/tables.ts';
import { evaluatorMigrations } from './evaluator/migrations.ts';
import type { EvaluatorTables } from './evaluator/tables.ts';
import { grantMigrations } from './grants/migrations.ts';
import type { GrantTables } from './grants/tables.ts';
import { manifestMigrations } from './manifests/migrations.ts';
import type { ManifestTables } from './manifests/tables.ts';
import { registryMigrations } from './registry/migrations.ts';
import type { RegistryTables } from './registry/tables.ts';

/** Every table of the index; each room writes its own. None holds a person id, a name, a birth date or an instance. */
export interface IndexTables extends RegistryTables, EvaluatorTables, ManifestTables, ConsentTables, GrantTables {}

/** The index's database. */
export type IndexDatabase = Database<IndexTables>;
/** A connection to read from, inside or outside a transaction. */
export type IndexConnection = Kysely<IndexTables>;
/** The one writing transaction. */
export type IndexTransaction = Transaction<IndexTables>;

/** All migrations, in order of their numbers. */
export const indexMigrations: Migrations = {
  ...registryMigrations,
  ...evaluatorMigrations,
  ...manifestMigrations,
  ...consentMigrations,
  ...grantMigrations,
};
