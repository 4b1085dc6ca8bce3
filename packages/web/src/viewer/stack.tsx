import { useEffect, useRef, useState, type KeyboardEvent, type ReactNode } from 'react';
import { useWords } from '../settings.tsx';
import { ApiProblem } from '../api/client.ts';
import { Problem } from '../problem.tsx';
import type { ViewerSeries } from './dicomweb.ts';

/** Pictures fetched before they are asked for, on each side. */
const AHEAD = 4;

/** One series, picture by picture: wheel, keys or slider. */
export function Stack({ series }: { readonly series: ViewerSeries }): ReactNode {
  const words = useWords();
  const total = series.pictures.length;
  const [at, setAt] = useState(Math.floor((total - 1) / 2));
  const [fault, setFault] = useState<Error>();
  const frame = useRef<HTMLDivElement>(null);
  const wheel = useRef(0);
  const position = Math.min(at, total - 1);
  const picture = series.pictures[position];
  const go = (to: number): void => {
    setFault(undefined);
    setAt(Math.max(0, Math.min(total - 1, to)));
  };

  useEffect(() => {
    for (let step = 1; step <= AHEAD; step++) {
      for (const next of [series.pictures[position + step], series.pictures[position - step]]) {
        if (next !== undefined) new Image().src = next.url;
      }
    }
  }, [series, position]);

  useEffect(() => {
    // React attaches wheel listeners as passive ones, which may not keep the page from scrolling.
    const element = frame.current;
    const onWheel = (event: WheelEvent): void => {
      event.preventDefault();
      wheel.current += event.deltaY;
      const steps = Math.trunc(wheel.current / 60);
      wheel.current -= steps * 60;
      if (steps !== 0) setAt((now) => Math.max(0, Math.min(total - 1, Math.min(now, total - 1) + steps)));
    };
    element?.addEventListener('wheel', onWheel, { passive: false });
    return () => element?.removeEventListener('wheel', onWheel);
  }, [total]);

  const onKey = (event: KeyboardEvent): void => {
    const to = {
      ArrowDown: position + 1,
      ArrowRight: position + 1,
      ArrowUp: position - 1,
      ArrowLeft: position - 1,
      PageDown: position + 10,
      PageUp: position - 10,
      Home: 0,
      End: total - 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    go(to);
  };
  if (picture === undefined) return null;
  return (
    <section className="stack" aria-label={series.description || series.modality}>
      <div
        className="stack-frame"
        ref={frame}
        tabIndex={0}
        role="group"
        aria-describedby="stack-keys"
        aria-label={words.image(position + 1, total)}
        onKeyDown={onKey}
      >
        {fault === undefined ? (
          <img
            src={picture.url}
            alt={words.imageAlt(series.modality, position + 1, total)}
            draggable={false}
            onError={() => void reasonOf(picture.url).then(setFault)}
          />
        ) : (
          <Problem error={fault} onRetry={() => setFault(undefined)} />
        )}
        <span className="watermark" aria-hidden="true">
          {words.preview}
        </span>
      </div>
      <div className="stack-place">
        <input
          type="range"
          min={1}
          max={total}
          value={position + 1}
          disabled={total === 1}
          aria-label={words.image(position + 1, total)}
          onChange={(event) => go(Number(event.target.value) - 1)}
        />
        <output>{words.image(position + 1, total)}</output>
      </div>
      <p id="stack-keys" className="muted small stack-keys">
        {words.stackKeys}
      </p>
    </section>
  );
}

/** Why a picture did not come: an <img> does not tell. */
async function reasonOf(url: string): Promise<Error> {
  try {
    const response = await fetch(url, { cache: 'no-store' });
    const { reason, detail } = (await response.json()) as { reason?: string; detail?: string };
    return new ApiProblem(response.status, reason ?? `HTTP_${response.status}`, detail ?? response.statusText);
  } catch {
    return new ApiProblem(0, 'NODE_UNREACHABLE', 'The picture could not be loaded.');
  }
}
