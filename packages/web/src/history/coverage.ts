import type { Coverage, CoverageNode } from '../api/types.ts';

/** Whether a hospital's part of the answer is whole, old or missing. */
export type Answered = 'answered' | 'stale' | 'missing' | 'silent';

/** The page's three words for the states of the API. */
export function answeredOf(node: CoverageNode): Answered {
  if (node.state === 'current' || node.state === 'self') return 'answered';
  if (node.state === 'stale') return 'stale';
  return node.state === 'never-heard' ? 'silent' : 'missing';
}

/** Hospitals whose answer is missing: as the node counts them, else as they are named. */
export function missingOf(coverage: Coverage): readonly CoverageNode[] {
  return coverage.nodes.filter((node) => answeredOf(node) === 'missing' || answeredOf(node) === 'silent');
}
