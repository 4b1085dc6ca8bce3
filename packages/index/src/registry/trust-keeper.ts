import { MeshError } from '@meridian/shared/errors';
import { SignedObject } from '@meridian/shared/generated/meridian/v1/common';
import { NodeStatus, TrustEntry } from '@meridian/shared/generated/meridian/v1/trust';
import type { NodeId } from '@meridian/shared/identifiers';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import type { SigningKey } from '@meridian/shared/signed-object';
import { buildTrustList, rootOf, signDelta, signHead, verifyTrustList, type TrustNews, type TrustView } from '@meridian/shared/trust-list';
import type { IndexConnection, IndexDatabase, IndexTransaction } from '../tables.ts';
import type { RegistryTables } from './tables.ts';

/** A head is signed anew in half the time after which a newer one is due. */
const RESIGN_MS = 30_000;
const DELTAS_KEPT = 1000;
const MAX_DELTAS_SENT = 200;

/** The federation's signed list: the one place that changes who is trusted. */
export interface TrustKeeper {
  /** The list as nodes see it, freshly signed. */
  view(): TrustView;
  /** Changes rows and the list in one transaction, signs the delta and the new head, then tells the listeners. */
  change<Result>(
    work: (transaction: IndexTransaction) => Promise<{ readonly changed: readonly NodeId[]; readonly result: Result }>,
  ): Promise<Result>;
  /** What leads from a seq to the newest list: deltas where they reach back, all segments otherwise. */
  newsSince(haveSeq: number): Promise<TrustNews & { readonly head: SignedObject; readonly deltas: SignedObject[] }>;
  onNews(listener: () => void): () => void;
  close(): void;
}

/** Opens the list over the registry's rows and keeps its head fresh. */
export async function openTrustKeeper(parts: {
  readonly database: IndexDatabase;
  readonly key: SigningKey;
  readonly clock: Clock;
  readonly log: Logger;
}): Promise<TrustKeeper> {
  const { database, key, clock, log } = parts;
  const indexSigningKeys = [key.publicKey];
  const listeners = new Set<() => void>();
  const seqOf = async (): Promise<number> =>
    (
      await database.read
        .selectFrom('trust_delta')
        .select((builder) => builder.fn.max('to_seq').as('seq'))
        .executeTakeFirst()
    )?.seq ?? 1;
  const sign = (entries: Iterable<TrustEntry>, seq: number): TrustView =>
    verifyTrustList(buildTrustList({ entries, seq, nowEpochMs: clock.now(), key, indexSigningKeys }), [key.publicKey], clock.now());

  let view = sign((await entriesOf(database.read)).values(), await seqOf());
  let turn: Promise<unknown> = Promise.resolve();
  let closed = false;
  const tell = (): void => {
    for (const listener of listeners) listener();
  };
  const resign = (): void => {
    if (closed) return;
    const head = signHead({ seq: view.seq, root: rootOf(view.segments), nowEpochMs: clock.now(), key, indexSigningKeys });
    view = verifyTrustList({ head, segments: [...view.segments] }, [key.publicKey], clock.now());
    tell();
    timer = clock.after(RESIGN_MS, resign);
  };
  let timer = clock.after(RESIGN_MS, resign);

  const changeNow = async <Result>(
    work: (transaction: IndexTransaction) => Promise<{ readonly changed: readonly NodeId[]; readonly result: Result }>,
  ): Promise<Result> => {
    const fromSeq = view.seq;
    const toSeq = fromSeq + 1;
    const entries = new Map<string, TrustEntry>(view.entries);
    const result = await database.write.transaction().execute(async (transaction) => {
      const outcome = await work(transaction);
      const changed = await entriesOf(transaction, outcome.changed);
      for (const [nodeId, entry] of changed) entries.set(nodeId, entry);
      const delta = signDelta({ fromSeq, toSeq, changed: [...changed.values()], removed: [], key });
      await transaction
        .insertInto('trust_delta')
        .values({ to_seq: toSeq, from_seq: fromSeq, signed: Buffer.from(SignedObject.encode(delta).finish()) })
        .execute();
      await transaction
        .deleteFrom('trust_delta')
        .where('to_seq', '<=', toSeq - DELTAS_KEPT)
        .execute();
      return outcome.result;
    });
    view = sign(entries.values(), toSeq);
    log.info({ event: 'trust-list-changed', seq: toSeq }, 'the trust list changed');
    tell();
    return result;
  };

  return {
    view: () => view,
    change: (work) => {
      const mine = turn.then(() => changeNow(work));
      turn = mine.catch(() => undefined);
      return mine;
    },
    newsSince: async (haveSeq) => {
      const { head, segments, seq } = view;
      if (haveSeq === seq) return { head, deltas: [], segments: [] };
      const rows =
        haveSeq < 1 || haveSeq > seq
          ? []
          : await database.read
              .selectFrom('trust_delta')
              .selectAll()
              .where('to_seq', '>', haveSeq)
              .where('to_seq', '<=', seq)
              .orderBy('to_seq')
              .limit(MAX_DELTAS_SENT + 1)
              .execute();
      const reachesBack = rows[0]?.from_seq === haveSeq && rows.length === seq - haveSeq;
      return reachesBack
        ? { head, deltas: rows.map((row) => SignedObject.decode(row.signed)), segments: [] }
        : { head, deltas: [], segments };
    },
    onNews: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close: () => {
      closed = true;
      timer.cancel();
    },
  };
}

/** Entries of the nodes that have joined, as their rows make them. */
async function entriesOf(connection: IndexConnection, nodeIds?: readonly NodeId[]): Promise<Map<string, TrustEntry>> {
  const only = nodeIds === undefined ? undefined : [...nodeIds];
  const hospitals = await connection
    .selectFrom('hospital')
    .selectAll()
    .where('status', '!=', 'invited')
    .$if(only !== undefined, (query) => query.where('node_id', 'in', only ?? []))
    .execute();
  const certificates = await connection
    .selectFrom('node_certificate')
    .select(['node_id', 'spki_sha256'])
    .$if(only !== undefined, (query) => query.where('node_id', 'in', only ?? []))
    .orderBy('serial')
    .execute();
  const formerKeys = await connection
    .selectFrom('former_signing_key')
    .selectAll()
    .$if(only !== undefined, (query) => query.where('node_id', 'in', only ?? []))
    .orderBy('until')
    .execute();
  return new Map(
    hospitals.map((hospital) => [
      hospital.node_id,
      entryOf(
        hospital,
        certificates.filter(({ node_id }) => node_id === hospital.node_id).map(({ spki_sha256 }) => spki_sha256),
        formerKeys.filter(({ node_id }) => node_id === hospital.node_id),
      ),
    ]),
  );
}

function entryOf(
  hospital: RegistryTables['hospital'],
  spkis: readonly Buffer[],
  formerKeys: readonly RegistryTables['former_signing_key'][],
): TrustEntry {
  return TrustEntry.fromPartial({
    nodeId: hospital.node_id,
    name: hospital.name,
    spkiSha256: [...spkis],
    peerId: hospital.peer_id ?? '',
    signingPublicKey: hospital.signing_public_key ?? Buffer.alloc(0),
    addresses: JSON.parse(hospital.addresses) as string[],
    status: statusOf(hospital.status),
    formerSigningKeys: formerKeys.map((former) => ({ publicKey: former.public_key, untilEpochMs: BigInt(former.until) })),
    segment: hospital.segment,
  });
}

function statusOf(status: RegistryTables['hospital']['status']): TrustEntry['status'] {
  switch (status) {
    case 'active':
      return NodeStatus.NODE_STATUS_ACTIVE;
    case 'suspended':
      return NodeStatus.NODE_STATUS_SUSPENDED;
    case 'revoked':
      return NodeStatus.NODE_STATUS_REVOKED;
    case 'invited':
      throw new MeshError('INTERNAL', 'UNEXPECTED', 'A node that has not joined stands in the trust list.');
  }
}
