import type { CommandOutcome, CommandParts } from '../command.ts';
import { EXIT } from '../exit-codes.ts';

/** What `join` needs of the federation room. */
export type Join = (request: {
  readonly link: string;
  readonly folder: string;
  readonly signal: AbortSignal;
}) => Promise<{ readonly nodeId: string; readonly hospitalName: string }>;

/** `meridian join <link>`: makes keys, proves them to the index and keeps the certificate. */
export async function joinCommand({ terminal, folder, signal, clock }: CommandParts, link: string, join: Join): Promise<CommandOutcome> {
  const slow = clock.after(1000, () => terminal.progress(terminal.say('joining')));
  const joined = await join({ link, folder, signal }).finally(() => slow.cancel());
  terminal.print(terminal.say('joined', { name: joined.hospitalName, node: joined.nodeId }));
  return { exitCode: EXIT.done, result: { ...joined } };
}
