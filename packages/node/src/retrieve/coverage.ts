import { CoverageState, type NodeCoverage } from '@meridian/shared/generated/meridian/v1/query';
import { NodeStatus } from '@meridian/shared/generated/meridian/v1/trust';
import type { RetrieveFederation } from './ports.ts';

/** How current one hospital's part of an answer is. */
export type NodeState = 'self' | 'current' | 'stale' | 'unverified' | 'never-heard' | 'not-asked';

/** Who was asked: "nothing found" differs from "could not ask". */
export interface Coverage {
  /** Hospitals that belong into the answer, this one included. */
  readonly asked: number;
  readonly answered: number;
  readonly notAsked: number;
  readonly nodes: readonly {
    readonly nodeId: string;
    readonly name: string;
    readonly state: NodeState;
    readonly asOfEpochMs: number;
    readonly pending: number;
  }[];
  readonly indexReachable: boolean;
  readonly answeredAtEpochMs: number;
}

type CoverageNode = Coverage['nodes'][number];

const STATES: Readonly<Record<number, NodeState>> = {
  [CoverageState.COVERAGE_STATE_CURRENT]: 'current',
  [CoverageState.COVERAGE_STATE_STALE]: 'stale',
  [CoverageState.COVERAGE_STATE_NEVER_HEARD]: 'never-heard',
};

/**
 * Coverage of an answer of the index; members that left the trust list are no part of it.
 * @param told.unverified members of whose entries some were left out, for their signature does not hold.
 */
export function coverageOf(
  federation: RetrieveFederation,
  told: { readonly coverage: readonly NodeCoverage[]; readonly unverified: ReadonlySet<string> },
  nowEpochMs: number,
): Coverage {
  const others = told.coverage
    .filter((node) => node.nodeId !== federation.nodeId && node.state !== CoverageState.COVERAGE_STATE_EXCLUDED)
    .map((node): CoverageNode => ({
      nodeId: node.nodeId,
      name: node.name,
      state: told.unverified.has(node.nodeId) ? 'unverified' : (STATES[node.state] ?? 'not-asked'),
      asOfEpochMs: Number(node.asOfEpochMs),
      pending: node.pending,
    }));
  return summed([self(federation.nodeId, federation.hospitalName, nowEpochMs), ...others], true, nowEpochMs);
}

/** Coverage while the index cannot be reached: only this hospital answered; the others are those of the last trust list. */
export function coverageWithoutIndex(federation: RetrieveFederation, nowEpochMs: number): Coverage {
  const others = [...(federation.trust()?.entries.values() ?? [])]
    .filter((entry) => entry.nodeId !== federation.nodeId && entry.status === NodeStatus.NODE_STATUS_ACTIVE)
    .map((entry): CoverageNode => ({ nodeId: entry.nodeId, name: entry.name, state: 'not-asked', asOfEpochMs: 0, pending: 0 }));
  return summed([self(federation.nodeId, federation.hospitalName, nowEpochMs), ...others], false, nowEpochMs);
}

/** Coverage of a node that has not joined. */
export function coverageAlone(hospitalName: string, nowEpochMs: number): Coverage {
  return summed([self('', hospitalName, nowEpochMs)], false, nowEpochMs);
}

function self(nodeId: string, name: string, nowEpochMs: number): CoverageNode {
  return { nodeId, name, state: 'self', asOfEpochMs: nowEpochMs, pending: 0 };
}

function summed(nodes: readonly CoverageNode[], indexReachable: boolean, answeredAtEpochMs: number): Coverage {
  const answered = nodes.filter(({ state }) => state === 'self' || state === 'current' || state === 'stale').length;
  return { asked: nodes.length, answered, notAsked: nodes.length - answered, nodes, indexReachable, answeredAtEpochMs };
}
