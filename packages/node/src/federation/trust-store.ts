import { asMeshError, MeshError } from '@meridian/shared/errors';
import { SignedObject } from '@meridian/shared/generated/meridian/v1/common';
import { TrustList } from '@meridian/shared/generated/meridian/v1/trust';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import { applyTrustNews, verifyTrustList, type TrustNews, type TrustView } from '@meridian/shared/trust-list';
import type { FederationDatabase } from './federation-tables.ts';

/** The last trust list that was verified, kept on disk verbatim. */
export interface TrustStore {
  readonly view: () => TrustView;
  /**
   * Takes what the index or another node offers, in turn.
   * @returns whether it was newer; it is durable then.
   * @throws MeshError as {@link applyTrustNews}: an older list, a gap, a false signature change nothing.
   */
  readonly offer: (news: TrustNews) => Promise<boolean>;
  /** Called after every newer list. @returns a function that ends it. */
  readonly onChange: (listener: (view: TrustView) => void) => () => void;
}

const HEAD = '';

/**
 * Opens the kept trust list; everything read from disk is verified again. A list that has run out still serves to ask for a newer one.
 * @param parts.first encoded TrustList of the join, for the first start.
 * @throws MeshError UNAUTHENTICATED / SIGNATURE_INVALID, DATA_LOSS / TRUST_LIST_ROOT_MISMATCH where the disk was tampered with
 */
export async function openTrustStore(parts: { database: FederationDatabase; first: Uint8Array; rootKeys: readonly Uint8Array[]; clock: Clock; log: Logger }): Promise<TrustStore> {
  const { database, rootKeys, clock, log } = parts;
  const listeners = new Set<(view: TrustView) => void>();
  let view = await load(parts);
  let turn: Promise<unknown> = Promise.resolve();

  const take = async (news: TrustNews): Promise<boolean> => {
    const next = applyTrustNews(view, news, rootKeys, clock.now());
    if (next === view) return false;
    await save(database, view, next);
    view = next;
    log.debug({ event: 'trust-list-taken', seq: next.seq, expiresAtEpochMs: next.expiresAtEpochMs });
    for (const listener of listeners) listener(next);
    return true;
  };
  return {
    view: () => view,
    offer: (news) => {
      const taken = turn.then(() => take(news));
      turn = taken.catch(() => undefined);
      return taken;
    },
    onChange: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

async function load(parts: { database: FederationDatabase; first: Uint8Array; rootKeys: readonly Uint8Array[]; clock: Clock }): Promise<TrustView> {
  const rows = await parts.database.read.selectFrom('trust_part').selectAll().orderBy('name').execute();
  const head = rows.find((row) => row.name === HEAD);
  const list: TrustList = head === undefined
    ? TrustList.decode(parts.first)
    : { head: SignedObject.decode(Buffer.from(head.signed)), segments: rows.filter((row) => row.name !== HEAD).map((row) => ({ name: row.name.slice(1), segment: Buffer.from(row.signed) })) };
  const keptKeys = keysOfFirst(parts);
  const view = verifyTrustList(list, [...parts.rootKeys, ...keptKeys], parts.clock.now(), { allowExpired: true });
  if (head === undefined) await save(parts.database, undefined, view);
  return view;
}

/** Index keys that the list of the join vouched for: the chain from the key learnt at join to today's. */
function keysOfFirst(parts: { first: Uint8Array; rootKeys: readonly Uint8Array[]; clock: Clock }): readonly Uint8Array[] {
  try {
    return verifyTrustList(TrustList.decode(parts.first), parts.rootKeys, parts.clock.now(), { allowExpired: true }).indexSigningKeys;
  } catch (thrown) {
    throw new MeshError('DATA_LOSS', 'TRUST_LIST_ROOT_MISMATCH', 'The trust list of the join was altered on this disk. Restore the identity folder from the backup.', { cause: asMeshError(thrown) });
  }
}

/** Head and changed segments in one transaction; a segment's row has the name with a mark before it, the head has none. */
async function save(database: FederationDatabase, before: TrustView | undefined, next: TrustView): Promise<void> {
  const kept = new Map((before?.segments ?? []).map(({ name, segment }) => [name, segment]));
  await database.write.transaction().execute(async (transaction) => {
    const put = async (name: string, signed: Buffer): Promise<void> => {
      await transaction.insertInto('trust_part').values({ name, signed }).onConflict((conflict) => conflict.column('name').doUpdateSet({ signed })).execute();
    };
    await put(HEAD, Buffer.from(SignedObject.encode(next.head).finish()));
    for (const { name, segment } of next.segments) {
      if (kept.get(name)?.equals(segment) !== true) await put(`/${name}`, segment);
      kept.delete(name);
    }
    for (const name of kept.keys()) await transaction.deleteFrom('trust_part').where('name', '=', `/${name}`).execute();
  });
}
