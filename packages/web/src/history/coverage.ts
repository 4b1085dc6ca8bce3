import type { Coverage, CoverageNode } from '../api/types.ts';

/** Whether a hospital's part of the answer is whole, old, missing, or not provably its own. */
export type Answered = 'answered' | 'stale' | 'missing' | 'silent' | 'unverified';

/** The page's three words for the states of the API. */
export function answeredOf(node: CoverageNode): Answered {
  if (node.state === 'current' || node.state === 'self') return 'answered';
  if (node.state === 'stale') return 'stale';
  if (node.state === 'unverified') return 'unverified';
  return node.state === 'never-heard' ? 'silent' : 'missing';
}

/** Hospitals whose answer is missing: as the node counts them, else as they are named. */
export function missingOf(coverage: Coverage): readonly CoverageNode[] {
  return coverage.nodes.filter((node) => ['missing', 'silent', 'unverified'].includes(answeredOf(node)));
}
