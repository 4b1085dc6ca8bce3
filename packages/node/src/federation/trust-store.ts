import { asMeshError, MeshError } from '@meridian/shared/errors';
import { SignedObject } from '@meridian/shared/generated/meridian/v1/common';
import { TrustList, TrustListHead } from '@meridian/shared/generated/meridian/v1/trust';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import { openSigned } from '@meridian/shared/signed-object';
import { applyTrustNews, TRUST_HEAD_TYPE, verifyTrustList, type TrustNews, type TrustView } from '@meridian/shared/trust-list';
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
/** Before the seq of a kept head that names a key which no earlier one did. */
const LINK = '!';
const SEGMENT = '/';

/**
 * Opens the kept trust list; everything read from disk is verified again. A list that has run out still serves to ask for a newer one.
 * @param parts.first encoded TrustList of the join, for the first start.
 * @throws MeshError UNAUTHENTICATED / SIGNATURE_INVALID, DATA_LOSS / TRUST_LIST_ROOT_MISMATCH where the disk was tampered with
 */
export async function openTrustStore(parts: { database: FederationDatabase; first: Uint8Array; rootKeys: readonly Uint8Array[]; clock: Clock; log: Logger }): Promise<TrustStore> {
  const { database, rootKeys, clock, log } = parts;
  const listeners = new Set<(view: TrustView) => void>();
  const loaded = await load(parts);
  let { view } = loaded;
  let chain = loaded.keys;
  let turn: Promise<unknown> = Promise.resolve();

  const take = async (news: TrustNews): Promise<boolean> => {
    const next = applyTrustNews(view, news, rootKeys, clock.now());
    if (next === view) return false;
    await save(database, { before: view, next, chain });
    view = next;
    chain = [...chain, ...newKeys(chain, next.indexSigningKeys)];
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

interface Loaded {
  readonly view: TrustView;
  /** Every index key that the chain of kept heads vouches for, from the key learnt at join to today's. */
  readonly keys: readonly Uint8Array[];
}

async function load(parts: { database: FederationDatabase; first: Uint8Array; rootKeys: readonly Uint8Array[]; clock: Clock }): Promise<Loaded> {
  const rows = await parts.database.read.selectFrom('trust_part').selectAll().orderBy('name').execute();
  const head = rows.find((row) => row.name === HEAD);
  const list: TrustList = head === undefined
    ? TrustList.decode(parts.first)
    : { head: signedOf(head.signed), segments: rows.filter((row) => row.name.startsWith(SEGMENT)).map((row) => ({ name: row.name.slice(SEGMENT.length), segment: Buffer.from(row.signed) })) };
  let keys = [...parts.rootKeys];
  const learn = (named: readonly Uint8Array[]): void => void (keys = [...keys, ...newKeys(keys, named)]);
  learn(keysOfFirst(parts));
  // Each link is signed by a key that those before it named.
  for (const row of rows.filter(({ name }) => name.startsWith(LINK))) learn(TrustListHead.decode(openSigned(TRUST_HEAD_TYPE, signedOf(row.signed), keys)).indexSigningPublicKeys);
  const view = verifyTrustList(list, keys, parts.clock.now(), { allowExpired: true });
  if (head === undefined) await save(parts.database, { before: undefined, next: view, chain: keys });
  learn(view.indexSigningKeys);
  return { view, keys };
}

function signedOf(bytes: Uint8Array): SignedObject {
  return SignedObject.decode(Buffer.from(bytes));
}

function newKeys(known: readonly Uint8Array[], named: readonly Uint8Array[]): Uint8Array[] {
  return named.filter((key) => !known.some((one) => Buffer.from(one).equals(key)));
}

/** Index keys that the list of the join vouched for. */
function keysOfFirst(parts: { first: Uint8Array; rootKeys: readonly Uint8Array[]; clock: Clock }): readonly Uint8Array[] {
  try {
    return verifyTrustList(TrustList.decode(parts.first), parts.rootKeys, parts.clock.now(), { allowExpired: true }).indexSigningKeys;
  } catch (thrown) {
    throw new MeshError('DATA_LOSS', 'TRUST_LIST_ROOT_MISMATCH', 'The trust list of the join was altered on this disk. Restore the identity folder from the backup.', { cause: asMeshError(thrown) });
  }
}

/**
 * Head and changed segments in one transaction; a segment's row has the name with a mark before it, the head has none. A
 * head that names a new index key is kept as a link of the chain: by it a later head, signed by that key, loads.
 */
async function save(database: FederationDatabase, { before, next, chain }: { readonly before: TrustView | undefined; readonly next: TrustView; readonly chain: readonly Uint8Array[] }): Promise<void> {
  const kept = new Map((before?.segments ?? []).map(({ name, segment }) => [name, segment]));
  const head = Buffer.from(SignedObject.encode(next.head).finish());
  await database.write.transaction().execute(async (transaction) => {
    const put = async (name: string, signed: Buffer): Promise<void> => {
      await transaction.insertInto('trust_part').values({ name, signed }).onConflict((conflict) => conflict.column('name').doUpdateSet({ signed })).execute();
    };
    await put(HEAD, head);
    // Seq first; a list of the same seq may be signed anew and name a new key.
    if (newKeys(chain, next.indexSigningKeys).length > 0) await put(`${LINK}${String(next.seq).padStart(16, '0')}-${String(next.issuedAtEpochMs).padStart(16, '0')}`, head);
    for (const { name, segment } of next.segments) {
      if (kept.get(name)?.equals(segment) !== true) await put(`${SEGMENT}${name}`, segment);
      kept.delete(name);
    }
    for (const name of kept.keys()) await transaction.deleteFrom('trust_part').where('name', '=', `${SEGMENT}${name}`).execute();
  });
}
