import { useEffect, useRef, useState, type FormEvent, type ReactNode } from 'react';
import { Button, FieldError, Input, Label, Text, TextField } from 'react-aria-components';
import { dateOfDa } from '../format.ts';
import { useWords } from '../settings.tsx';
import { candidateOf, type Candidate } from './person.ts';

/** First the id, then a second look at whom it names; only then are hospitals asked. */
export function Find({ onFound }: { readonly onFound: (personId: string) => void }): ReactNode {
  const words = useWords();
  const [text, setText] = useState('');
  const [fault, setFault] = useState<string>();
  const [candidate, setCandidate] = useState<Candidate>();
  const confirm = useRef<HTMLButtonElement>(null);
  // At once, not a frame later: a scanner or a quick hand presses Enter again without looking.
  useEffect(() => confirm.current?.focus(), [candidate]);

  const type = (next: string): void => {
    setText(next);
    setFault(undefined);
  };
  const check = (event: FormEvent): void => {
    event.preventDefault();
    try {
      setCandidate(candidateOf(text));
      setFault(undefined);
    } catch (thrown) {
      const reason = (thrown as { reason?: string }).reason;
      setFault(reason === 'PERSON_ID_CHECK_DIGIT' ? words.idCheckDigit : words.idUnknownForm);
    }
  };

  if (candidate !== undefined) {
    return (
      <section className="card narrow" aria-labelledby="confirm-title">
        <h1 id="confirm-title">{words.confirmTitle}</h1>
        <dl className="facts">
          <div>
            <dt>{words.confirmId}</dt>
            <dd className="mono">{candidate.masked}</dd>
          </div>
          {candidate.birthDate !== undefined && (
            <div>
              <dt>{words.confirmBirth}</dt>
              <dd>{dateOfDa(candidate.birthDate)}</dd>
            </div>
          )}
          {candidate.sex !== undefined && (
            <div>
              <dt>{words.confirmSex}</dt>
              <dd>{words.sexes[candidate.sex]}</dd>
            </div>
          )}
        </dl>
        {candidate.birthDate === undefined && <p className="muted">{words.confirmOther}</p>}
        <div className="actions">
          <Button ref={confirm} className="primary" onPress={() => onFound(candidate.personId)}>
            {words.confirm}
          </Button>
          <Button onPress={() => setCandidate(undefined)}>{words.change}</Button>
        </div>
      </section>
    );
  }
  return (
    <section className="card narrow" aria-labelledby="find-title">
      <h1 id="find-title">{words.findTitle}</h1>
      <form onSubmit={check} autoComplete="off">
        <TextField value={text} onChange={type} isInvalid={fault !== undefined} validationBehavior="aria" autoFocus>
          <Label>{words.personId}</Label>
          <div className="field-row">
            <Input className="mono" autoComplete="off" spellCheck="false" maxLength={256} />
            <Button type="submit" className="primary" isDisabled={text.trim() === ''}>
              {words.check}
            </Button>
          </div>
          <Text slot="description" className="muted small">
            {words.findHint}
          </Text>
          <FieldError>{fault}</FieldError>
        </TextField>
      </form>
    </section>
  );
}
