import { asMeshError, MeshError } from '@meridian/shared/errors';
import { SignedObject } from '@meridian/shared/generated/meridian/v1/common';
import { TrustList, TrustListHead } from '@meridian/shared/generated/meridian/v1/trust';
import type { NodeId } from '@meridian/shared/identifiers';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import { keyIdOf, openSigned } from '@meridian/shared/signed-object';
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

/** A known member stands in a newer list with another key: a hospital that joined anew, or an index that is not itself any more. */
export interface MemberKeyChange {
  readonly nodeId: NodeId;
  /** Of the list that says so. */
  readonly seq: number;
  readonly changed: 'signing-key' | 'peer-id';
  /** Ids of the signing key that is listed now, and of the one before. */
  readonly keyId: string;
  readonly formerKeyId: string;
}

const HEAD = '';
/** Before the seq of a kept head that names a key which no earlier one did. */
const LINK = '!';
const SEGMENT = '/';

/**
 * Opens the kept trust list; everything read from disk is verified again. A list that has run out still serves to ask for a newer one.
 * @param parts.first encoded TrustList of the join, for the first start.
 * @param parts.onMemberKeyChanged called after the list was taken; it holds nothing up.
 * @throws MeshError UNAUTHENTICATED / SIGNATURE_INVALID, DATA_LOSS / TRUST_LIST_ROOT_MISMATCH where the disk was tampered with
 */
export async function openTrustStore(parts: {
  database: FederationDatabase;
  first: Uint8Array;
  rootKeys: readonly Uint8Array[];
  clock: Clock;
  log: Logger;
  onMemberKeyChanged?: (change: MemberKeyChange) => void;
}): Promise<TrustStore> {
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
    const changes = keyChanges(view, next);
    view = next;
    for (const change of changes) {
      log.error(
        { event: 'member-key-changed', ...change },
        'a hospital is listed with another key than before: ask it whether it joined anew, by a way that does not lead over the index',
      );
      parts.onMemberKeyChanged?.(change);
    }
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

function keyChanges(before: TrustView, next: TrustView): MemberKeyChange[] {
  const changes: MemberKeyChange[] = [];
  for (const [nodeId, { signingPublicKey, peerId }] of next.entries) {
    const former = before.entries.get(nodeId);
    if (former === undefined) continue;
    const isOtherKey = !former.signingPublicKey.equals(signingPublicKey);
    if (!isOtherKey && former.peerId === peerId) continue;
    changes.push({
      nodeId,
      seq: next.seq,
      changed: isOtherKey ? 'signing-key' : 'peer-id',
      keyId: keyIdOf(signingPublicKey),
      formerKeyId: keyIdOf(former.signingPublicKey),
    });
  }
  return changes;
}

async function load(parts: {
  database: FederationDatabase;
  first: Uint8Array;
  rootKeys: readonly Uint8Array[];
  clock: Clock;
}): Promise<Loaded> {
  const rows = await parts.database.read.selectFrom('trust_part').selectAll().orderBy('name').execute();
  const head = rows.find((row) => row.name === HEAD);
  const list: TrustList =
    head === undefined
      ? TrustList.decode(parts.first)
      : {
          head: signedOf(head.signed),
          segments: rows
            .filter((row) => row.name.startsWith(SEGMENT))
            .map((row) => ({ name: row.name.slice(SEGMENT.length), segment: Buffer.from(row.signed) })),
        };
  let keys = [...parts.rootKeys];
  const learn = (named: readonly Uint8Array[]): void => void (keys = [...keys, ...newKeys(keys, named)]);
  learn(keysOfFirst(parts));
  // Each link is signed by a key that those before it named.
  for (const row of rows.filter(({ name }) => name.startsWith(LINK)))
    learn(TrustListHead.decode(openSigned(TRUST_HEAD_TYPE, signedOf(row.signed), keys)).indexSigningPublicKeys);
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
    throw new MeshError(
      'DATA_LOSS',
      'TRUST_LIST_ROOT_MISMATCH',
      'The trust list of the join was altered on this disk. Restore the identity folder from the backup.',
      { cause: asMeshError(thrown) },
    );
  }
}

/**
 * Head and changed segments in one transaction; a segment's row has the name with a mark before it, the head has none. A
 * head that names a new index key is kept as a link of the chain: by it a later head, signed by that key, loads.
 */
async function save(
  database: FederationDatabase,
  { before, next, chain }: { readonly before: TrustView | undefined; readonly next: TrustView; readonly chain: readonly Uint8Array[] },
): Promise<void> {
  const kept = new Map((before?.segments ?? []).map(({ name, segment }) => [name, segment]));
  const head = Buffer.from(SignedObject.encode(next.head).finish());
  await database.write.transaction().execute(async (transaction) => {
    const put = async (name: string, signed: Buffer): Promise<void> => {
      await transaction
        .insertInto('trust_part')
        .values({ name, signed })
        .onConflict((conflict) => conflict.column('name').doUpdateSet({ signed }))
        .execute();
    };
    await put(HEAD, head);
    // Seq first; a list of the same seq may be signed anew and name a new key.
    if (newKeys(chain, next.indexSigningKeys).length > 0)
      await put(`${LINK}${String(next.seq).padStart(16, '0')}-${String(next.issuedAtEpochMs).padStart(16, '0')}`, head);
    for (const { name, segment } of next.segments) {
      if (kept.get(name)?.equals(segment) !== true) await put(`${SEGMENT}${name}`, segment);
      kept.delete(name);
    }
    for (const name of kept.keys()) await transaction.deleteFrom('trust_part').where('name', '=', `${SEGMENT}${name}`).execute();
  });
}
