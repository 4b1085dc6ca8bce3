import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { repositoryFolder } from '@meridian/shared/testing/needs';
import { nodeBinary } from '../src/processes.ts';

const ENTRY = join(repositoryFolder, 'packages/testbed/src/demo/main.ts');
let folder = '';
const running = new Set<ChildProcess>();

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'meridian-demo-test-'));
});
afterAll(async () => {
  for (const child of running) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

interface Demo {
  readonly child: ChildProcess;
  output(): string;
  readonly ended: Promise<number | null>;
  until(text: RegExp): Promise<void>;
}

function demo(...args: string[]): Demo {
  const child = spawn(nodeBinary(), ['--disable-warning=ExperimentalWarning', ENTRY, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (piece: string) => (text += piece));
  const ended = once(child, 'close').then(([code]) => {
    running.delete(child);
    return code as number | null;
  });
  let over = false;
  void ended.then(() => (over = true));
  return {
    child,
    output: () => text,
    ended,
    async until(wanted) {
      for (let tries = 0; !wanted.test(text); tries += 1) {
        if (over || tries > 1200) throw new Error(`"${wanted.source}" did not come:\n${text}`);
        await new Promise((wait) => setTimeout(wait, 50));
      }
    },
  };
}

test('a stay tells the story and keeps its pages up; a second start, Ctrl-C, old data and a taken port all behave', async () => {
  const data = join(folder, 'stay');
  const first = demo('--data', data, '--port', '28400');
  await first.until(/Ctrl-C ends it/);
  const page = /http:\/\/127\.0\.0\.1:\d+/.exec(first.output())?.[0] ?? '';
  const answer = await fetch(page);
  expect(answer.status).toBe(200);
  expect(await answer.text()).toContain('<html');

  const second = demo('--data', data);
  expect(await second.ended).toBe(1);
  expect(second.output()).toMatch(/already running \(process \d+\)/);
  expect(second.output()).not.toMatch(/\n\s+at /);

  first.child.kill('SIGINT');
  expect(await first.ended).toBe(0);

  const blocker = createServer().listen(28451, '127.0.0.1');
  await once(blocker, 'listening');
  const blocked = demo('--data', data);
  expect(await blocked.ended).toBe(1);
  expect(blocked.output()).toMatch(/Port 28451 is in use by another program/);
  blocker.close();

  const again = demo('--data', data);
  await again.until(/Ctrl-C ends it/);
  expect(again.output()).toContain('Found the network of an earlier run');
  const studies = await (await fetch(`${page}/dicomweb/studies`, { headers: { accept: 'application/dicom+json' } })).json();
  expect((studies as unknown[]).length).toBeGreaterThanOrEqual(3);
  again.child.kill('SIGINT');
  expect(await again.ended).toBe(0);
}, 180_000);

test('a wrong option is answered with the usage', async () => {
  const wrong = demo('--twice');
  expect(await wrong.ended).toBe(2);
  expect(wrong.output()).toContain('Usage: npm start');
});
