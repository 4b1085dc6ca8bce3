import type { ReactNode } from 'react';
import { Button, Dialog, Heading, Modal, ModalOverlay } from 'react-aria-components';
import type { HistoryStudy } from '../api/types.ts';
import { dateOfDa } from '../format.ts';
import { useWords } from '../settings.tsx';

/** Two records side by side, before anything is opened. */
export function MismatchDialog({
  study,
  onCancel,
  onConfirm,
}: {
  readonly study: HistoryStudy;
  readonly onCancel: () => void;
  readonly onConfirm: () => void;
}): ReactNode {
  const words = useWords();
  return (
    <ModalOverlay className="overlay" isOpen onOpenChange={(isOpen) => !isOpen && onCancel()} isDismissable>
      <Modal className="modal">
        <Dialog role="alertdialog">
          <Heading slot="title">{words.mismatchTitle}</Heading>
          <p>{words.mismatchText}</p>
          <table>
            <thead>
              <tr>
                <td />
                <th scope="col">{words.mismatchHere}</th>
                <th scope="col">{words.mismatchThere}</th>
              </tr>
            </thead>
            <tbody>
              {study.mismatch?.map(({ field, local, fetched }) => (
                <tr key={field}>
                  <th scope="row">{words.mismatchFields[field] ?? field}</th>
                  <td>{valueOf(field, local)}</td>
                  <td>{valueOf(field, fetched)}</td>
                </tr>
              ))}
            </tbody>
          </table>
          <div className="actions">
            <Button autoFocus onPress={onCancel}>
              {words.cancel}
            </Button>
            <Button className="danger" onPress={onConfirm}>
              {words.mismatchOpen}
            </Button>
          </div>
        </Dialog>
      </Modal>
    </ModalOverlay>
  );

  function valueOf(field: string, value: string): string {
    return field === 'sex' ? (words.sexes[value] ?? value) : field === 'birthDate' ? dateOfDa(value) : value || '—';
  }
}
