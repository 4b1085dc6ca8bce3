import { parseArgs } from 'node:util';
import type { Campaign } from './campaign.ts';

const CAMPAIGNS: Readonly<Record<string, () => Promise<{ campaign: Campaign }>>> = {
  interop: () => import('./interop.ts'),
  kill: () => import('./kill.ts'),
  outage: () => import('./outage.ts'),
};

const USAGE = `Usage: npm run -s campaign -- <name> [--count N] [--seed N] [--plant BUG] [--json]

Campaigns: ${Object.keys(CAMPAIGNS).join(', ')}
--plant puts a known bug in; the campaign must then fail.`;

interface Settings {
  readonly name: string;
  readonly count?: number;
  readonly seed?: number;
  readonly plant?: string;
  readonly json: boolean;
}

/** Runs one campaign; the last line is one JSON object with --json, also when it fails. Exit codes: 0 held, 1 broken, 2 usage. */
async function main(): Promise<number> {
  let settings: Settings;
  try {
    settings = readSettings(process.argv.slice(2));
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    process.stderr.write(`${message}\n\n${USAGE}\n`);
    if (process.argv.includes('--json')) print({ ok: false, error: message });
    return 2;
  }
  const startedAt = performance.now();
  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort(new Error('stopped by Ctrl-C')));
  try {
    const { campaign } = await CAMPAIGNS[settings.name]!();
    if (settings.plant !== undefined && !campaign.plants.includes(settings.plant)) {
      throw new Error(`The campaign ${settings.name} knows no bug "${settings.plant}". It knows: ${campaign.plants.join(', ')}.`);
    }
    const count = settings.count ?? campaign.defaults.count;
    const seed = settings.seed ?? campaign.defaults.seed;
    process.stderr.write(
      `${campaign.describe}\ncount ${count}, seed ${seed}${settings.plant === undefined ? '' : `, planted: ${settings.plant}`}\n`,
    );
    const result = await campaign.run({
      count,
      seed,
      ...(settings.plant === undefined ? {} : { plant: settings.plant }),
      log: (line) => process.stderr.write(`${line}\n`),
      signal: stop.signal,
    });
    const elapsedMs = Math.round(performance.now() - startedAt);
    for (const problem of result.problems) process.stderr.write(`BROKEN: ${problem}\n`);
    const summary = {
      campaign: settings.name,
      ok: result.ok,
      count,
      seed,
      ...(settings.plant === undefined ? {} : { plant: settings.plant }),
      ...result.figures,
      problems: result.problems,
      elapsedMs,
    };
    if (settings.json) print(summary);
    else
      process.stdout.write(
        `${Object.entries(summary)
          .map(([key, value]) => `${key}: ${typeof value === 'object' ? JSON.stringify(value) : String(value)}`)
          .join('\n')}\n`,
      );
    return result.ok ? 0 : 1;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    process.stderr.write(`${error instanceof Error ? (error.stack ?? message) : message}\n`);
    if (settings.json) print({ campaign: settings.name, ok: false, error: message, elapsedMs: Math.round(performance.now() - startedAt) });
    return 1;
  }
}

function readSettings(args: readonly string[]): Settings {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { count: { type: 'string' }, seed: { type: 'string' }, plant: { type: 'string' }, json: { type: 'boolean', default: false } },
  });
  const name = positionals[0];
  if (name === undefined || positionals.length > 1 || !(name in CAMPAIGNS))
    throw new Error(name === undefined ? 'Which campaign?' : `There is no campaign "${positionals.join(' ')}".`);
  return {
    name,
    json: values.json,
    ...(values.count === undefined ? {} : { count: wholeNumber('--count', values.count, 1) }),
    ...(values.seed === undefined ? {} : { seed: wholeNumber('--seed', values.seed, 0) }),
    ...(values.plant === undefined ? {} : { plant: values.plant }),
  };
}

function wholeNumber(option: string, text: string, least: number): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < least) throw new Error(`${option} must be a whole number from ${least}, got "${text}".`);
  return value;
}

function print(summary: unknown): void {
  process.stdout.write(`${JSON.stringify(summary)}\n`);
}

process.exitCode = await main();
// A peer's stray handle must not keep a finished campaign alive.
setTimeout(() => process.exit(), 2_000).unref();
