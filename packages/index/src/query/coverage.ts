import { CoverageState, type NodeCoverage } from '@meridian/shared/generated/meridian/v1/query';
import { NodeStatus, type TrustEntry } from '@meridian/shared/generated/meridian/v1/trust';
import type { FeedState } from '../manifests/feeds.ts';

/** A node that was heard within this time, with nothing pending, is current. Nodes say how they are every 30 s. */
export const FRESH_MS = 90_000;

/** How current the index's picture of every member is: "nothing found" differs from "could not ask". */
export function coverageOf(entries: Iterable<TrustEntry>, feeds: ReadonlyMap<string, FeedState>, nowEpochMs: number): NodeCoverage[] {
  return [...entries].map((entry) => {
    const feed = feeds.get(entry.nodeId);
    return {
      nodeId: entry.nodeId,
      name: entry.name,
      state: stateOf(entry, feed, nowEpochMs),
      asOfEpochMs: BigInt(feed?.asOfEpochMs ?? 0),
      pending: feed?.pending ?? 0,
    };
  });
}

function stateOf(entry: TrustEntry, feed: FeedState | undefined, nowEpochMs: number): CoverageState {
  if (entry.status !== NodeStatus.NODE_STATUS_ACTIVE) return CoverageState.COVERAGE_STATE_EXCLUDED;
  if (feed === undefined || (feed.asOfEpochMs === 0 && feed.lastSeq === 0)) return CoverageState.COVERAGE_STATE_NEVER_HEARD;
  const fresh = feed.asOfEpochMs > 0 && nowEpochMs - feed.heardAtEpochMs <= FRESH_MS && nowEpochMs - feed.asOfEpochMs <= FRESH_MS;
  return fresh && feed.pending === 0 ? CoverageState.COVERAGE_STATE_CURRENT : CoverageState.COVERAGE_STATE_STALE;
}
