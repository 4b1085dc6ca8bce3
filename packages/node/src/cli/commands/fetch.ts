import { MeshError, type Reason, type StatusCode } from '@meridian/shared/errors';
import { parseStudyInstanceUid } from '@meridian/shared/identifiers';
import type { TransferView } from '../../portal/views.ts';
import type { CommandOutcome, CommandParts } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { bytesText } from '../terminal.ts';

/** Options of `meridian fetch`. */
export interface FetchOptions {
  readonly from?: string;
  readonly patient?: string;
  readonly purpose: string;
}

/** `meridian fetch <person id> <study uid>`: copies a study and follows it to the end. Ctrl-C cancels the copy. */
export async function fetchCommand(
  { terminal, connect, signal }: CommandParts,
  personId: string,
  studyInstanceUid: string,
  options: FetchOptions,
): Promise<CommandOutcome> {
  const { say } = terminal;
  const study = parseStudyInstanceUid(studyInstanceUid);
  const client = await connect();
  const started = (await client.post('/transfers', {
    personId,
    studyInstanceUid: study,
    purpose: options.purpose,
    ...(options.from === undefined ? {} : { holderNode: options.from }),
    ...(options.patient === undefined ? {} : { patientId: options.patient }),
  })) as TransferView;
  const cancel = (): void => void client.post(`/transfers/${started.id}/cancel`, {}).catch(() => undefined);
  signal.addEventListener('abort', cancel, { once: true });
  terminal.progress(say('copyStarted', { holder: started.holderName ?? say('holderUnknown') }));
  const onProgress = (progress: unknown): void => {
    const { progress: copied } = progress as TransferView;
    if (copied !== undefined) terminal.progress(say('copying', { done: copied.instancesVerified, total: copied.instancesTotal }));
  };
  try {
    const ended = (await client.stream(`/transfers/${started.id}/events`, { onProgress })) as TransferView;
    return outcomeOf(ended, terminal);
  } finally {
    signal.removeEventListener('abort', cancel);
  }
}

function outcomeOf(view: TransferView, { print, note, say }: CommandParts['terminal']): CommandOutcome {
  if (view.state === 'done') {
    print(
      say('copied', {
        instances: view.progress?.instancesVerified ?? 0,
        bytes: bytesText(view.progress?.bytesVerified ?? 0),
        resumed: view.resumedInstances ?? 0,
      }),
    );
    return { exitCode: EXIT.done, result: { transfer: view } };
  }
  if (view.state === 'cancelled') throw new MeshError('CANCELLED', 'TRANSFER_CANCELLED', say('copyCancelled'));
  // Where nothing came there is nothing to go on from: the reason says what to do.
  if ((view.progress?.instancesVerified ?? 0) > 0) note(say('copyFailed'));
  // The reason was made by the node: it is passed on as it came.
  const { code, reason, message } = view.failure ?? { code: 'UNKNOWN', reason: 'UNEXPECTED', message: say('copyFailed') };
  throw new MeshError(code as StatusCode, reason as Reason, message);
}
