import type { ReactNode } from 'react';
import { Button } from 'react-aria-components';
import type { Coverage, CoverageNode } from '../api/types.ts';
import { momentText } from '../format.ts';
import { useSettings } from '../settings.tsx';
import { answeredOf, missingOf, type Answered } from './coverage.ts';

const SHAPES: Readonly<Record<Answered, string>> = { answered: '●', stale: '◐', missing: '○', silent: '◌', unverified: '▲' };

/** Who answered, who did not and since when: one pip per hospital, and the verdict in a sentence. */
export function Completeness({
  coverage,
  found,
  busy,
  onAskAgain,
}: {
  readonly coverage: Coverage;
  readonly found: number;
  readonly busy: boolean;
  readonly onAskAgain: () => void;
}): ReactNode {
  const { words } = useSettings();
  const verdict = useVerdict(coverage, found);
  const state =
    !coverage.indexReachable || coverage.notAsked > 0
      ? 'warn'
      : coverage.nodes.some((node) => answeredOf(node) === 'stale')
        ? 'stale'
        : 'good';
  return (
    <section className={`completeness completeness-${state}`} aria-label={words.who}>
      <div className="completeness-line">
        <p role="status">{verdict}</p>
        <Button onPress={onAskAgain} isDisabled={busy}>
          {words.askAgain}
        </Button>
      </div>
      <ul className="pips">
        {coverage.nodes.map((node) => (
          <Pip key={node.nodeId} node={node} />
        ))}
      </ul>
    </section>
  );
}

function Pip({ node }: { readonly node: CoverageNode }): ReactNode {
  const { words, language } = useSettings();
  const answered = answeredOf(node);
  const says = {
    answered: words.answered,
    stale: words.stale(momentText(node.asOfEpochMs ?? 0, language)),
    missing: words.notAsked,
    silent: words.silent,
    unverified: words.unverified,
  }[answered];
  return (
    <li className={`pip pip-${answered}`}>
      <span className="shape" aria-hidden="true">
        {SHAPES[answered]}
      </span>
      <span className="pip-name">{node.name}</span>
      <span className="pip-state">
        {says}
        {(node.pending ?? 0) > 0 && ` · ${words.pending(node.pending ?? 0)}`}
      </span>
    </li>
  );
}

function useVerdict(coverage: Coverage, found: number): string {
  const { words, language } = useSettings();
  if (coverage.nodes.length === 1 && coverage.nodes[0]?.nodeId === '') return words.alone;
  if (!coverage.indexReachable) return words.indexAway;
  const missing = missingOf(coverage);
  if (coverage.notAsked > 0)
    return words.someNotAsked(found, coverage.notAsked, coverage.asked, missing.map((node) => node.name).join(words.comma));
  const stale = coverage.nodes.filter((node) => answeredOf(node) === 'stale');
  const time = momentText(coverage.answeredAtEpochMs, language);
  const whole = found === 0 ? words.noneFound(coverage.asked, time) : words.allAnswered(found, coverage.asked, time);
  return stale.length === 0
    ? whole
    : `${found === 0 ? '' : `${whole} `}${words.someStale(stale.map((node) => node.name).join(words.comma))}`;
}
