import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, watch } from 'node:fs';
import { join, resolve } from 'node:path';
import { nodeBinary, PROGRAMS, runCommand } from '../processes.ts';
import { HOSPITALS } from './cast.ts';
import { freeBase, portsFrom } from './ports.ts';

/**
 * `npm run dev`: the demo's index and hospitals as processes of their own, and the pages rebuilt as they change. A part is
 * restarted when a file of its package changes; a change in shared restarts all of them.
 */
const root = resolve(import.meta.dirname, '../../../..');
const folder = join(root, '.meridian/dev');
const SETTLE_MS = 250;

interface Part {
  readonly name: string;
  readonly packageName: 'index' | 'node';
  readonly start: () => ChildProcess;
  process: ChildProcess | undefined;
}

const base = await freeBase(HOSPITALS.length);
const ports = portsFrom(base, HOSPITALS.length);
const indexFolder = join(folder, 'index');
const parts: Part[] = [
  part('index', 'index', 'meridian-index', ['serve', '--data', indexFolder], {}),
  ...HOSPITALS.map((hospital, at) =>
    part(hospital.key, 'node', 'meridian', ['serve', '--data', join(folder, hospital.key)], {
      MERIDIAN_NAME: hospital.name,
      MERIDIAN_ASSIGNING_AUTHORITY: hospital.assigningAuthority,
      MERIDIAN_AE_TITLE: hospital.aeTitle,
      MERIDIAN_HTTP_PORT: String(ports.hospitals[at]?.http),
      MERIDIAN_DIMSE_PORT: String(ports.hospitals[at]?.dimse),
      MERIDIAN_PEER_PORT: String(ports.hospitals[at]?.peer),
      MERIDIAN_QUIET_TIME_MS: '5000',
      MERIDIAN_RELEASED_QUIET_TIME_MS: '1000',
    }),
  ),
];

function part(
  name: string,
  packageName: Part['packageName'],
  program: keyof typeof PROGRAMS,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Part {
  const start = (): ChildProcess => {
    const child = spawn(PROGRAMS[program], args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => process.stdout.write(text.replace(/^(?=.)/gm, `[${name}] `)));
    return child;
  };
  return { name, packageName, start, process: undefined };
}

async function stop(one: Part): Promise<void> {
  const running = one.process;
  one.process = undefined;
  if (running === undefined || running.exitCode !== null) return;
  const ended = new Promise((done) => running.once('exit', done));
  running.kill('SIGTERM');
  await ended;
}

async function restart(packageName: string): Promise<void> {
  for (const one of parts.filter((candidate) => packageName === 'shared' || candidate.packageName === packageName)) {
    process.stdout.write(`[dev] restarting ${one.name}\n`);
    await stop(one);
    one.process = one.start();
  }
}

async function prepare(): Promise<void> {
  if (!existsSync(indexFolder)) {
    const made = await runCommand('meridian-index', [
      'init',
      '--data',
      indexFolder,
      '--name',
      'National index',
      '--host',
      '127.0.0.1',
      '--join-port',
      String(ports.join),
      '--grpc-port',
      String(ports.grpc),
    ]);
    if (made.code !== 0) throw new Error(made.stderr);
  }
  const index = parts[0] as Part;
  index.process = index.start();
  for (const hospital of HOSPITALS) {
    const data = join(folder, hospital.key);
    if (existsSync(join(data, 'identity'))) continue;
    const link = await joinLink(hospital.name);
    const joined = await runCommand('meridian', ['join', link, '--data', data]);
    if (joined.code !== 0) throw new Error(joined.stderr);
  }
  for (const one of parts.slice(1)) one.process = one.start();
}

async function joinLink(name: string): Promise<string> {
  for (let tries = 0; tries < 40; tries += 1) {
    const added = await runCommand('meridian-index', ['hospital', 'add', name, '--data', indexFolder, '--json']);
    if (added.code === 0) return (JSON.parse(added.stdout.trim().split('\n').at(-1) ?? '{}') as { joinLink: string }).joinLink;
    await new Promise((wait) => setTimeout(wait, 250));
  }
  throw new Error('the index did not answer within 10 s');
}

await prepare();
const web = spawn(nodeBinary(), [join(root, 'node_modules/vite/bin/vite.js'), 'build', 'packages/web', '--watch', '--logLevel', 'warn'], {
  cwd: root,
  stdio: 'inherit',
});
let due: NodeJS.Timeout | undefined;
const changed = new Set<string>();
for (const name of ['shared', 'index', 'node']) {
  watch(join(root, 'packages', name, 'src'), { recursive: true }, (_, file) => {
    if (file === null || !file.endsWith('.ts') || file.endsWith('.test.ts')) return;
    changed.add(name);
    clearTimeout(due);
    due = setTimeout(() => {
      const names = changed.has('shared') ? ['shared'] : [...changed];
      changed.clear();
      void names.reduce(async (before, one) => {
        await before;
        await restart(one);
      }, Promise.resolve());
    }, SETTLE_MS);
  });
}
for (const [at, hospital] of HOSPITALS.entries())
  process.stdout.write(`[dev] ${hospital.name}: http://127.0.0.1:${ports.hospitals[at]?.http}\n`);
process.stdout.write('[dev] Save a file to restart its part; Ctrl-C ends everything.\n');
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    web.kill();
    void Promise.all(parts.map(stop)).then(() => process.exit(0));
  });
}
