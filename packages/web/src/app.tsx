import { useQuery } from '@tanstack/react-query';
import { lazy, Suspense, useEffect, useState, type ReactNode } from 'react';
import { getNode } from './api/client.ts';
import type { HistoryStudy, Purpose } from './api/types.ts';
import { ConsentPanel } from './consent/consent-panel.tsx';
import { Find } from './find/find.tsx';
import { History } from './history/history.tsx';
import { useTransfers } from './history/use-transfers.ts';
import { useWords } from './settings.tsx';
import { Shell } from './shell.tsx';

const Viewer = lazy(() => import('./viewer/viewer.tsx').then((module) => ({ default: module.Viewer })));

/** The page of one hospital: find a person, see the imaging of all hospitals, read what is held here. */
export function App(): ReactNode {
  const words = useWords();
  const [purpose, setPurpose] = useState<Purpose>('TREAT');
  // Only ever in memory: neither the address, nor the history, nor the storage of the browser holds it.
  const [personId, setPersonId] = useState<string>();
  const [opened, setOpened] = useState<HistoryStudy>();
  const node = useQuery({ queryKey: ['node'], queryFn: ({ signal }) => getNode(signal), refetchInterval: 10_000 });
  const transfers = useTransfers();
  useBackButton(opened !== undefined, () => setOpened(undefined));

  if (opened !== undefined) {
    return (
      <Suspense fallback={<p className="viewer-wait">{words.loadingImages}</p>}>
        <Viewer study={opened} onClose={() => window.history.back()} transfer={transfers.of(opened.studyInstanceUid)} />
      </Suspense>
    );
  }
  return (
    <Shell node={node.data} nodeError={node.error} purpose={purpose} onPurpose={setPurpose}>
      {personId === undefined ? (
        <Find onFound={setPersonId} />
      ) : (
        <div className="columns">
          <History
            personId={personId}
            purpose={purpose}
            hospitals={node.data?.hospitals.length ?? 0}
            transfers={transfers}
            onOpen={setOpened}
            onChange={() => setPersonId(undefined)}
          />
          <ConsentPanel
            personId={personId}
            hospitalName={node.data?.hospitalName ?? words.thisHospital}
            purpose={purpose}
            joined={node.data?.joined ?? true}
          />
        </div>
      )}
    </Shell>
  );
}

/** The browser's Back closes what is open; the address never changes. */
function useBackButton(isOpen: boolean, onBack: () => void): void {
  useEffect(() => {
    if (!isOpen) return;
    if ((window.history.state as { open?: boolean } | null)?.open !== true) window.history.pushState({ open: true }, '');
    window.addEventListener('popstate', onBack);
    return () => window.removeEventListener('popstate', onBack);
    // oxlint-disable-next-line react-hooks/exhaustive-deps -- onBack only sets state
  }, [isOpen]);
}
