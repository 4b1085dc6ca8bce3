import { useQuery } from '@tanstack/react-query';
import { useEffect, useState, type ReactNode } from 'react';
import { Button } from 'react-aria-components';
import type { HistoryStudy, TransferView } from '../api/types.ts';
import { dateOfDa } from '../format.ts';
import { Problem } from '../problem.tsx';
import { useWords } from '../settings.tsx';
import { loadStudy, type ViewerSeries } from './dicomweb.ts';
import { Stack } from './stack.tsx';

/** Images of a study that is held here, as previews. Dark whatever the theme: no white flash in a reading room. */
export function Viewer({
  study,
  transfer,
  onClose,
}: {
  readonly study: HistoryStudy;
  readonly transfer: TransferView | undefined;
  readonly onClose: () => void;
}): ReactNode {
  const words = useWords();
  const [chosen, setChosen] = useState<string>();
  const running = transfer?.state === 'running';
  const loaded = useQuery({
    queryKey: ['dicomweb', study.studyInstanceUid],
    queryFn: ({ signal }) => loadStudy(study.studyInstanceUid, signal),
    gcTime: 0,
    // While it is being copied, look for what has come.
    refetchInterval: running ? 3000 : false,
  });
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (event.key === 'Escape') onClose();
    };
    window.addEventListener('keydown', onKey);
    return () => window.removeEventListener('keydown', onKey);
  }, [onClose]);

  const series = loaded.data?.series.filter((one) => one.pictures.length > 0) ?? [];
  const current = series.find((one) => one.uid === chosen) ?? series[0];
  const copied = transfer?.progress;
  return (
    <div className="viewer" data-theme="dark">
      <header className="provenance" aria-label={words.provenance}>
        <Button onPress={onClose} autoFocus>
          ← {words.back}
        </Button>
        <div className="provenance-facts">
          <strong>{loaded.data?.patientName || '…'}</strong>
          <span className="mono">{loaded.data?.patientId}</span>
          <span>{[dateOfDa(loaded.data?.birthDate), words.sexes[loaded.data?.sex ?? '']].filter(Boolean).join(' · ')}</span>
          <span>{[dateOfDa(study.studyDate), study.modalities.join('/'), study.description].filter(Boolean).join(' · ')}</span>
          <Origin study={study} />
        </div>
        <strong className="preview-flag">{words.preview}</strong>
      </header>
      {running && copied !== undefined && (
        <p className="viewer-copying" role="status">
          {words.copying(copied.instancesVerified, copied.instancesTotal)}
        </p>
      )}
      <main className="viewer-main">
        {loaded.isPending && <p role="status">{words.loadingImages}</p>}
        {loaded.error !== null && <Problem error={loaded.error} onRetry={() => void loaded.refetch()} />}
        {loaded.data !== undefined && current === undefined && (
          <p role="status">{loaded.data.series.length === 0 ? words.noImages : words.noPicture}</p>
        )}
        {current !== undefined && (
          <>
            <SeriesStrip series={series} current={current} onChoose={setChosen} />
            <Stack key={current.uid} series={current} />
          </>
        )}
      </main>
    </div>
  );
}

/** OWN or COPY, and the hospital that made the images: always in sight. */
function Origin({ study }: { readonly study: HistoryStudy }): ReactNode {
  const words = useWords();
  const own = study.held === 'local';
  // Without the index a copy's maker is not known here; our own name would be wrong.
  const maker = study.holders.find((holder) => holder.self === own);
  return (
    <span className={own ? 'origin' : 'origin origin-copy'}>
      {own ? '■' : '●'} {[own ? words.provenanceOwn : words.provenanceCopy, maker?.name].filter(Boolean).join(' · ')}
    </span>
  );
}

function SeriesStrip({
  series,
  current,
  onChoose,
}: {
  readonly series: readonly ViewerSeries[];
  readonly current: ViewerSeries;
  readonly onChoose: (uid: string) => void;
}): ReactNode {
  const words = useWords();
  return (
    <nav className="strip" aria-label={words.series}>
      {series.map((one) => (
        <Button key={one.uid} className="strip-item" aria-pressed={one.uid === current.uid} onPress={() => onChoose(one.uid)}>
          {one.thumbnailUrl !== undefined && <img src={one.thumbnailUrl} alt="" width="72" height="72" loading="lazy" />}
          <span>{one.description || one.modality}</span>
          <span className="muted small">
            {one.modality} · {words.images(one.pictures.length)}
          </span>
        </Button>
      ))}
    </nav>
  );
}
