import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { asMeshError } from '@meridian/shared/errors';
import { openLog, silentLog } from '@meridian/shared/log';
import { systemClock } from '@meridian/shared/platform/clock';
import { systemRandom } from '@meridian/shared/platform/random';
import { DEFAULT_PORTS, indexFiles } from './config.ts';
import { connectControl } from './control.ts';
import { openIndexAdmin, type IndexAdmin, type IndexStatus, type Invitation } from './index-admin.ts';
import { keptPorts, openIndexCore } from './index-core.ts';
import { initIndex, type MeridianIndex, openIndex } from './index-server.ts';

/** What the command line touches of its process. */
export interface CommandParts {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
  /** Registers what ends `serve`. */
  readonly onStop: (stop: () => void) => void;
}

interface Output {
  /** Prints the sentence, or with --json the object on one line. */
  say(sentence: string, object: object): void;
}

const VERSION = (createRequire(import.meta.url)('../package.json') as { version: string }).version;
const FOLDER_TRIES = 20;
const FOLDER_WAIT_MS = 150;

type FolderOptions = { readonly data: string; readonly json: boolean };

/** Runs one command. @returns the exit code: 0 done, 1 failed, 2 wrong usage. */
export async function runCommand(argv: readonly string[], parts: CommandParts): Promise<number> {
  const program = commandLine(parts);
  const json = argv.includes('--json');
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return 0;
  } catch (thrown) {
    if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? 0 : 2;
    const error = asMeshError(thrown);
    if (json) parts.stdout.write(`${JSON.stringify({ ok: false, code: error.code, reason: error.reason, message: error.message })}\n`);
    else parts.stderr.write(`${error.message}\n(${error.reason})\n`);
    if (error.code === 'INTERNAL')
      openLog({ part: 'index' }).error({ event: 'command-failed', err: error.cause ?? error }, 'the command failed');
    return 1;
  }
}

function commandLine(parts: CommandParts): Command {
  const program = new Command('meridian-index').description(
    'The national index of Meridian: knows which hospital holds which study, and lends permissions to fetch them. No images pass through it.',
  );
  // Before any subcommand is made: they inherit it.
  program
    .version(VERSION)
    .exitOverride()
    .configureOutput({ writeOut: (text) => parts.stdout.write(text), writeErr: (text) => parts.stderr.write(text) })
    .showHelpAfterError('(--help shows how it is used)')
    .addHelpText('after', '\nExit codes: 0 done · 1 refused or failed · 2 wrong usage');
  const add = (parent: Command, usage: string, description: string): Command =>
    parent
      .command(usage)
      .description(description)
      .option(
        '--data <folder>',
        'data folder of the index (or MERIDIAN_INDEX_DATA)',
        parts.environment['MERIDIAN_INDEX_DATA'] ?? 'meridian-index-data',
      )
      .option('--json', 'print one JSON object', false);

  add(program, 'init', 'make the CA, the keys and the settings of a new index')
    .option('--name <name>', 'name of the federation', 'Meridian')
    .option('--host <host>', 'name or address under which hospitals reach the index', '127.0.0.1')
    .option('--listen <address>', 'address to listen on', '127.0.0.1')
    .option('--join-port <port>', 'port of the join door; 0 takes a free one', parsePort, DEFAULT_PORTS.join)
    .option('--grpc-port <port>', 'port of the mutual-TLS listener; 0 takes a free one', parsePort, DEFAULT_PORTS.grpc)
    .action((options: FolderOptions & { name: string; host: string; listen: string; joinPort: number; grpcPort: number }) =>
      init(options, outputOf(parts, options)),
    );
  const hospital = program.command('hospital').description('add, list and remove hospitals');
  add(hospital, 'add <name>', 'add a hospital and print the link with which it joins, once')
    .option('--segment <name>', 'part of the trust list, a province for example', 'all')
    .option('--backfill <count>', 'evaluations beyond the daily quota, for its first back-fill', parseCount, 0)
    .action((name: string, options: FolderOptions & { segment: string; backfill: number }) =>
      withAdmin(options, async (admin) =>
        sayInvitation(
          outputOf(parts, options),
          name,
          await admin.addHospital({ name, segment: options.segment, backfillBudget: options.backfill }),
        ),
      ),
    );
  add(hospital, 'invite <node-id>', 'print a new link for a hospital with new hardware, lost keys or an unused old link').action(
    (nodeId: string, options: FolderOptions) =>
      withAdmin(options, async (admin) => sayInvitation(outputOf(parts, options), nodeId, await admin.inviteAgain(nodeId))),
  );
  add(hospital, 'list', 'list all hospitals').action((options: FolderOptions) =>
    withAdmin(options, async (admin) => {
      const { hospitals } = await admin.status();
      outputOf(parts, options).say(
        hospitals.length === 0
          ? 'No hospital yet. Add one with `meridian-index hospital add <name>`.'
          : hospitals.map(hospitalLine).join('\n'),
        { hospitals },
      );
    }),
  );
  for (const [verb, status, done] of [
    ['revoke', 'revoked', 'is out of the federation; its running calls were ended'],
    ['suspend', 'suspended', 'is suspended; its running calls were ended'],
    ['reinstate', 'active', 'is active again'],
  ] as const) {
    add(
      hospital,
      `${verb} <node-id>`,
      `${verb === 'revoke' ? 'take a hospital out of the federation, for good' : verb === 'suspend' ? 'keep a hospital out for the time being' : 'let a suspended hospital in again'}`,
    ).action((nodeId: string, options: FolderOptions) =>
      withAdmin(options, async (admin) => {
        await admin.setStatus(nodeId, status);
        outputOf(parts, options).say(`${nodeId} ${done}.`, { nodeId, status });
      }),
    );
  }
  add(program, 'serve', 'run the index until it is told to stop (Ctrl-C)')
    .option('--log-level <level>', 'trace, debug, info, warn or error', 'info')
    .action((options: FolderOptions & { logLevel: string }) => serve(parts, options, outputOf(parts, options)));
  add(program, 'status', 'say how the index and its hospitals are').action((options: FolderOptions) =>
    withAdmin(options, async (admin) => {
      const status = await admin.status();
      outputOf(parts, options).say(statusText(status), status);
    }),
  );
  return program;
}

async function init(
  options: FolderOptions & { name: string; host: string; listen: string; joinPort: number; grpcPort: number },
  output: Output,
): Promise<void> {
  const folder = resolve(options.data);
  await initIndex({
    folder,
    name: options.name,
    host: options.host,
    listen: options.listen,
    ports: { join: options.joinPort, grpc: options.grpcPort },
  });
  const { evaluatorKeys, caKey, signingKey } = indexFiles(folder);
  output.say(
    [
      `The index "${options.name}" is ready in ${folder}.`,
      'Back up its keys now, apart from the database; without them the federation begins anew:',
      `  ${evaluatorKeys} (losing it unlinks every patient)`,
      `  ${caKey}`,
      `  ${signingKey}`,
      'Next: `meridian-index hospital add <name>` for every hospital, and `meridian-index serve`.',
    ].join('\n'),
    { folder, name: options.name, host: options.host },
  );
}

async function serve(parts: CommandParts, options: FolderOptions & { logLevel: string }, output: Output): Promise<void> {
  const stopped = new Promise<void>((stop) => parts.onStop(stop));
  const index = await openWhenFree(resolve(options.data), options.logLevel);
  output.say(`The index is open: hospitals join on port ${index.joinPort}, nodes call on port ${index.grpcPort}. Ctrl-C stops it.`, {
    joinPort: index.joinPort,
    grpcPort: index.grpcPort,
  });
  // A timer keeps the process alive while nothing is connected.
  const alive = setInterval(() => undefined, 3_600_000);
  await stopped;
  clearInterval(alive);
  await index.close();
  output.say('The index is stopped; nothing accepted was lost.', { stopped: true });
}

/** A short command (status, hospital add) may hold the folder for a moment: it is waited for, another index is not. */
async function openWhenFree(folder: string, logLevel: string): Promise<MeridianIndex> {
  const log = openLog({ part: 'index', level: logLevel });
  for (let tries = 0; ; tries += 1) {
    try {
      return await openIndex({ folder, log });
    } catch (thrown) {
      if (asMeshError(thrown).reason !== 'NODE_ALREADY_RUNNING' || tries >= FOLDER_TRIES || (await connectControl(folder)) !== undefined)
        throw thrown;
      await systemClock.sleep(FOLDER_WAIT_MS);
    }
  }
}

/** Asks the running index, or opens the folder of a stopped one. */
async function withAdmin(options: FolderOptions, run: (admin: IndexAdmin) => Promise<void>): Promise<void> {
  const folder = resolve(options.data);
  const running = await connectControl(folder);
  if (running !== undefined) return run(running);
  const core = await openIndexCore({ folder, clock: systemClock, random: systemRandom, log: silentLog });
  try {
    const kept = await keptPorts(folder);
    const ports = { join: core.settings.joinPort || (kept?.join ?? 0), grpc: core.settings.grpcPort || (kept?.grpc ?? 0) };
    await run(openIndexAdmin(core, { running: false, ports, connected: () => [] }));
  } finally {
    await core.close();
  }
}

function sayInvitation(output: Output, name: string, invitation: Invitation): void {
  const { nodeId, joinLink, expiresAt } = invitation;
  output.say(
    [
      `${name} may join as ${nodeId}. Give its IT this command over a channel that you trust; it works once, until ${expiresAt}, and is not shown again:`,
      `  meridian join '${joinLink}'`,
    ].join('\n'),
    invitation,
  );
}

function hospitalLine(hospital: IndexStatus['hospitals'][number]): string {
  const state =
    hospital.status === 'active'
      ? `active, ${hospital.coverage}${hospital.connected ? ', connected' : ''}${hospital.pending > 0 ? `, ${hospital.pending} studies pending` : ''}`
      : hospital.status;
  return `${hospital.nodeId}  ${hospital.name}  (${state})`;
}

function statusText(status: IndexStatus): string {
  return [
    `${status.name}: ${status.running ? `running, join port ${status.joinPort}, node port ${status.grpcPort}` : 'stopped'}.`,
    `${status.studies} studies, ${status.consents} consent statements, ${status.grants} grants; trust list number ${status.trustListSeq}.`,
    ...status.hospitals.map(hospitalLine),
  ].join('\n');
}

function outputOf(parts: CommandParts, options: FolderOptions): Output {
  return { say: (sentence, object) => parts.stdout.write(options.json ? `${JSON.stringify(object)}\n` : `${sentence}\n`) };
}

function parsePort(text: string): number {
  const port = Number(text);
  if (/^\d{1,5}$/.test(text) && port <= 65_535) return port;
  throw new InvalidArgumentError('A port is a number from 0 to 65535.');
}

function parseCount(text: string): number {
  const count = Number(text);
  if (/^\d{1,12}$/.test(text)) return count;
  throw new InvalidArgumentError('A count is a whole number.');
}
