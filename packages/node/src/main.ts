import { createRequire } from 'node:module';
import { runCommandLine } from './cli/program.ts';

// Of all that is written, nothing is for other accounts of the machine.
process.umask(0o077);

/** The `meridian` command line. What only `join` and `serve` need is loaded by them: the other commands answer at once. */
const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort(new Error(signal)));

// `meridian history … | head` closes the pipe early: that is no fault.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit();
  });
}

process.exitCode = await runCommandLine(process.argv.slice(2), {
  version: (createRequire(import.meta.url)('../package.json') as { version: string }).version,
  env: process.env,
  out: process.stdout,
  err: process.stderr,
  signal: stop.signal,
  openNode: async (config) => (await import('./node.ts')).openNode(config),
  join: async (request) => (await import('./federation/join.ts')).joinFederation(request),
});
