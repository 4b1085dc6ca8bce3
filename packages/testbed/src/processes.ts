import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

const repositoryFolder = resolve(import.meta.dirname, '../../..');

/** The programs as a hospital starts them, and the node with a planted bug for the positive controls of campaigns. */
export const PROGRAMS = {
  meridian: join(repositoryFolder, 'bin/meridian'),
  'meridian-index': join(repositoryFolder, 'bin/meridian-index'),
  'planted-node': join(repositoryFolder, 'packages/testbed/src/planted-node.ts'),
} as const;

/** What `bin/meridian` gives to Node: benches that open rooms by themselves start alike. */
export const NODE_FLAGS: readonly string[] = ['--disable-warning=ExperimentalWarning', '--initial-old-space-size=512'];

export type Program = keyof typeof PROGRAMS;

/** What a finished command left. */
export interface Finished {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The pinned Node, or the one that runs this. */
export function nodeBinary(): string {
  const pinned = join(repositoryFolder, 'node_modules/.bin/node');
  return existsSync(pinned) ? pinned : process.execPath;
}

function start(program: Program, args: readonly string[], env: Readonly<Record<string, string>>): ChildProcess {
  const isSource = PROGRAMS[program].endsWith('.ts');
  return spawn(isSource ? nodeBinary() : PROGRAMS[program], isSource ? [...NODE_FLAGS, PROGRAMS[program], ...args] : args, {
    env: { ...process.env, NODE_OPTIONS: '', UV_THREADPOOL_SIZE: '16', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** Runs a command to its end, as a person types it. */
export async function runCommand(
  program: Program,
  args: readonly string[],
  options: { env?: Readonly<Record<string, string>>; timeoutMs?: number } = {},
): Promise<Finished> {
  const child = start(program, args, options.env ?? {});
  const deadline = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? 120_000);
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const [code] = (await once(child, 'close')) as [number | null];
  clearTimeout(deadline);
  return { code: code ?? -1, stdout, stderr };
}

/** A serving program in a process of its own. */
export interface Served {
  readonly pid: number;
  /** The last lines it wrote, for a failure's message. */
  readonly recentOutput: () => string;
  readonly exited: Promise<number | null>;
  /** SIGTERM and wait; SIGKILL after 20 s. */
  stop(): Promise<void>;
  /** SIGKILL and wait: what a power cut of the process alone looks like. */
  kill(): Promise<void>;
}

/** Starts a program that serves; the caller waits for what tells that it is ready. */
export function serve(program: Program, args: readonly string[], env: Readonly<Record<string, string>> = {}): Served {
  const child = start(program, args, env);
  const recent: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    if (stream === null) continue;
    createInterface({ input: stream }).on('line', (line) => {
      recent.push(line);
      if (recent.length > 60) recent.shift();
    });
  }
  const exited = new Promise<number | null>((done) => child.once('exit', (code) => done(code)));
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    child.kill(signal);
    const force = setTimeout(() => child.kill('SIGKILL'), 20_000);
    await exited;
    clearTimeout(force);
  };
  return { pid: child.pid ?? -1, recentOutput: () => recent.join('\n'), exited, stop: () => end('SIGTERM'), kill: () => end('SIGKILL') };
}

/** A node in a process of its own, once its API answers. */
export interface ServedNode extends Served {
  /** Origin of its HTTP listener. */
  readonly apiUrl: string;
  readonly ports: Readonly<Record<string, number>>;
}

/**
 * Starts a node over a data folder and waits until its API answers.
 * @throws Error with its last lines when it ends first or takes longer than a minute.
 */
export async function serveNode(options: { folder: string; env: Readonly<Record<string, string>>; plant?: string }): Promise<ServedNode> {
  const runFile = join(options.folder, 'run/node.json');
  rmSync(runFile, { force: true });
  const served =
    options.plant === undefined
      ? serve('meridian', ['serve', '--data', options.folder], options.env)
      : serve('planted-node', [options.folder, options.plant], options.env);
  const ready = await untilReady(served, async () => {
    const { apiUrl, pid } = JSON.parse(readFileSync(runFile, 'utf8')) as { apiUrl: string; pid: number };
    if (pid !== served.pid) return undefined;
    const response = await fetch(`${apiUrl}/node`, { signal: AbortSignal.timeout(5_000) });
    if (!response.ok) return undefined;
    return { apiUrl: new URL(apiUrl).origin, ports: ((await response.json()) as { ports: Record<string, number> }).ports };
  });
  return { ...served, ...ready };
}

/** Asks again and again until there is an answer. @throws Error when the program ends first, or after a minute. */
export async function untilReady<T>(served: Served, ask: () => Promise<T | undefined>): Promise<T> {
  let ended = false;
  void served.exited.then(() => (ended = true));
  for (let tries = 0; tries < 1200; tries += 1) {
    if (ended) throw new Error(`the program ended before it was ready:\n${served.recentOutput()}`);
    const answer = await ask().catch(() => undefined);
    if (answer !== undefined) return answer;
    await new Promise((wait) => setTimeout(wait, 50));
  }
  await served.kill();
  throw new Error(`the program was not ready within a minute:\n${served.recentOutput()}`);
}
