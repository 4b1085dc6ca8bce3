import type { Kysely } from 'kysely';
import type { Migrations } from '@meridian/shared/database';

/** Schema of the manifests. */
export const manifestMigrations: Migrations = { '003-create-manifests': createManifests };

async function createManifests(database: Kysely<unknown>): Promise<void> {
  const { schema } = database;
  await schema
    .createTable('study')
    .addColumn('patient_key', 'blob', (column) => column.notNull())
    .addColumn('study_instance_uid', 'text', (column) => column.notNull())
    .addColumn('custodian_node', 'text', (column) => column.notNull())
    .addColumn('version', 'bigint', (column) => column.notNull())
    .addColumn('status', 'integer', (column) => column.notNull())
    .addColumn('study_date', 'text', (column) => column.notNull())
    .addColumn('sort_key', 'text', (column) => column.notNull())
    .addColumn('modalities', 'text', (column) => column.notNull())
    .addColumn('instance_count', 'bigint', (column) => column.notNull())
    .addColumn('total_bytes', 'bigint', (column) => column.notNull())
    .addColumn('payload', 'blob', (column) => column.notNull())
    .addColumn('signature', 'blob', (column) => column.notNull())
    .addColumn('key_id', 'text', (column) => column.notNull())
    .addColumn('algorithm', 'integer', (column) => column.notNull())
    .addColumn('received_at', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('study_key', ['patient_key', 'study_instance_uid', 'custodian_node'])
    .execute();
  await schema.createIndex('study_by_uid').on('study').columns(['study_instance_uid', 'custodian_node']).execute();
  await schema
    .createTable('study_locator')
    .addColumn('study_instance_uid', 'text', (column) => column.notNull())
    .addColumn('custodian_node', 'text', (column) => column.notNull())
    .addColumn('version', 'bigint', (column) => column.notNull())
    .addColumn('manifest_sha256', 'blob', (column) => column.notNull())
    .addPrimaryKeyConstraint('study_locator_key', ['study_instance_uid', 'custodian_node'])
    .execute();
  await schema
    .createTable('study_recipient')
    .addColumn('study_instance_uid', 'text', (column) => column.notNull())
    .addColumn('custodian_node', 'text', (column) => column.notNull())
    .addColumn('node_id', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('study_recipient_key', ['study_instance_uid', 'custodian_node', 'node_id'])
    .execute();
  await schema
    .createTable('feed')
    .addColumn('node_id', 'text', (column) => column.notNull())
    .addColumn('feed_id', 'blob', (column) => column.notNull())
    .addColumn('last_seq', 'bigint', (column) => column.notNull())
    .addColumn('as_of', 'bigint', (column) => column.notNull())
    .addColumn('pending', 'bigint', (column) => column.notNull())
    .addColumn('heard_at', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('feed_key', ['node_id', 'feed_id'])
    .execute();
  await schema
    .createTable('feed_log')
    .addColumn('arrival', 'bigint', (column) => column.primaryKey())
    .addColumn('node_id', 'text', (column) => column.notNull())
    .addColumn('feed_id', 'blob', (column) => column.notNull())
    .addColumn('seq', 'bigint', (column) => column.notNull())
    .addColumn('study_instance_uid', 'text', (column) => column.notNull())
    .addColumn('version', 'bigint', (column) => column.notNull())
    .execute();
  await schema.createIndex('feed_log_by_feed').on('feed_log').columns(['node_id', 'feed_id', 'seq']).execute();
}
