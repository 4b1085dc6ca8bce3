import { MeshError } from '@meridian/shared/errors';
import type { ConsentView } from '../../portal/views.ts';
import type { CommandOutcome, CommandParts } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { momentText, table } from '../terminal.ts';

/** Options of `meridian consent record`. */
export interface ConsentOptions {
  readonly thisHospital?: boolean;
  readonly hospital?: string;
  readonly anyTreating?: boolean;
  readonly purpose: readonly string[];
  readonly modality?: readonly string[];
  readonly from?: string;
  readonly to?: string;
  readonly study?: readonly string[];
  readonly holder?: readonly string[];
  readonly days: string;
  readonly clerk?: string;
  readonly formHash?: string;
}

const DAY_MS = 86_400_000;

/** `meridian consent record <person id>` */
export async function consentRecord(
  { terminal, connect, env }: CommandParts,
  personId: string,
  options: ConsentOptions,
): Promise<CommandOutcome> {
  const { say } = terminal;
  const days = Number(options.days);
  if (!Number.isInteger(days) || days < 1 || days > 36_500)
    throw new MeshError('INVALID_ARGUMENT', 'USAGE_DAYS', say('usageValid', { value: options.days }));
  const body = {
    personId,
    grantee: granteeOf(options, say('usageGrantee')),
    purposes: options.purpose,
    ...(options.modality === undefined ? {} : { modalities: options.modality }),
    ...(options.from === undefined ? {} : { studyDateFrom: options.from.replaceAll('-', '') }),
    ...(options.to === undefined ? {} : { studyDateTo: options.to.replaceAll('-', '') }),
    ...(options.study === undefined ? {} : { studyInstanceUids: options.study }),
    ...(options.holder === undefined ? {} : { holders: options.holder }),
    validForMs: days * DAY_MS,
    clerk: options.clerk ?? env['USER'] ?? 'command-line',
    ...(options.formHash === undefined ? {} : { formHash: options.formHash }),
  };
  const consent = (await (await connect()).post('/consents', body)) as ConsentView;
  terminal.print(say('recorded', { id: consent.consentId, until: momentText(consent.validUntilEpochMs) }));
  return { exitCode: EXIT.done, result: { consent } };
}

/** `meridian consent revoke [person id] [--id]` */
export async function consentRevoke(
  { terminal, connect }: CommandParts,
  personId: string | undefined,
  { id }: { id?: string },
): Promise<CommandOutcome> {
  if ((personId === undefined) === (id === undefined)) throw new MeshError('INVALID_ARGUMENT', 'USAGE_REVOKE', terminal.say('usageRevoke'));
  const answer = (await (await connect()).post('/consents/revoke', id === undefined ? { personId } : { consentId: id })) as {
    revoked: number;
  };
  terminal.print(terminal.say('revoked', { count: answer.revoked }));
  return { exitCode: EXIT.done, result: answer };
}

/** `meridian consent list <person id>` */
export async function consentList({ terminal, connect }: CommandParts, personId: string): Promise<CommandOutcome> {
  const { consents } = (await (await connect()).post('/consents/list', { personId })) as { consents: readonly ConsentView[] };
  if (consents.length === 0) terminal.print(terminal.say('noConsents'));
  const rows = consents.map((consent) => [
    consent.consentId,
    consent.state,
    consent.grantee.kind === 'hospital' ? consent.grantee.name : terminal.say('anyTreating'),
    [...consent.purposes, ...(consent.modalities ?? [])].join(' '),
    momentText(consent.validUntilEpochMs),
    `${consent.recordedBy.name} / ${consent.recordedBy.clerk}`,
  ]);
  if (rows.length > 0) for (const line of table(terminal.say('consentColumns'), rows)) terminal.print(line);
  return { exitCode: EXIT.done, result: { consents } };
}

function granteeOf({ thisHospital, hospital, anyTreating }: ConsentOptions, usage: string): object {
  if ([thisHospital === true, hospital !== undefined, anyTreating === true].filter(Boolean).length !== 1)
    throw new MeshError('INVALID_ARGUMENT', 'USAGE_GRANTEE', usage);
  if (thisHospital === true) return { kind: 'this-hospital' };
  return hospital === undefined ? { kind: 'any-treating' } : { kind: 'hospital', nodeId: hospital };
}
