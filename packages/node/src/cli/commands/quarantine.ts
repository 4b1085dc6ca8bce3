import type { QuarantineRow } from '../../portal/parts.ts';
import type { CommandOutcome, CommandParts } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { momentText, table } from '../terminal.ts';

/** `meridian quarantine`: objects kept aside. */
export async function quarantine({ terminal, connect }: CommandParts): Promise<CommandOutcome> {
  const { quarantined } = (await (await connect()).get('/quarantine')) as { quarantined: readonly QuarantineRow[] };
  if (quarantined.length === 0) terminal.print(terminal.say('nothingQuarantined'));
  const rows = quarantined.map((row) => [row.id, row.sopInstanceUid, row.reason, momentText(row.receivedAtEpochMs), String(row.bytes)]);
  if (rows.length > 0) for (const line of table(terminal.say('quarantineColumns'), rows)) terminal.print(line);
  return { exitCode: EXIT.done, result: { quarantined } };
}
