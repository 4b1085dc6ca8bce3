import { parseArgs } from 'node:util';
import type { Bench, BenchRow } from './bench.ts';

const BENCHES: Readonly<Record<string, () => Promise<{ bench: Bench }>>> = {
  ingest: () => import('./ingest.ts'),
  transfer: () => import('./transfer.ts'),
};

/** Runs one bench; prints a table, and with --json one JSON object as the last line, also when it fails. */
async function main(): Promise<number> {
  const wantsJson = process.argv.includes('--json');
  const startedAt = performance.now();
  let name = '';
  try {
    const { positionals } = parseArgs({ args: process.argv.slice(2), allowPositionals: true, options: { json: { type: 'boolean' } } });
    name = positionals[0] ?? '';
    const open = BENCHES[name];
    if (open === undefined) {
      process.stderr.write(`Usage: npm run -s bench -- <name> [--json]\n\nBenches: ${Object.keys(BENCHES).join(', ')}\n`);
      if (wantsJson) process.stdout.write(`${JSON.stringify({ bench: name, ok: false, error: 'no such bench' })}\n`);
      return 2;
    }
    const { bench } = await open();
    process.stderr.write(`${bench.describe}\n`);
    const stop = new AbortController();
    process.once('SIGINT', () => stop.abort(new Error('stopped by Ctrl-C')));
    const result = await bench.run({ log: (line) => process.stderr.write(`${line}\n`), signal: stop.signal });
    process.stdout.write(
      `${table(result.rows)}\n\nratios (ours over theirs; above 1 we are faster)\n${table(Object.entries(result.ratios).map(([peer, ratio]) => ({ peer, ratio: ratio.toFixed(2) })))}\n\npeak memory, MB\n${table(Object.entries(result.peakMemoryMb).map(([process, mb]) => ({ process, mb: Math.round(mb) })))}\n`,
    );
    for (const note of result.notes ?? []) process.stdout.write(`note: ${note}\n`);
    if (wantsJson)
      process.stdout.write(
        `${JSON.stringify({ bench: name, ok: true, ratios: result.ratios, peakMemoryMb: result.peakMemoryMb, rows: result.rows, notes: result.notes ?? [], elapsedMs: Math.round(performance.now() - startedAt) })}\n`,
      );
    return 0;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    process.stderr.write(`${error instanceof Error ? (error.stack ?? message) : message}\n`);
    if (wantsJson) process.stdout.write(`${JSON.stringify({ bench: name, ok: false, error: message })}\n`);
    return 1;
  }
}

function table(rows: readonly BenchRow[]): string {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const cell = (row: BenchRow, column: string): string => String(row[column] ?? '');
  const widths = columns.map((column) => Math.max(column.length, ...rows.map((row) => cell(row, column).length)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((text, at) => text.padEnd(widths[at] ?? 0))
      .join('  ')
      .trimEnd();
  return [line(columns), ...rows.map((row) => line(columns.map((column) => cell(row, column))))].join('\n');
}

process.exitCode = await main();
setTimeout(() => process.exit(), 2_000).unref();
