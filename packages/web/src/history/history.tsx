import { useQuery } from '@tanstack/react-query';
import { useState, type ReactNode } from 'react';
import { Button } from 'react-aria-components';
import { askHistory } from '../api/client.ts';
import type { HistoryStudy, HistoryView, Purpose, TransferView } from '../api/types.ts';
import { Problem } from '../problem.tsx';
import { useWords } from '../settings.tsx';
import type { Words } from '../words/en.ts';
import { Completeness } from './completeness.tsx';
import { answeredOf, missingOf, type Answered } from './coverage.ts';
import { MismatchDialog } from './mismatch-dialog.tsx';
import { StudyRow } from './study-row.tsx';
import type { Transfers } from './use-transfers.ts';

interface HistoryProps {
  readonly personId: string;
  readonly purpose: Purpose;
  /** How many hospitals will be asked, as far as the node knows; 0 when it does not. */
  readonly hospitals: number;
  readonly transfers: Transfers;
  readonly onOpen: (study: HistoryStudy) => void;
  readonly onChange: () => void;
}

/** A person's imaging in all hospitals: who is it, who answered, one list, and what is not shown. */
export function History({ personId, purpose, hospitals, transfers, onOpen, onChange }: HistoryProps): ReactNode {
  const words = useWords();
  const [doubted, setDoubted] = useState<HistoryStudy>();
  const history = useQuery({
    queryKey: ['history', personId, purpose],
    queryFn: ({ signal }) => askHistory(personId, purpose, signal),
    gcTime: 0,
  });
  const open = (study: HistoryStudy): void => ((study.mismatch?.length ?? 0) > 0 ? setDoubted(study) : onOpen(study));
  return (
    <div className="history">
      <div className="identity">
        <h1 className="mono">{history.data?.person ?? '…'}</h1>
        <Button onPress={onChange}>{words.change}</Button>
      </div>
      {history.isPending && <Waiting text={words.asking(hospitals)} />}
      {history.error !== null && <Problem error={history.error} onRetry={() => void history.refetch()} />}
      {history.data !== undefined && (
        <>
          <Completeness
            coverage={history.data.coverage}
            found={history.data.studies.length}
            busy={history.isFetching}
            onAskAgain={() => void history.refetch()}
          />
          {history.data.studies.length > 0 && (
            <Years studies={history.data.studies} personId={personId} purpose={purpose} transfers={transfers} onOpen={open} />
          )}
          <NotShown view={history.data} />
        </>
      )}
      {doubted !== undefined && <MismatchDialog study={doubted} onCancel={() => setDoubted(undefined)} onConfirm={() => onOpen(doubted)} />}
    </div>
  );
}

function Years({
  studies,
  personId,
  purpose,
  transfers,
  onOpen,
}: { readonly studies: readonly HistoryStudy[] } & Pick<HistoryProps, 'personId' | 'purpose' | 'transfers' | 'onOpen'>): ReactNode {
  const words = useWords();
  const years = Map.groupBy(studies, (study) => study.studyDate?.slice(0, 4) || words.noDate);
  return (
    <section aria-label={words.studies}>
      {[...years].map(([year, rows]) => (
        <section key={year} className="year" aria-labelledby={`year-${year}`}>
          <h2 id={`year-${year}`}>{year}</h2>
          <ol className="studies">
            {rows.map((study) => (
              <StudyRow
                key={`${study.studyInstanceUid} ${study.holders.map(({ nodeId }) => nodeId).join(' ')}`}
                study={study}
                transfer={ofRow(study, transfers.of(study.studyInstanceUid))}
                onOpen={() => onOpen(study)}
                onFetch={(holderNode) =>
                  void transfers.start({
                    personId,
                    purpose,
                    studyInstanceUid: study.studyInstanceUid,
                    ...(holderNode === undefined ? {} : { holderNode }),
                  })
                }
                onCancel={(view) => void transfers.cancel(view)}
              />
            ))}
          </ol>
        </section>
      ))}
    </section>
  );
}

/** Where hospitals differ under one UID, a copy belongs to the row of its holder alone. */
function ofRow(study: HistoryStudy, transfer: TransferView | undefined): TransferView | undefined {
  const isOther =
    study.differs === true &&
    study.held === 'no' &&
    transfer?.holderNode !== undefined &&
    !study.holders.some(({ nodeId }) => nodeId === transfer.holderNode);
  return isOther ? undefined : transfer;
}

/** What this list cannot show, hospital by hospital. */
function NotShown({ view }: { readonly view: HistoryView }): ReactNode {
  const words = useWords();
  const missing = missingOf(view.coverage);
  if (missing.length === 0) return null;
  return (
    <section className="not-shown" aria-labelledby="not-shown">
      <h2 id="not-shown">{words.notShown}</h2>
      <ul>
        {missing.map((node) => (
          <li key={node.nodeId}>{words.notShownNode(node.name, notShownWord(answeredOf(node), words))}</li>
        ))}
      </ul>
    </section>
  );
}

function notShownWord(answered: Answered, words: Words): string {
  if (answered === 'unverified') return words.unverified;
  return answered === 'silent' ? words.silent : words.notAsked;
}

function Waiting({ text }: { readonly text: string }): ReactNode {
  return (
    <div role="status" className="waiting">
      <p>{text}</p>
      <div className="skeleton" aria-hidden="true">
        <span />
        <span />
        <span />
      </div>
    </div>
  );
}
