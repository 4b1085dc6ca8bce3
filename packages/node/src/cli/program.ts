import { resolve } from 'node:path';
import { Command, CommanderError, Option } from 'commander';
import { asMeshError } from '@meridian/shared/errors';
import { systemClock } from '@meridian/shared/platform/clock';
import type { NodeConfig } from '../config.ts';
import { PURPOSES } from '../portal/views.ts';
import type { CommandOutcome, CommandParts } from './command.ts';
import { consentList, consentRecord, consentRevoke, type ConsentOptions } from './commands/consent.ts';
import { doctor } from './commands/doctor.ts';
import { fetchCommand, type FetchOptions } from './commands/fetch.ts';
import { history } from './commands/history.ts';
import { importCommand, type ImportOptions } from './commands/import.ts';
import { joinCommand, type Join } from './commands/join.ts';
import { quarantine } from './commands/quarantine.ts';
import { serve, type ServedNode } from './commands/serve.ts';
import { status } from './commands/status.ts';
import { EXIT, exitCodeOf, type ExitCode } from './exit-codes.ts';
import { connectNode } from './node-client.ts';
import { openTerminal, type Terminal } from './terminal.ts';
import { languageOfShell, sayIn, type Say } from './words.ts';

/** What the command line takes from outside. */
export interface CommandLine {
  readonly version: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly out: NodeJS.WriteStream;
  readonly err: NodeJS.WriteStream;
  readonly signal: AbortSignal;
  readonly openNode: (config: NodeConfig) => Promise<ServedNode>;
  readonly join: Join;
}

type Action = (parts: CommandParts) => Promise<CommandOutcome>;

/**
 * Runs one `meridian` command.
 * @param argv without the program's name.
 * @returns the exit code. Never throws: what goes wrong is told, and with --json as the last line too.
 */
export async function runCommandLine(argv: readonly string[], line: CommandLine): Promise<ExitCode> {
  const chosen = argv.find((_, at) => argv[at - 1] === '--lang') ?? argv.find((word) => word.startsWith('--lang='))?.slice(7);
  const language = languageOfShell(chosen, line.env);
  const say = sayIn(language);
  const terminal = openTerminal({ say, language, json: argv.includes('--json'), out: line.out, err: line.err });
  let name = 'meridian';
  let exitCode: ExitCode = EXIT.done;

  const run = async (command: Command, action: Action): Promise<void> => {
    name = nameOf(command);
    const { data } = command.optsWithGlobals<{ data?: string }>();
    const folder = resolve(data ?? line.env['MERIDIAN_DATA'] ?? './meridian-data');
    const parts: CommandParts = {
      terminal,
      folder,
      env: line.env,
      clock: systemClock,
      signal: line.signal,
      connect: () => connectNode({ folder, say, language }),
    };
    const outcome = await action(parts);
    exitCode = outcome.exitCode;
    terminal.finish({ ok: exitCode === EXIT.done, command: name, exitCode, ...outcome.result });
  };
  try {
    await buildProgram(say, line, run).parseAsync(argv, { from: 'user' });
    return exitCode;
  } catch (thrown) {
    return failed(thrown, name, terminal);
  }
}

function failed(thrown: unknown, command: string, terminal: Terminal): ExitCode {
  if (thrown instanceof CommanderError) {
    if (thrown.exitCode === 0) return EXIT.done;
    // Commander has said it on standard error already.
    terminal.finish({ ok: false, command, exitCode: EXIT.usage, code: 'INVALID_ARGUMENT', reason: 'USAGE', message: thrown.message });
    return EXIT.usage;
  }
  const error = asMeshError(thrown);
  const exitCode = exitCodeOf(error);
  terminal.note(error.message);
  if (error.reason === 'UNEXPECTED' && error.cause instanceof Error) terminal.note(error.cause.stack ?? error.cause.message);
  terminal.note(`(${error.reason})`);
  terminal.finish({ ok: false, command, exitCode, code: error.code, reason: error.reason, message: error.message });
  return exitCode;
}

function buildProgram(say: Say, line: CommandLine, run: (command: Command, action: Action) => Promise<void>): Command {
  const program = new Command('meridian').description(say('about')).version(line.version).exitOverride();
  program.configureOutput({ writeOut: (text) => void line.out.write(text), writeErr: (text) => void line.err.write(text) });
  const titles = new Map(
    ['Usage:', 'Options:', 'Commands:', 'Arguments:'].map((title, at) => [title, say('helpTitles').split('|')[at] ?? title]),
  );
  program.configureHelp({ styleTitle: (title) => titles.get(title) ?? title });
  program.option('--data <folder>', `${say('optionData')} (MERIDIAN_DATA, ./meridian-data)`);
  program.option('--json', say('optionJson'));
  program.option('--lang <language>', say('optionLang'));
  program.addHelpText('after', `\n${say('exitCodes')}`);

  const add = (parent: Command, usage: string, description: string): Command =>
    parent.command(usage).description(description).exitOverride().copyInheritedSettings(parent);
  const purpose = (): Option => new Option('--purpose <code>', 'HL7 v3 ActReason').choices(PURPOSES).default('TREAT');

  add(program, 'join <link>', `${say('join')} (${say('joinLink')})`).action((link: string, _: object, command: Command) =>
    run(command, (parts) => joinCommand(parts, link, line.join)),
  );
  add(program, 'serve', say('serve')).action((_: object, command: Command) => run(command, (parts) => serve(parts, line.openNode)));
  add(program, 'status', say('status')).action((_: object, command: Command) => run(command, status));
  add(program, 'import <folder>', say('import'))
    .option('--authority <name>', say('importAuthority'))
    .option('--own-ids', say('importOwnIds'))
    .action((folder: string, options: ImportOptions, command: Command) => run(command, (parts) => importCommand(parts, folder, options)));
  add(program, 'history <person-id>', `${say('history')} (${say('personId')})`)
    .addOption(purpose())
    .action((personId: string, options: { purpose: string }, command: Command) =>
      run(command, (parts) => history(parts, personId, options)),
    );
  add(program, 'fetch <person-id> <study-uid>', say('fetch'))
    .option('--from <node>', say('fromNode'))
    .option('--patient <local-id>', say('localPatient'))
    .addOption(purpose())
    .action((personId: string, study: string, options: FetchOptions, command: Command) =>
      run(command, (parts) => fetchCommand(parts, personId, study, options)),
    );
  addConsent(add(program, 'consent', say('consent')), say, add, run);
  add(program, 'quarantine', say('quarantine')).action((_: object, command: Command) => run(command, quarantine));
  add(program, 'doctor', say('doctor')).action((_: object, command: Command) => run(command, doctor));
  return program;
}

function addConsent(
  consent: Command,
  say: Say,
  add: (parent: Command, usage: string, description: string) => Command,
  run: (command: Command, action: Action) => Promise<void>,
): void {
  add(consent, 'record <person-id>', say('consentRecord'))
    .option('--this-hospital', say('granteeThis'))
    .option('--hospital <node>', say('granteeHospital'))
    .option('--any-treating', say('granteeAny'))
    .addOption(new Option('--purpose <code...>', 'HL7 v3 ActReason').choices(PURPOSES).default(['TREAT']))
    .option('--modality <code...>', 'CT MR DX …')
    .option('--from <date>', say('scopeFrom'))
    .option('--to <date>', say('scopeTo'))
    .option('--study <uid...>', say('scopeStudy'))
    .option('--holder <node...>', say('scopeHolder'))
    .option('--days <number>', say('validDays'), '30')
    .option('--clerk <name>', say('clerkName'))
    .option('--form-hash <sha256>', say('formHash'))
    .action((personId: string, options: ConsentOptions, command: Command) =>
      run(command, (parts) => consentRecord(parts, personId, options)),
    );
  add(consent, 'revoke [person-id]', say('consentRevoke'))
    .option('--id <consent>', say('oneConsent'))
    .action((personId: string | undefined, options: { id?: string }, command: Command) =>
      run(command, (parts) => consentRevoke(parts, personId, options)),
    );
  add(consent, 'list <person-id>', say('consentList')).action((personId: string, _: object, command: Command) =>
    run(command, (parts) => consentList(parts, personId)),
  );
}

function nameOf(command: Command): string {
  const parent = command.parent;
  return parent === null || parent.parent === null ? command.name() : `${parent.name()} ${command.name()}`;
}
