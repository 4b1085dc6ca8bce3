import type { ReactNode } from 'react';
import { Button, ProgressBar } from 'react-aria-components';
import type { HistoryStudy, TransferView } from '../api/types.ts';
import { bytesText, dateOfDa } from '../format.ts';
import { problemText } from '../problem.tsx';
import { useWords } from '../settings.tsx';

interface StudyRowProps {
  readonly study: HistoryStudy;
  readonly transfer: TransferView | undefined;
  readonly onOpen: () => void;
  readonly onFetch: (holderNode: string | undefined) => void;
  readonly onCancel: (transfer: TransferView) => void;
}

/** One study: what, when, where, whether it may be seen, how much of it is here, and the one next step. */
export function StudyRow({ study, transfer, onOpen, onFetch, onCancel }: StudyRowProps): ReactNode {
  const words = useWords();
  const running = transfer?.state === 'running';
  const what = [dateOfDa(study.studyDate) || words.noDate, study.modalities.join('/'), study.description].filter(Boolean).join(' ');
  const locked = isLocked(study);
  const here = study.held === 'local' || study.held === 'copy';
  const readable = !locked && (here || study.held === 'partial' || (running && (transfer.progress?.instancesVerified ?? 0) > 0));
  const remote = study.holders.find((holder) => !holder.self);
  const said = (study.description ?? '').toLowerCase();
  const detail = [...(study.bodyParts ?? []).filter((part) => !said.includes(part.toLowerCase())), study.description]
    .filter(Boolean)
    .join(' · ');
  return (
    <li className={study.consent === 'refused' && !readable ? 'study study-refused' : 'study'}>
      <div className="study-when">
        <time>{dateOfDa(study.studyDate) || words.noDate}</time>
        <span className="modality">{study.modalities.join(' / ') || '?'}</span>
      </div>
      <div className="study-what">
        <strong>{detail || study.modalities.join(' / ')}</strong>
        <span className="muted small">
          {words.images(study.instanceCount)} · {bytesText(study.bytes)}
        </span>
        {(study.mismatch?.length ?? 0) > 0 && (
          <span className="tag tag-warn">
            <span aria-hidden="true">▲ </span>
            {words.mismatchFlag}
          </span>
        )}
        {study.differs === true && (
          <span className="tag tag-warn">
            <span aria-hidden="true">▲ </span>
            {words.differs}
          </span>
        )}
      </div>
      <div className="study-where">
        <span className="visually-hidden">{words.heldAt}</span>
        {study.holders.map((holder) => (
          <span key={holder.nodeId} className="holder">
            {holder.name}
          </span>
        ))}
        <span className="tags">
          <ConsentTag study={study} />
          <HeldTag study={study} isCopying={running} />
        </span>
      </div>
      <div className="study-do">
        {readable && (
          <Button className="primary" aria-label={words.openStudy(what)} onPress={onOpen}>
            {words.open}
          </Button>
        )}
        {(!here || locked) && !running && study.consent !== 'refused' && (
          <Button className={readable ? '' : 'primary'} aria-label={words.fetchStudy(what)} onPress={() => onFetch(remote?.nodeId)}>
            {study.held === 'partial' ? words.fetchOn : words.fetch}
          </Button>
        )}
        {running && <Button onPress={() => onCancel(transfer)}>{words.cancel}</Button>}
      </div>
      <div className="study-news" aria-live="polite">
        {transfer === undefined || (study.consent === 'refused' && transfer.state === 'done') ? (
          <ConsentReason study={study} />
        ) : (
          <News transfer={transfer} hospital={transfer.holderName ?? remote?.name ?? ''} />
        )}
      </div>
    </li>
  );
}

/** A copy whose consent was withdrawn or has ended is kept, and opened by nobody; a new consent lets it be fetched again. */
function isLocked(study: HistoryStudy): boolean {
  return (
    study.locked === true ||
    ((study.held === 'copy' || study.held === 'partial') && study.consent === 'refused' && study.consentReason === 'CONSENT_REVOKED')
  );
}

function ConsentTag({ study }: { readonly study: HistoryStudy }): ReactNode {
  const words = useWords();
  if (study.consent === 'own') return <span className="tag">■ {words.ownConsent}</span>;
  return study.consent === 'allowed' ? (
    <span className="tag tag-good">✓ {words.shared}</span>
  ) : (
    <span className="tag tag-warn">⊘ {words.notShared}</span>
  );
}

function HeldTag({ study, isCopying }: { readonly study: HistoryStudy; readonly isCopying: boolean }): ReactNode {
  const words = useWords();
  if (isLocked(study)) return <span className="tag tag-warn">⊘ {words.locked}</span>;
  if (study.held === 'local') return study.consent === 'own' ? null : <span className="tag">■ {words.own}</span>;
  if (study.held === 'copy') return <span className="tag tag-good">● {words.copy}</span>;
  return study.held === 'partial' || isCopying ? (
    <span className="tag">◐ {words.part}</span>
  ) : (
    <span className="tag tag-quiet">○ {words.notHere}</span>
  );
}

function ConsentReason({ study }: { readonly study: HistoryStudy }): ReactNode {
  const words = useWords();
  if (study.consent !== 'refused') return null;
  const hospital = study.holders
    .filter((holder) => !holder.self)
    .map((holder) => holder.name)
    .join(words.comma);
  return <p className="small">{words.consentReasons[study.consentReason ?? ''] ?? words.consentNeeded(hospital)}</p>;
}

function News({ transfer, hospital }: { readonly transfer: TransferView; readonly hospital: string }): ReactNode {
  const words = useWords();
  const { progress, state } = transfer;
  if (state === 'done') return <p className="small good">✓ {words.copyDone(progress?.instancesVerified ?? 0)}</p>;
  if (state === 'cancelled') return <p className="small">{words.copyCancelled}</p>;
  if (state === 'failed') {
    return (
      <p className="small bad">
        ▲ {words.copyFailed} {transfer.failure !== undefined && problemText(transfer.failure, words)}{' '}
        <span className="muted">({transfer.failure?.reason})</span>
      </p>
    );
  }
  if (progress === undefined || progress.instancesTotal === 0) return <p className="small">{words.copyStarting(hospital)}</p>;
  const says = words.copying(progress.instancesVerified, progress.instancesTotal);
  return (
    <ProgressBar aria-label={says} value={progress.instancesVerified} maxValue={progress.instancesTotal} valueLabel={says}>
      <p className="small">{says}</p>
      <progress className="progress" value={progress.instancesVerified} max={progress.instancesTotal} aria-hidden="true" />
    </ProgressBar>
  );
}
