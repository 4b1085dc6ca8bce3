import type { ReactNode } from 'react';
import { Button } from 'react-aria-components';
import { ApiProblem } from './api/client.ts';
import { useWords } from './settings.tsx';
import type { Words } from './words/en.ts';

/** The sentence for an error in the chosen language; the node's own where it is one we have no words for. */
export function problemText(error: { reason?: string; message: string }, words: Words): string {
  return (error.reason === undefined ? undefined : words.problems[error.reason]) ?? error.message;
}

/** What went wrong, never mistaken for "nothing found". */
export function Problem({ error, onRetry }: { readonly error: Error; readonly onRetry?: () => void }): ReactNode {
  const words = useWords();
  const reason = error instanceof ApiProblem ? error.reason : 'UNEXPECTED';
  return (
    <div className="notice notice-bad" role="alert">
      <span className="shape" aria-hidden="true">
        ▲
      </span>
      <div>
        <p>{problemText({ reason, message: error.message }, words)}</p>
        <p className="muted small">{words.errorCode(reason)}</p>
        {onRetry !== undefined && <Button onPress={onRetry}>{words.tryAgain}</Button>}
      </div>
    </div>
  );
}
