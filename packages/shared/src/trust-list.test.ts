import { expect, test } from '@jest/globals';
import { asMeshError } from './errors.ts';
import { NodeStatus, TrustEntry } from './generated/meridian/v1/trust.ts';
import { nodeIdFrom, sha256, type NodeId } from './identifiers.ts';
import { createSigningKey } from './signed-object.ts';
import {
  applyDelta,
  applyTrustNews,
  buildTrustList,
  rootOf,
  segmentsOf,
  signDelta,
  signHead,
  signingKeysOf,
  verifyTrustList,
} from './trust-list.ts';

const NOW = 1_800_000_000_000;
const key = createSigningKey();
const entry = (place: number, changes: Partial<TrustEntry> = {}): TrustEntry =>
  TrustEntry.fromPartial({
    nodeId: nodeIdFrom(Buffer.alloc(10, place)),
    name: `Hospital ${place}`,
    spkiSha256: [sha256(`spki ${place}`)],
    peerId: `peer-${place}`,
    signingPublicKey: Buffer.alloc(32, place),
    status: NodeStatus.NODE_STATUS_ACTIVE,
    segment: place % 2 === 0 ? 'all' : 'Zhejiang',
    ...changes,
  });
const listOf = (entries: TrustEntry[], seq: number, nowEpochMs = NOW) =>
  buildTrustList({ entries, seq, nowEpochMs, key, indexSigningKeys: [key.publicKey] });
const headOf = (entries: TrustEntry[], seq: number, nowEpochMs: number) =>
  signHead({ seq, root: rootOf(segmentsOf(entries)), nowEpochMs, key, indexSigningKeys: [key.publicKey] });
const reasonOf = (action: () => unknown): string => {
  try {
    action();
  } catch (thrown) {
    return asMeshError(thrown).reason;
  }
  return 'nothing thrown';
};

test('a list is verified, searched, and refused when altered, foreign or expired', () => {
  const list = listOf([entry(1), entry(2), entry(3)], 5);
  const view = verifyTrustList(list, [key.publicKey], NOW);
  expect(view.seq).toBe(5);
  expect([...view.entries.keys()]).toHaveLength(3);
  expect(view.byPeerId('peer-2')?.name).toBe('Hospital 2');
  expect(view.bySpki(sha256('spki 3'))?.nodeId).toBe(entry(3).nodeId);
  expect(view.bySpki(sha256('other'))).toBeUndefined();
  expect(reasonOf(() => verifyTrustList({ ...list, segments: list.segments.slice(1) }, [key.publicKey], NOW))).toBe(
    'TRUST_LIST_ROOT_MISMATCH',
  );
  expect(reasonOf(() => verifyTrustList(list, [createSigningKey().publicKey], NOW))).toBe('SIGNATURE_INVALID');
  expect(reasonOf(() => verifyTrustList(list, [key.publicKey], NOW + 24 * 3_600_000))).toBe('TRUST_LIST_EXPIRED');
  expect(verifyTrustList(list, [key.publicKey], NOW + 25 * 3_600_000, { allowExpired: true }).seq).toBe(5);
});

test('deltas lead to a newer list; gaps, forgeries and rollbacks are refused', () => {
  const before = [entry(1), entry(2)];
  const after = [entry(1, { status: NodeStatus.NODE_STATUS_REVOKED }), entry(2), entry(3)];
  const view = verifyTrustList(listOf(before, 5), [key.publicKey], NOW);
  const delta = signDelta({ fromSeq: 5, toSeq: 6, changed: [after[0] as TrustEntry, after[2] as TrustEntry], removed: [], key });
  const head = headOf(after, 6, NOW + 1);
  const newer = applyDelta(view, { head, deltas: [delta] }, [key.publicKey], NOW + 1);
  expect(newer.entries.get(entry(1).nodeId as NodeId)?.status).toBe(NodeStatus.NODE_STATUS_REVOKED);
  expect(newer.segments).toEqual(listOf(after, 6).segments);
  expect(reasonOf(() => applyDelta(newer, { head: headOf(before, 5, NOW + 9), deltas: [] }, [key.publicKey], NOW + 9))).toBe(
    'TRUST_LIST_ROLLBACK',
  );
  expect(reasonOf(() => applyDelta(view, { head: headOf(after, 7, NOW), deltas: [delta] }, [key.publicKey], NOW))).toBe(
    'TRUST_LIST_DELTA_GAP',
  );
  const lying = signDelta({ fromSeq: 5, toSeq: 6, changed: [], removed: [entry(2).nodeId], key });
  expect(reasonOf(() => applyDelta(view, { head, deltas: [lying] }, [key.publicKey], NOW))).toBe('TRUST_LIST_ROOT_MISMATCH');
  const foreign = signDelta({ fromSeq: 5, toSeq: 6, changed: [], removed: [], key: createSigningKey() });
  expect(reasonOf(() => applyDelta(view, { head, deltas: [foreign] }, [key.publicKey], NOW))).toBe('SIGNATURE_INVALID');
});

test('a newer signature over the same list prolongs it, an older one changes nothing', () => {
  const entries = [entry(1)];
  const view = verifyTrustList(listOf(entries, 5), [key.publicKey], NOW);
  const later = applyTrustNews(view, { head: headOf(entries, 5, NOW + 30_000) }, [key.publicKey], NOW + 30_000);
  expect(later.expiresAtEpochMs).toBe(view.expiresAtEpochMs + 30_000);
  expect(applyTrustNews(later, { head: view.head }, [key.publicKey], NOW + 30_000)).toBe(later);
  const whole = listOf([entry(1), entry(4)], 9, NOW + 40_000);
  expect(applyTrustNews(later, whole, [key.publicKey], NOW + 40_000).entries.size).toBe(2);
  expect(reasonOf(() => applyTrustNews(later, listOf([entry(1), entry(4)], 5, NOW + 40_000), [key.publicKey], NOW + 40_000))).toBe(
    'TRUST_LIST_ROOT_MISMATCH',
  );
});

test('a former signing key counts until its time', () => {
  const replaced = entry(1, { formerSigningKeys: [{ publicKey: Buffer.alloc(32, 9), untilEpochMs: BigInt(NOW) }] });
  expect(signingKeysOf(replaced, NOW)).toHaveLength(2);
  expect(signingKeysOf(replaced, NOW + 1)).toEqual([Buffer.alloc(32, 1)]);
});
