import { MeshError } from '@meridian/shared/errors';
import type { NodeId } from '@meridian/shared/identifiers';
import type { IndexConnection, IndexDatabase } from '../tables.ts';

/** How current the index's picture of a node is. Times are epoch milliseconds. */
export interface FeedState {
  readonly nodeId: string;
  readonly lastSeq: number;
  readonly asOfEpochMs: number;
  readonly pending: number;
  readonly heardAtEpochMs: number;
}

/** Feeds of a node that are kept: the one in use, and the one before it. */
const FEEDS_KEPT = 2;

/** Where a feed goes on: the seq up to which everything is durable here; 0 for a new one. Older feeds of the node are forgotten. */
export async function beginFeed(
  database: IndexDatabase,
  feed: { readonly nodeId: NodeId; readonly feedId: Buffer; readonly atEpochMs: number },
): Promise<number> {
  const { nodeId, feedId, atEpochMs } = feed;
  if (feedId.length !== 16) throw new MeshError('INVALID_ARGUMENT', 'FEED_ID_INVALID', 'A feed id is 16 random bytes.');
  return database.write.transaction().execute(async (transaction) => {
    const { last_seq } = await transaction
      .insertInto('feed')
      .values({ node_id: nodeId, feed_id: feedId, last_seq: 0, as_of: 0, pending: 0, heard_at: atEpochMs })
      .onConflict((conflict) => conflict.columns(['node_id', 'feed_id']).doUpdateSet({ heard_at: atEpochMs }))
      .returning('last_seq')
      .executeTakeFirstOrThrow();
    const others = await transaction
      .selectFrom('feed')
      .select('feed_id')
      .where('node_id', '=', nodeId)
      .where('feed_id', '!=', feedId)
      .orderBy('heard_at', 'desc')
      .orderBy('last_seq', 'desc')
      .execute();
    for (const { feed_id } of others.slice(FEEDS_KEPT - 1)) {
      await transaction.deleteFrom('feed_log').where('node_id', '=', nodeId).where('feed_id', '=', feed_id).execute();
      await transaction.deleteFrom('feed').where('node_id', '=', nodeId).where('feed_id', '=', feed_id).execute();
    }
    return last_seq;
  });
}

/** Notes what a node says of how current its feed is. */
export async function recordHeartbeat(
  database: IndexDatabase,
  heartbeat: {
    readonly nodeId: NodeId;
    readonly feedId: Buffer;
    readonly asOfEpochMs: number;
    readonly pending: number;
    readonly atEpochMs: number;
  },
): Promise<void> {
  await database.write
    .updateTable('feed')
    .set({ as_of: heartbeat.asOfEpochMs, pending: heartbeat.pending, heard_at: heartbeat.atEpochMs })
    .where('node_id', '=', heartbeat.nodeId)
    .where('feed_id', '=', heartbeat.feedId)
    .execute();
}

/** The newest feed of every node that ever said anything. */
export async function feedStates(connection: IndexConnection): Promise<Map<string, FeedState>> {
  const rows = await connection
    .selectFrom('feed')
    .select(['node_id', 'last_seq', 'as_of', 'pending', 'heard_at'])
    .orderBy('heard_at')
    .execute();
  return new Map(
    rows.map((row) => [
      row.node_id,
      { nodeId: row.node_id, lastSeq: row.last_seq, asOfEpochMs: row.as_of, pending: row.pending, heardAtEpochMs: row.heard_at },
    ]),
  );
}
