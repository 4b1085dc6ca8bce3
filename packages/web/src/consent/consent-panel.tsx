import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useState, type ReactNode } from 'react';
import { Button, Dialog, Heading, Modal, ModalOverlay } from 'react-aria-components';
import { listConsents, revokeConsent } from '../api/client.ts';
import type { ConsentView, Purpose } from '../api/types.ts';
import { dayText } from '../format.ts';
import { Problem } from '../problem.tsx';
import { useSettings } from '../settings.tsx';
import { ConsentForm } from './consent-form.tsx';

interface ConsentPanelProps {
  readonly personId: string;
  readonly hospitalName: string;
  readonly purpose: Purpose;
  readonly joined: boolean;
}

/** What the patient agreed to: the list, recording and stopping. */
export function ConsentPanel({ personId, hospitalName, purpose, joined }: ConsentPanelProps): ReactNode {
  const { words } = useSettings();
  const queries = useQueryClient();
  const [isRecording, setRecording] = useState(false);
  const [news, setNews] = useState('');
  const [stopping, setStopping] = useState<ConsentView>();
  const consents = useQuery({
    queryKey: ['consents', personId],
    queryFn: ({ signal }) => listConsents(personId, signal),
    gcTime: 0,
    enabled: joined,
  });
  const changed = async (text: string): Promise<void> => {
    setNews(text);
    await Promise.all([queries.invalidateQueries({ queryKey: ['consents'] }), queries.invalidateQueries({ queryKey: ['history'] })]);
  };
  const revoke = useMutation({
    mutationFn: (consent: ConsentView) => revokeConsent(consent.consentId),
    onSuccess: () => changed(words.consentStopped),
    onSettled: () => setStopping(undefined),
  });
  return (
    <aside className="card consent" aria-labelledby="consent-title">
      <h2 id="consent-title">{words.consent}</h2>
      <p role="status" className="good small">
        {news}
      </p>
      {!joined && <p>{words.notJoined}</p>}
      {consents.error !== null && <Problem error={consents.error} onRetry={() => void consents.refetch()} />}
      {revoke.error !== null && <Problem error={revoke.error} />}
      {consents.data?.length === 0 && <p className="muted">{words.consentNone}</p>}
      <ul className="consents">
        {consents.data?.map((consent) => (
          <ConsentItem key={consent.consentId} consent={consent} onStop={() => setStopping(consent)} />
        ))}
      </ul>
      {isRecording ? (
        <ConsentForm
          personId={personId}
          hospitalName={hospitalName}
          purpose={purpose}
          onCancel={() => setRecording(false)}
          onSaved={() => {
            setRecording(false);
            void changed(words.consentSaved);
          }}
        />
      ) : (
        joined && (
          <Button className="primary" onPress={() => setRecording(true)}>
            {words.consentRecord}
          </Button>
        )
      )}
      {stopping !== undefined && (
        <ModalOverlay className="overlay" isOpen isDismissable onOpenChange={(isOpen) => !isOpen && setStopping(undefined)}>
          <Modal className="modal">
            <Dialog role="alertdialog">
              <Heading slot="title">{words.consentStopTitle}</Heading>
              <p>{words.consentStopText}</p>
              <div className="actions">
                <Button autoFocus onPress={() => setStopping(undefined)}>
                  {words.cancel}
                </Button>
                <Button className="danger" isDisabled={revoke.isPending} onPress={() => revoke.mutate(stopping)}>
                  {words.consentStop}
                </Button>
              </div>
            </Dialog>
          </Modal>
        </ModalOverlay>
      )}
    </aside>
  );
}

const SHAPES: Readonly<Record<ConsentView['state'], string>> = { active: '✓', 'not-yet': '◷', expired: '○', revoked: '⊘', refused: '⊘' };

function ConsentItem({ consent, onStop }: { readonly consent: ConsentView; readonly onStop: () => void }): ReactNode {
  const { words, language } = useSettings();
  const what = consent.modalities === undefined ? words.consentAll : consent.modalities.join(words.comma);
  const live = consent.state === 'active' || consent.state === 'not-yet';
  return (
    <li className={live ? 'consent-item' : 'consent-item consent-past'}>
      <div>
        <span className={consent.state === 'active' ? 'tag tag-good' : 'tag'}>
          {SHAPES[consent.state]} {words.consentStates[consent.state]}
        </span>
        {live && <span className="small"> {words.consentUntil(dayText(consent.validUntilEpochMs, language))}</span>}
      </div>
      <strong>{consent.grantee.kind === 'hospital' ? consent.grantee.name : words.consentAny}</strong>
      <span className="small">
        {what} · {consent.purposes.map((code) => words.purposes[code] ?? code).join(words.comma)}
      </span>
      <span className="muted small">
        {words.consentBy(consent.recordedBy.clerk, consent.recordedBy.name, dayText(consent.recordedAtEpochMs, language))}
      </span>
      {live && <Button onPress={onStop}>{words.consentStop}</Button>}
    </li>
  );
}
