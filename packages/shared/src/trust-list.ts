import { MeshError } from './errors.ts';
import type { SignedObject } from './generated/meridian/v1/common.ts';
import {
  TrustEntry,
  TrustListDelta,
  TrustListHead,
  TrustSegment,
  type SegmentBytes,
  type TrustList,
} from './generated/meridian/v1/trust.ts';
import { sha256, type NodeId } from './identifiers.ts';
import { openSigned, signObject, type SigningKey } from './signed-object.ts';

/** Types under which the parts of a trust list are signed. */
export const TRUST_HEAD_TYPE = 'trust-list-head';
export const TRUST_DELTA_TYPE = 'trust-list-delta';

/** A newer head is due after this time. */
export const HEAD_NEXT_UPDATE_MS = 60_000;
/** Nothing is granted or served on a head after this time. */
export const HEAD_LIFETIME_MS = 24 * 3_600_000;

/** A trust list whose signatures and root were checked. Immutable: news make a new one. */
export interface TrustView {
  readonly seq: number;
  readonly issuedAtEpochMs: number;
  readonly expiresAtEpochMs: number;
  readonly entries: ReadonlyMap<NodeId, TrustEntry>;
  /** The entry whose libp2p key has this PeerId, whatever its status. */
  byPeerId(peerId: string): TrustEntry | undefined;
  /** The entry with a TLS key of this SHA-256 over its SubjectPublicKeyInfo, whatever its status. */
  bySpki(spkiSha256: Uint8Array): TrustEntry | undefined;
  /** Raw Ed25519 keys that sign for the index. */
  readonly indexSigningKeys: readonly Buffer[];
  /** Verbatim, to be kept and to be handed on to other nodes. */
  readonly head: SignedObject;
  readonly segments: readonly SegmentBytes[];
}

/** What came from the index or from another node: a head, with deltas or segments that lead to it. */
export interface TrustNews {
  readonly head?: SignedObject | undefined;
  readonly deltas?: readonly SignedObject[];
  readonly segments?: readonly SegmentBytes[];
}

/** A whole, freshly signed list over the entries. */
export function buildTrustList(list: {
  readonly entries: Iterable<TrustEntry>;
  readonly seq: number;
  readonly nowEpochMs: number;
  readonly key: SigningKey;
  readonly indexSigningKeys: readonly Uint8Array[];
}): TrustList {
  const segments = segmentsOf(list.entries);
  return {
    head: signHead({
      seq: list.seq,
      root: rootOf(segments),
      nowEpochMs: list.nowEpochMs,
      key: list.key,
      indexSigningKeys: list.indexSigningKeys,
    }),
    segments,
  };
}

/** A signed head: `nextUpdate` in 60 s, `expires` in 24 h. */
export function signHead(head: {
  readonly seq: number;
  readonly root: Uint8Array;
  readonly nowEpochMs: number;
  readonly key: SigningKey;
  readonly indexSigningKeys: readonly Uint8Array[];
}): SignedObject {
  const payload = TrustListHead.encode({
    seq: BigInt(head.seq),
    root: Buffer.from(head.root),
    issuedAtEpochMs: BigInt(head.nowEpochMs),
    nextUpdateEpochMs: BigInt(head.nowEpochMs + HEAD_NEXT_UPDATE_MS),
    expiresAtEpochMs: BigInt(head.nowEpochMs + HEAD_LIFETIME_MS),
    indexSigningPublicKeys: head.indexSigningKeys.map((key) => Buffer.from(key)),
  }).finish();
  return signObject({ type: TRUST_HEAD_TYPE, payload, key: head.key });
}

/** The signed step from one list to the next. */
export function signDelta(delta: {
  readonly fromSeq: number;
  readonly toSeq: number;
  readonly changed: readonly TrustEntry[];
  readonly removed: readonly string[];
  readonly key: SigningKey;
}): SignedObject {
  const payload = TrustListDelta.encode({
    fromSeq: BigInt(delta.fromSeq),
    toSeq: BigInt(delta.toSeq),
    changed: [...delta.changed],
    removedNodeIds: [...delta.removed],
  }).finish();
  return signObject({ type: TRUST_DELTA_TYPE, payload, key: delta.key });
}

/** The entries as segments in order of their names, each in order of node id. */
export function segmentsOf(entries: Iterable<TrustEntry>): SegmentBytes[] {
  const bySegment = new Map<string, TrustEntry[]>();
  for (const entry of entries) bySegment.set(entry.segment, [...(bySegment.get(entry.segment) ?? []), entry]);
  return [...bySegment.keys()].sort().map((name) => {
    const inOrder = (bySegment.get(name) ?? []).sort((a, b) => (a.nodeId < b.nodeId ? -1 : 1));
    return { name, segment: Buffer.from(TrustSegment.encode({ name, entries: inOrder }).finish()) };
  });
}

/** SHA-256 over the concatenated SHA-256 of every segment's bytes, in order of segment name. */
export function rootOf(segments: readonly SegmentBytes[]): Buffer {
  const inOrder = [...segments].sort((a, b) => (a.name < b.name ? -1 : 1));
  return sha256(Buffer.concat(inOrder.map(({ segment }) => sha256(segment))));
}

/**
 * A whole list after every check.
 * @param rootKeys raw Ed25519 keys that may sign for the index, as learnt at join.
 * @param options `allowExpired` for a list from one's own disk that only serves to ask for a newer one.
 * @throws MeshError UNAUTHENTICATED / SIGNATURE_INVALID, DATA_LOSS / TRUST_LIST_ROOT_MISMATCH,
 *   FAILED_PRECONDITION / TRUST_LIST_EXPIRED
 */
export function verifyTrustList(
  list: Pick<TrustList, 'head' | 'segments'>,
  rootKeys: readonly Uint8Array[],
  nowEpochMs: number,
  options: { readonly allowExpired?: boolean } = {},
): TrustView {
  const head = openHead(list.head, rootKeys);
  if (options.allowExpired !== true && Number(head.expiresAtEpochMs) <= nowEpochMs) {
    throw new MeshError(
      'FAILED_PRECONDITION',
      'TRUST_LIST_EXPIRED',
      'The trust list is older than 24 hours and no longer says who is trusted. Reach the index, or another node that has a fresh one.',
    );
  }
  if (!rootOf(list.segments).equals(head.root)) throw rootMismatch();
  const names = new Set(list.segments.map(({ name }) => name));
  if (names.size !== list.segments.length) throw rootMismatch();
  return viewOf(head, list.head as SignedObject, list.segments, decodeEntries(list.segments));
}

/**
 * The list that follows from signed deltas and a newer head; the head's root proves the result.
 * @throws MeshError FAILED_PRECONDITION / TRUST_LIST_ROLLBACK for an older list, FAILED_PRECONDITION /
 *   TRUST_LIST_DELTA_GAP where the deltas do not lead from here to the head (ask for all segments then), and those of
 *   {@link verifyTrustList}.
 */
export function applyDelta(view: TrustView, news: TrustNews, rootKeys: readonly Uint8Array[], nowEpochMs: number): TrustView {
  const keys = [...rootKeys, ...view.indexSigningKeys];
  const head = openHead(news.head, keys);
  refuseRollback(view, head);
  const entries = new Map(view.entries);
  let seq = view.seq;
  for (const signed of news.deltas ?? []) {
    const delta = TrustListDelta.decode(openSigned(TRUST_DELTA_TYPE, signed, keys));
    if (Number(delta.toSeq) <= seq) continue;
    if (Number(delta.fromSeq) !== seq) break;
    for (const nodeId of delta.removedNodeIds) entries.delete(nodeId as NodeId);
    for (const entry of delta.changed) entries.set(entry.nodeId as NodeId, entry);
    seq = Number(delta.toSeq);
  }
  if (seq !== Number(head.seq))
    throw new MeshError(
      'FAILED_PRECONDITION',
      'TRUST_LIST_DELTA_GAP',
      'The deltas do not lead to the newest trust list. Ask for the whole list.',
    );
  return verifyTrustList({ head: news.head, segments: segmentsOf(entries.values()) }, keys, nowEpochMs);
}

/**
 * Takes what another party offers: all segments, or deltas, or only a newer signature over the same list. Returns the
 * same view when nothing is newer. Errors as {@link applyDelta} and {@link verifyTrustList}.
 */
export function applyTrustNews(
  view: TrustView | undefined,
  news: TrustNews,
  rootKeys: readonly Uint8Array[],
  nowEpochMs: number,
): TrustView {
  if (view === undefined) return verifyTrustList({ head: news.head, segments: [...(news.segments ?? [])] }, rootKeys, nowEpochMs);
  const keys = [...rootKeys, ...view.indexSigningKeys];
  const head = openHead(news.head, keys);
  refuseRollback(view, head);
  if (Number(head.seq) === view.seq) {
    if (Number(head.issuedAtEpochMs) <= view.issuedAtEpochMs) return view;
    return verifyTrustList({ head: news.head, segments: [...view.segments] }, keys, nowEpochMs);
  }
  if ((news.segments?.length ?? 0) > 0) return verifyTrustList({ head: news.head, segments: [...(news.segments ?? [])] }, keys, nowEpochMs);
  return applyDelta(view, news, rootKeys, nowEpochMs);
}

/** Every signing key under which an entry's statements are still accepted at a time: the present one and former ones. */
export function signingKeysOf(entry: TrustEntry, atEpochMs: number): Buffer[] {
  return [
    entry.signingPublicKey,
    ...entry.formerSigningKeys.filter((former) => Number(former.untilEpochMs) >= atEpochMs).map((former) => former.publicKey),
  ];
}

function openHead(signed: SignedObject | undefined, keys: readonly Uint8Array[]): TrustListHead {
  return TrustListHead.decode(openSigned(TRUST_HEAD_TYPE, signed, keys));
}

function refuseRollback(view: TrustView, head: TrustListHead): void {
  if (Number(head.seq) >= view.seq) return;
  throw new MeshError(
    'FAILED_PRECONDITION',
    'TRUST_LIST_ROLLBACK',
    'An older trust list was offered and refused: only a newer one replaces what is held.',
    {
      details: { held: String(view.seq), offered: String(head.seq) },
    },
  );
}

function decodeEntries(segments: readonly SegmentBytes[]): Map<NodeId, TrustEntry> {
  const entries = new Map<NodeId, TrustEntry>();
  for (const { name, segment } of segments) {
    const decoded = TrustSegment.decode(segment);
    if (decoded.name !== name) throw rootMismatch();
    for (const entry of decoded.entries) entries.set(entry.nodeId as NodeId, entry);
  }
  return entries;
}

function viewOf(
  head: TrustListHead,
  signedHead: SignedObject,
  segments: readonly SegmentBytes[],
  entries: ReadonlyMap<NodeId, TrustEntry>,
): TrustView {
  const peers = new Map<string, TrustEntry>();
  const spkis = new Map<string, TrustEntry>();
  for (const entry of entries.values()) {
    peers.set(entry.peerId, entry);
    for (const digest of entry.spkiSha256) spkis.set(digest.toString('hex'), entry);
  }
  return {
    seq: Number(head.seq),
    issuedAtEpochMs: Number(head.issuedAtEpochMs),
    expiresAtEpochMs: Number(head.expiresAtEpochMs),
    entries,
    byPeerId: (peerId) => peers.get(peerId),
    bySpki: (digest) => spkis.get(Buffer.from(digest).toString('hex')),
    indexSigningKeys: head.indexSigningPublicKeys,
    head: signedHead,
    segments,
  };
}

function rootMismatch(): MeshError {
  return new MeshError(
    'DATA_LOSS',
    'TRUST_LIST_ROOT_MISMATCH',
    'The entries of this trust list are not those that its signed head covers. Ask again.',
  );
}
