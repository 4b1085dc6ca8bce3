import type { Kysely } from 'kysely';
import type { Migrations } from '@meridian/shared/database';

/** Schema of the evaluator. */
export const evaluatorMigrations: Migrations = { '002-count-evaluations': countEvaluations };

async function countEvaluations(database: Kysely<unknown>): Promise<void> {
  await database.schema
    .createTable('evaluation_count')
    .addColumn('node_id', 'text', (column) => column.notNull())
    .addColumn('day', 'bigint', (column) => column.notNull())
    .addColumn('evaluations', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('evaluation_count_key', ['node_id', 'day'])
    .execute();
}
