import type { Kysely } from 'kysely';
import type { Migrations } from '@meridian/shared/database';

/** Schema of the grants. */
export const grantMigrations: Migrations = { '005-create-grants': createGrants };

async function createGrants(database: Kysely<unknown>): Promise<void> {
  await database.schema
    .createTable('grant_issued')
    .addColumn('jti', 'text', (column) => column.primaryKey())
    .addColumn('asking_node', 'text', (column) => column.notNull())
    .addColumn('holder_node', 'text', (column) => column.notNull())
    .addColumn('study_instance_uids', 'text', (column) => column.notNull())
    .addColumn('consent_hash', 'text', (column) => column.notNull())
    .addColumn('issued_at', 'bigint', (column) => column.notNull())
    .addColumn('expires_at', 'bigint', (column) => column.notNull())
    .execute();
}
