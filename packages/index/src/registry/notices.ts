import { sql } from 'kysely';
import type { IndexConnection, IndexTransaction } from '../tables.ts';

/** Something that a node must be told. */
export interface Notice {
  readonly seq: number;
  readonly kind: 'consent' | 'recall';
  /** UTF-8 of a compact JWS, or an encoded StudyRecall. */
  readonly payload: Buffer;
}

/** Adds a notice for every node named, in the transaction of what it tells. */
export async function addNotices(
  transaction: IndexTransaction,
  notice: {
    readonly nodeIds: Iterable<string>;
    readonly kind: Notice['kind'];
    readonly subject: string;
    readonly payload: Buffer;
    readonly atEpochMs: number;
  },
): Promise<void> {
  for (const nodeId of notice.nodeIds) {
    const seq = await nextNumber(transaction, 'notice');
    await transaction
      .insertInto('notice')
      .values({ seq, node_id: nodeId, kind: notice.kind, subject: notice.subject, payload: notice.payload, created_at: notice.atEpochMs })
      .execute();
  }
}

/** Notices of a node after a cursor, oldest first. */
export async function noticesAfter(connection: IndexConnection, nodeId: string, afterSeq: number, limit: number): Promise<Notice[]> {
  return connection
    .selectFrom('notice')
    .select(['seq', 'kind', 'payload'])
    .where('node_id', '=', nodeId)
    .where('seq', '>', afterSeq)
    .orderBy('seq')
    .limit(limit)
    .execute();
}

/** Forgets notices older than a time: a node that was away longer has to join again. */
export async function forgetNotices(transaction: IndexConnection, beforeEpochMs: number): Promise<void> {
  await transaction.deleteFrom('notice').where('created_at', '<', beforeEpochMs).execute();
}

/** The next value of a counter that only grows, so that no cursor is ever used twice. */
export async function nextNumber(transaction: IndexTransaction, name: string): Promise<number> {
  const { value } = await transaction
    .insertInto('counter')
    .values({ name, value: 1 })
    .onConflict((conflict) => conflict.column('name').doUpdateSet({ value: sql<number>`counter.value + 1` }))
    .returning('value')
    .executeTakeFirstOrThrow();
  return value;
}
