import type { Kysely } from 'kysely';
import type { Migrations } from '@meridian/shared/database';

/** Schema of the consents. */
export const consentMigrations: Migrations = { '004-create-consents': createConsents };

async function createConsents(database: Kysely<unknown>): Promise<void> {
  const { schema } = database;
  await schema
    .createTable('consent')
    .addColumn('hash', 'text', (column) => column.primaryKey())
    .addColumn('compact', 'text', (column) => column.notNull())
    .addColumn('writer', 'text', (column) => column.notNull())
    .addColumn('seq', 'bigint', (column) => column.notNull())
    .addColumn('consent_id', 'text', (column) => column.notNull())
    .addColumn('status', 'text', (column) => column.notNull())
    .addColumn('issued_at', 'bigint', (column) => column.notNull())
    .addColumn('received_at', 'bigint', (column) => column.notNull())
    .addUniqueConstraint('consent_by_writer', ['writer', 'seq'])
    .execute();
  await schema.createIndex('consent_by_id').on('consent').column('consent_id').execute();
  await schema
    .createTable('consent_patient')
    .addColumn('patient_key', 'blob', (column) => column.notNull())
    .addColumn('consent_hash', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('consent_patient_key', ['patient_key', 'consent_hash'])
    .execute();
  await schema
    .createTable('consent_use')
    .addColumn('consent_id', 'text', (column) => column.notNull())
    .addColumn('node_id', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('consent_use_key', ['consent_id', 'node_id'])
    .execute();
}
