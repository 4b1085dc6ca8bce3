#!/usr/bin/env node
// The one bootstrap behind `npm start`, `npm test` and the other commands: plain JavaScript that runs on Node 18 and later.
// It installs what the lockfile names, makes what is generated, and then runs the command under the pinned Node.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const PNPM = 'pnpm@12.21.0';
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const bin = join(root, 'node_modules', '.bin');
const stamps = join(root, 'node_modules', '.meridian');
const [command = '', ...args] = process.argv.slice(2);

const COMMANDS = {
  start: { web: true, run: () => pinned('packages/testbed/src/demo/main.ts', ...args) },
  dev: { web: true, run: () => pinned('packages/testbed/src/demo/dev.ts', ...args) },
  campaign: { web: false, run: () => pinned('packages/testbed/src/campaigns/main.ts', ...args) },
  bench: { web: false, run: () => pinned('packages/testbed/src/bench/main.ts', ...args) },
  test: { web: true, run: () => [node(), ['--experimental-vm-modules', '--no-warnings', 'node_modules/jest/bin/jest.js', ...args]] },
  lint: { web: false, run: () => [node(), ['scripts/lint.mjs', ...args]] },
  prepare: { web: true, run: () => undefined },
};

function pinned(entry, ...rest) {
  return [node(), ['--disable-warning=ExperimentalWarning', entry, ...rest]];
}

/** The pinned Node where the platform has one, else the running one if it is new enough. */
function node() {
  const own = join(bin, process.platform === 'win32' ? 'node.cmd' : 'node');
  if (existsSync(own)) return own;
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > 22 || (major === 22 && minor >= 18)) return process.execPath;
  fail(`No pinned Node is published for ${process.platform}-${process.arch}. Install Node 24 and run the command again.`);
}

function fail(sentence) {
  process.stderr.write(`${sentence}\n`);
  if (args.includes('--json')) process.stdout.write(`${JSON.stringify({ ok: false, error: sentence })}\n`);
  process.exit(1);
}

function digest(paths) {
  const hash = createHash('sha256');
  const visit = (path) => {
    if (!existsSync(path)) return;
    if (statSync(path).isDirectory()) for (const name of readdirSync(path).sort()) visit(join(path, name));
    else hash.update(path.slice(root.length)).update('\0').update(readFileSync(path)).update('\0');
  };
  for (const path of paths) visit(join(root, path));
  return hash.digest('hex');
}

/** Runs a step only when its inputs changed or its output is gone; what it prints goes to standard error. */
function step(name, inputs, output, title, program, programArgs) {
  const stamp = join(stamps, name);
  const now = digest(inputs);
  if (existsSync(join(root, output)) && existsSync(stamp) && readFileSync(stamp, 'utf8') === now) return;
  process.stderr.write(`${title}\n`);
  const done = spawnSync(program, programArgs, {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    env: environment(),
    shell: process.platform === 'win32',
  });
  if (done.status !== 0) {
    process.stderr.write(`${done.stdout ?? ''}${done.stderr ?? ''}${done.error ? `${done.error.message}\n` : ''}`);
    fail(`"${name}" failed; the lines above say why. Nothing was started.`);
  }
  mkdirSync(stamps, { recursive: true });
  writeFileSync(stamp, now);
}

function environment() {
  return {
    ...process.env,
    PATH: `${bin}${delimiter}${process.env.PATH ?? ''}`,
    UV_THREADPOOL_SIZE: process.env.UV_THREADPOOL_SIZE ?? '16',
  };
}

const chosen = COMMANDS[command];
if (chosen === undefined) fail(`Unknown command "${command}". Known: ${Object.keys(COMMANDS).join(', ')}.`);

step(
  'install',
  ['pnpm-lock.yaml', 'pnpm-workspace.yaml', 'package.json'],
  'node_modules/.modules.yaml',
  'Installing what the lockfile names (once, about 20 s)…',
  'npx',
  ['--yes', PNPM, 'install', '--frozen-lockfile'],
);
step('generate', ['proto', 'buf.gen.yaml'], 'packages/shared/src/generated', 'Generating the contract…', join(bin, 'buf'), ['generate']);
if (chosen.web)
  step(
    'web',
    ['packages/web/src', 'packages/web/index.html', 'packages/web/vite.config.ts', 'packages/web/package.json'],
    'packages/web/dist/index.html',
    'Building the pages…',
    node(),
    ['node_modules/vite/bin/vite.js', 'build', 'packages/web', '--logLevel', 'warn'],
  );

const planned = chosen.run();
if (planned !== undefined) {
  const child = spawn(planned[0], planned[1], { cwd: root, stdio: 'inherit', env: environment() });
  // Ctrl-C reaches the child through the terminal; a plain kill is passed on.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
    process.on(signal, () => (signal === 'SIGINT' && process.stdin.isTTY ? undefined : child.kill(signal)));
  child.on('exit', (code, signal) => process.exit(code ?? (signal === 'SIGINT' ? 130 : 1)));
}
