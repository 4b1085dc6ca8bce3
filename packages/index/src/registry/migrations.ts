import type { Kysely } from 'kysely';
import type { Migrations } from '@meridian/shared/database';

/** Schema of the registry. */
export const registryMigrations: Migrations = { '001-create-registry': createRegistry };

async function createRegistry(database: Kysely<unknown>): Promise<void> {
  const { schema } = database;
  await schema
    .createTable('hospital')
    .addColumn('node_id', 'text', (column) => column.primaryKey())
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('segment', 'text', (column) => column.notNull())
    .addColumn('status', 'text', (column) => column.notNull())
    .addColumn('peer_id', 'text', (column) => column.unique())
    .addColumn('signing_public_key', 'blob', (column) => column.unique())
    .addColumn('addresses', 'text', (column) => column.notNull())
    .addColumn('ae_title', 'text', (column) => column.notNull())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('joined_at', 'bigint')
    .addColumn('certified_until', 'bigint')
    .addColumn('backfill_remaining', 'bigint', (column) => column.notNull())
    .execute();
  await schema
    .createTable('join_code')
    .addColumn('code_sha256', 'blob', (column) => column.primaryKey())
    .addColumn('node_id', 'text', (column) => column.notNull())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('expires_at', 'bigint', (column) => column.notNull())
    .addColumn('used_at', 'bigint')
    .addColumn('request_sha256', 'blob')
    .execute();
  await schema
    .createTable('node_certificate')
    .addColumn('serial', 'text', (column) => column.primaryKey())
    .addColumn('node_id', 'text', (column) => column.notNull())
    .addColumn('spki_sha256', 'blob', (column) => column.notNull())
    .addColumn('not_after', 'bigint', (column) => column.notNull())
    .addColumn('issued_at', 'bigint', (column) => column.notNull())
    .execute();
  await schema.createIndex('node_certificate_by_node').on('node_certificate').column('node_id').execute();
  await schema
    .createTable('former_signing_key')
    .addColumn('node_id', 'text', (column) => column.notNull())
    .addColumn('public_key', 'blob', (column) => column.notNull())
    .addColumn('until', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('former_signing_key_key', ['node_id', 'public_key'])
    .execute();
  await schema
    .createTable('trust_delta')
    .addColumn('to_seq', 'bigint', (column) => column.primaryKey())
    .addColumn('from_seq', 'bigint', (column) => column.notNull())
    .addColumn('signed', 'blob', (column) => column.notNull())
    .execute();
  await schema
    .createTable('counter')
    .addColumn('name', 'text', (column) => column.primaryKey())
    .addColumn('value', 'bigint', (column) => column.notNull())
    .execute();
  await schema
    .createTable('notice')
    .addColumn('seq', 'bigint', (column) => column.primaryKey())
    .addColumn('node_id', 'text', (column) => column.notNull())
    .addColumn('kind', 'text', (column) => column.notNull())
    .addColumn('subject', 'text', (column) => column.notNull())
    .addColumn('payload', 'blob', (column) => column.notNull())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .execute();
  await schema.createIndex('notice_by_subject').on('notice').columns(['node_id', 'subject']).execute();
  await schema.createIndex('notice_by_node').on('notice').columns(['node_id', 'seq']).execute();
}
