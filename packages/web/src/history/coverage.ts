import type { Coverage, CoverageNode } from '../api/types.ts';

/** Whether a hospital's part of the answer is whole, old or missing. */
export type Answered = 'answered' | 'stale' | 'missing' | 'excluded';

/** The page's three words for the states of the API. */
export function answeredOf(node: CoverageNode): Answered {
  if (/^(current|answered|self|local)$/i.test(node.state)) return 'answered';
  if (/^stale$/i.test(node.state)) return 'stale';
  return /^excluded$/i.test(node.state) ? 'excluded' : 'missing';
}

/** Hospitals whose answer is missing: as the node counts them, else as they are named. */
export function missingOf(coverage: Coverage): readonly CoverageNode[] {
  return coverage.nodes.filter((node) => answeredOf(node) === 'missing');
}
