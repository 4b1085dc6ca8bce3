import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { openNetwork, type NetworkPorts } from '../network.ts';
import { HOSPITALS, WANG } from './cast.ts';
import { freeBase, portsFrom, takenPort } from './ports.ts';
import { tellStory } from './story.ts';
import { openTeller } from './teller.ts';

const USAGE = `Usage: npm start [-- --once] [--json] [--fresh] [--port BASE] [--data FOLDER]

Opens a national index and three hospitals on this machine, sends real DICOM, and tells the way of one study from a scanner
to a doctor in another hospital. Then the pages stay up until Ctrl-C.

--once        tell the story on fresh data in a temporary folder, then end
--json        one JSON summary as the last line
--fresh       forget the data of earlier runs first
--port BASE   first port to use (default: the first free base from 18400)
--data FOLDER where the demo keeps its data (default: .meridian/demo)`;

const DEFAULT_FOLDER = resolve(import.meta.dirname, '../../../../.meridian/demo');

interface Options {
  readonly once: boolean;
  readonly json: boolean;
  readonly fresh: boolean;
  readonly base?: number;
  readonly folder: string;
}

/** What the demo writes down beside its data. */
const REMEMBERED = 'demo.json';

interface Remembered {
  readonly base: number;
  readonly pid: number;
  readonly told: boolean;
}

async function main(): Promise<number> {
  const options = readOptions();
  if (options === undefined) return 2;
  const startedAt = performance.now();
  try {
    return await (options.once ? once(options.json, startedAt) : stay(options, startedAt));
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    process.stderr.write(`\n${message}\n`);
    if (process.env['MERIDIAN_DEBUG'] !== undefined && error instanceof Error) process.stderr.write(`${error.stack}\n`);
    if (options.json) process.stdout.write(`${JSON.stringify({ ok: false, error: message })}\n`);
    return 1;
  }
}

/** The story on fresh data, with free ports, leaving nothing behind. */
async function once(json: boolean, startedAt: number): Promise<number> {
  const temporary = mkdtempSync(join(tmpdir(), 'meridian-demo-'));
  const teller = openTeller(json ? process.stderr : process.stdout);
  try {
    const network = await openNetwork({ folder: temporary, hospitals: HOSPITALS, logLevel: 'error' });
    try {
      const summary = await tellStory(network, teller);
      const elapsedMs = Math.round(performance.now() - startedAt);
      if (json) process.stdout.write(`${JSON.stringify({ ok: true, ...summary, elapsedMs })}\n`);
      return 0;
    } finally {
      await network.close();
    }
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** The network on its own folder; the story where it was not told yet; then the pages stay up. */
async function stay(options: Options, startedAt: number): Promise<number> {
  const { folder } = options;
  const teller = openTeller(options.json ? process.stderr : process.stdout);
  const before = readRemembered(folder);
  if (before !== undefined && isAlive(before.pid)) {
    throw new Error(
      `The demo is already running (process ${before.pid}): ${pages(portsFrom(before.base, HOSPITALS.length)).join('  ')}\nUse those pages, or stop it with Ctrl-C in its terminal first. Nothing was changed.`,
    );
  }
  if (options.fresh) rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const known = options.fresh ? undefined : before;
  const base = options.base ?? known?.base ?? (await freeBase(HOSPITALS.length));
  const ports = portsFrom(base, HOSPITALS.length);
  const taken = await takenPort(ports);
  if (taken !== undefined) {
    throw new Error(
      `Port ${taken} is in use by another program. The data in ${folder} was made with ports from ${base}: close that program, or start over with: npm start -- --fresh`,
    );
  }
  const remember = (told: boolean): void =>
    writeFileSync(join(folder, REMEMBERED), JSON.stringify({ base, pid: process.pid, told } satisfies Remembered));
  remember(known?.told ?? false);
  const network = await openNetwork({ folder, hospitals: HOSPITALS, ports, logLevel: 'error' });
  const stopped = untilStopped();
  try {
    if (known?.told === true) {
      teller.say('Found the network of an earlier run with its data; its story is not told twice (npm start -- --fresh begins anew).');
    } else {
      const summary = await tellStory(network, teller);
      remember(true);
      if (options.json)
        process.stdout.write(`${JSON.stringify({ ok: true, ...summary, elapsedMs: Math.round(performance.now() - startedAt) })}\n`);
    }
    teller.chapter('Look for yourself');
    for (const hospital of network.hospitals)
      teller.say(`${hospital.url}  ${hospital.name}  (C-STORE to ${hospital.aeTitle} at 127.0.0.1:${hospital.dimsePort})`);
    teller.say(`Search for ${WANG.residentId}. Ctrl-C ends it; the data stays in ${folder}.`);
    await stopped;
    teller.say('Closing…');
  } finally {
    await network.close();
    writeFileSync(
      join(folder, REMEMBERED),
      JSON.stringify({ base, pid: 0, told: readRemembered(folder)?.told ?? false } satisfies Remembered),
    );
  }
  return 0;
}

function pages(ports: NetworkPorts): string[] {
  return ports.hospitals.map(({ http }) => `http://127.0.0.1:${http}`);
}

function readRemembered(folder: string): Remembered | undefined {
  try {
    return JSON.parse(readFileSync(join(folder, REMEMBERED), 'utf8')) as Remembered;
  } catch {
    // No earlier run, or one that was cut off while it wrote: both begin anew.
    return undefined;
  }
}

function isAlive(pid: number): boolean {
  if (pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function untilStopped(): Promise<void> {
  return new Promise((done) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => done());
  });
}

function readOptions(): Options | undefined {
  try {
    const { values } = parseArgs({
      args: process.argv.slice(2),
      options: {
        once: { type: 'boolean' },
        json: { type: 'boolean' },
        fresh: { type: 'boolean' },
        port: { type: 'string' },
        data: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    });
    if (values.help === true) {
      process.stdout.write(`${USAGE}\n`);
      process.exit(0);
    }
    const base = values.port === undefined ? undefined : Number(values.port);
    if (base !== undefined && (!Number.isInteger(base) || base < 1024 || base > 65_000))
      throw new Error(`--port must be a number from 1024 to 65000, got "${values.port}"`);
    return {
      once: values.once ?? false,
      json: values.json ?? false,
      fresh: values.fresh ?? false,
      folder: resolve(values.data ?? DEFAULT_FOLDER),
      ...(base === undefined ? {} : { base }),
    };
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n${USAGE}\n`);
    return undefined;
  }
}

process.exitCode = await main();
