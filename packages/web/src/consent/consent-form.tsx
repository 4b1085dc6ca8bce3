import { useMutation } from '@tanstack/react-query';
import { useState, type FormEvent, type ReactNode } from 'react';
import { Button } from 'react-aria-components';
import { recordConsent } from '../api/client.ts';
import type { Purpose } from '../api/types.ts';
import { dayText } from '../format.ts';
import { Problem } from '../problem.tsx';
import { useSettings } from '../settings.tsx';

const MODALITIES = ['CT', 'MR', 'DX', 'US', 'XA', 'MG', 'NM', 'PT'];
const DAYS = [1, 7, 30, 90, 365];
const DAY_MS = 86_400_000;

interface ConsentFormProps {
  readonly personId: string;
  readonly hospitalName: string;
  readonly purpose: Purpose;
  readonly onSaved: () => void;
  readonly onCancel: () => void;
}

/** Who, what, until when; then the whole in one plain sentence, which the patient agrees to. */
export function ConsentForm({ personId, hospitalName, purpose, onSaved, onCancel }: ConsentFormProps): ReactNode {
  const { words, language } = useSettings();
  const [grantee, setGrantee] = useState<'this-hospital' | 'any-treating'>('this-hospital');
  const [modalities, setModalities] = useState<readonly string[]>([]);
  const [days, setDays] = useState(30);
  const [clerk, setClerk] = useState('');
  const [agreed, setAgreed] = useState(false);
  const [fault, setFault] = useState<string>();
  const save = useMutation({
    mutationFn: () =>
      recordConsent({
        personId,
        grantee: { kind: grantee },
        purposes: [purpose],
        ...(modalities.length === 0 ? {} : { modalities }),
        validForMs: days * DAY_MS,
        clerk: clerk.trim(),
      }),
    onSuccess: onSaved,
  });
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    const missing = clerk.trim() === '' ? words.clerkMissing : agreed ? undefined : words.consentAgreeFirst;
    setFault(missing);
    if (missing === undefined) save.mutate();
  };
  const toggle = (code: string): void =>
    setModalities((chosen) => (chosen.includes(code) ? chosen.filter((each) => each !== code) : [...chosen, code]));
  const who = grantee === 'this-hospital' ? hospitalName : words.consentAny;
  const what = modalities.length === 0 ? words.allImaging : modalities.join(words.comma);
  const until = dayText(Date.now() + days * DAY_MS, language);
  return (
    <form className="consent-form" onSubmit={submit} autoComplete="off">
      <fieldset>
        <legend>{words.consentWho}</legend>
        <label>
          <input type="radio" name="grantee" checked={grantee === 'this-hospital'} onChange={() => setGrantee('this-hospital')} />{' '}
          {words.consentThis}
        </label>
        <label>
          <input type="radio" name="grantee" checked={grantee === 'any-treating'} onChange={() => setGrantee('any-treating')} />{' '}
          {words.consentAny}
        </label>
      </fieldset>
      <fieldset>
        <legend>{words.consentModalities}</legend>
        <label>
          <input type="checkbox" checked={modalities.length === 0} onChange={() => setModalities([])} /> {words.consentAll}
        </label>
        <div className="checks">
          {MODALITIES.map((code) => (
            <label key={code}>
              <input type="checkbox" checked={modalities.includes(code)} onChange={() => toggle(code)} /> {code}
            </label>
          ))}
        </div>
      </fieldset>
      <label className="field">
        {words.consentDays}
        <select value={days} onChange={(event) => setDays(Number(event.target.value))}>
          {DAYS.map((count) => (
            <option key={count} value={count}>
              {words.days(count)}
            </option>
          ))}
        </select>
      </label>
      <label className="field">
        {words.clerk}
        <input
          value={clerk}
          maxLength={128}
          placeholder={words.clerkHint}
          onChange={(event) => setClerk(event.target.value)}
          aria-invalid={fault !== undefined && clerk.trim() === ''}
        />
      </label>
      <p className="preview">{words.consentPreview(who, what, until, words.purposes[purpose] ?? purpose)}</p>
      <label>
        <input type="checkbox" checked={agreed} onChange={(event) => setAgreed(event.target.checked)} /> {words.consentPatientAgreed}
      </label>
      <p role="alert" className="bad small">
        {fault}
      </p>
      {save.error !== null && <Problem error={save.error} />}
      <div className="actions">
        <Button type="submit" className="primary" isDisabled={save.isPending}>
          {words.consentSave}
        </Button>
        <Button onPress={onCancel}>{words.cancel}</Button>
      </div>
    </form>
  );
}
