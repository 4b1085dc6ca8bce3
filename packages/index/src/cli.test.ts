import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { runCommand } from './cli.ts';
import { joinNode } from './test-network.ts';

const main = join(import.meta.dirname, 'main.ts');

interface Finished {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function start(...argv: string[]): ChildProcess {
  return spawn(process.execPath, ['--no-warnings', main, ...argv], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'] },
  });
}

/** The command in this process; `serve` and signals run in one of their own. */
async function run(...argv: string[]): Promise<Finished> {
  const text = { stdout: '', stderr: '' };
  const code = await runCommand(argv, {
    environment: {},
    stdout: { write: (chunk) => (text.stdout += chunk) },
    stderr: { write: (chunk) => (text.stderr += chunk) },
    onStop: () => undefined,
  });
  return { code, ...text };
}

async function serveUntilOpen(folder: string): Promise<{ child: ChildProcess; joinPort: number }> {
  const child = start('serve', '--data', folder, '--json', '--log-level', 'error');
  const [line] = (await once(child.stdout as NodeJS.ReadableStream, 'data')) as [Buffer];
  return { child, ...(JSON.parse(line.toString()) as { joinPort: number }) };
}

test('an operator makes, fills, runs and asks an index by its commands', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'meridian-index-cli-'));
  const running: ChildProcess[] = [];
  try {
    const early = await run('serve', '--data', folder);
    expect(early.code).toBe(1);
    expect(early.stderr).toMatch(/There is no index in .*meridian-index init/);
    const made = await run('init', '--data', folder, '--name', '国家影像索引', '--join-port', '0', '--grpc-port', '0', '--json');
    expect(made.code).toBe(0);
    expect((JSON.parse(made.stdout) as { name: string }).name).toBe('国家影像索引');
    expect((await run('init', '--data', folder)).stderr).toMatch(/is an index in .* already/);
    for (const file of await readdir(folder)) expect((await stat(join(folder, file))).mode & 0o077).toBe(0);
    const premature = await run('hospital', 'add', 'Too early', '--data', folder);
    expect(premature.code).toBe(1);
    expect(premature.stderr).toMatch(/Start the index/);

    const served = await serveUntilOpen(folder);
    running.push(served.child);
    const second = await run('serve', '--data', folder);
    expect(second.code).toBe(1);
    expect(second.stderr).not.toMatch(/at |Error/);
    const added = JSON.parse((await run('hospital', 'add', '协和医院', '--data', folder, '--json')).stdout) as {
      joinLink: string;
      nodeId: string;
    };
    expect(added.joinLink).toMatch(new RegExp(`^https://127\\.0\\.0\\.1:${served.joinPort}#[A-Z2-7]{26}\\.[0-9a-f]{64}$`));
    const node = await joinNode(added.joinLink);
    node.close();
    const status = JSON.parse((await run('status', '--data', folder, '--json')).stdout) as {
      running: boolean;
      hospitals: { status: string; coverage: string }[];
    };
    expect(status).toMatchObject({
      running: true,
      hospitals: [{ nodeId: added.nodeId, name: '协和医院', status: 'active', coverage: 'never heard' }],
    });
    served.child.kill('SIGTERM');
    const [code] = (await once(served.child, 'exit')) as [number];
    expect(code).toBe(0);

    const stopped = await run('hospital', 'add', 'Second', '--data', folder);
    expect(stopped.code).toBe(0);
    expect(stopped.stdout).toContain(`https://127.0.0.1:${served.joinPort}#`);
    expect((await run('hospital', 'revoke', added.nodeId, '--data', folder)).code).toBe(0);
    expect((await run('hospital', 'list', '--data', folder)).stdout).toMatch(/协和医院 {2}\(revoked\)[\s\S]*Second {2}\(invited\)/);

    const again = await serveUntilOpen(folder);
    running.push(again.child);
    expect(again.joinPort).toBe(served.joinPort);
    again.child.kill('SIGKILL');
    await once(again.child, 'exit');
    expect((await run('status', '--data', folder)).stdout).toMatch(/stopped/);
    const wrong = await run('hospital', 'revoke', 'n-aaaaaaaaaaaaaaaa', '--data', folder, '--json');
    expect(wrong.code).toBe(1);
    expect(JSON.parse(wrong.stdout)).toMatchObject({ ok: false, reason: 'NODE_UNKNOWN' });
  } finally {
    for (const child of running) child.kill('SIGKILL');
    await rm(folder, { recursive: true, force: true });
  }
});

test('help is help, and wrong usage says so', async () => {
  const child = start('--help');
  const [text] = (await once(child.stdout as NodeJS.ReadableStream, 'data')) as [Buffer];
  expect(text.toString()).toContain('hospital');
  expect((await run('hospital', 'add')).code).toBe(2);
  expect((await run('nonsense')).code).toBe(2);
  expect((await run('init', '--join-port', '99999')).stderr).toMatch(/0 to 65535/);
});
