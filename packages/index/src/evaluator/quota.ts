import { sql } from 'kysely';
import { MeshError } from '@meridian/shared/errors';
import type { NodeId } from '@meridian/shared/identifiers';
import type { IndexDatabase } from '../tables.ts';

const DAY_MS = 24 * 3_600_000;

/**
 * Counts evaluations before they are made. Beyond the daily quota a node lives on the back-fill budget that the operator
 * gave it; beyond both it waits: whoever guesses ids must guess slowly.
 * @throws MeshError RESOURCE_EXHAUSTED / EVALUATION_QUOTA
 */
export async function countEvaluations(
  database: IndexDatabase,
  count: { readonly nodeId: NodeId; readonly evaluations: number; readonly dailyQuota: number; readonly nowEpochMs: number },
): Promise<void> {
  const { nodeId, evaluations, dailyQuota } = count;
  const day = Math.floor(count.nowEpochMs / DAY_MS);
  await database.write.transaction().execute(async (transaction) => {
    const { used } = await transaction
      .insertInto('evaluation_count')
      .values({ node_id: nodeId, day, evaluations })
      .onConflict((conflict) =>
        conflict.columns(['node_id', 'day']).doUpdateSet({ evaluations: sql<number>`evaluation_count.evaluations + ${evaluations}` }),
      )
      .returning('evaluations as used')
      .executeTakeFirstOrThrow();
    const beyondQuota = Math.min(evaluations, used - dailyQuota);
    if (beyondQuota <= 0) return;
    const { numUpdatedRows } = await transaction
      .updateTable('hospital')
      .set((column) => ({ backfill_remaining: column('backfill_remaining', '-', beyondQuota) }))
      .where('node_id', '=', nodeId)
      .where('backfill_remaining', '>=', beyondQuota)
      .executeTakeFirst();
    if (numUpdatedRows === 1n) return;
    throw new MeshError(
      'RESOURCE_EXHAUSTED',
      'EVALUATION_QUOTA',
      `This node has used its ${dailyQuota} evaluations of today. What is queued goes on tomorrow; for a first back-fill ask the operator of the index for a budget.`,
      {
        details: { dailyQuota: String(dailyQuota), resetsAtEpochMs: String((day + 1) * DAY_MS) },
      },
    );
  });
}
