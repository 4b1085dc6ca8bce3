import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { loadNodeConfig, type NodeConfig } from '../../config.ts';
import type { CommandOutcome, CommandParts } from '../command.ts';
import { EXIT } from '../exit-codes.ts';

/** What `serve` needs of an open node. */
export interface ServedNode {
  /** Base of the JSON API: `http://127.0.0.1:8080/api/v1`. */
  readonly apiUrl: string;
  /** Address of the page. */
  readonly pageUrl: string;
  readonly dimsePort: number;
  close(): Promise<void>;
}

/** `meridian serve`: runs the node until Ctrl-C or SIGTERM. */
export async function serve(
  { terminal, folder, env, signal }: CommandParts,
  openNode: (config: NodeConfig) => Promise<ServedNode>,
): Promise<CommandOutcome> {
  const { say } = terminal;
  const config = loadNodeConfig({ folder, env });
  const node = await openNode(config);
  const runFile = join(folder, 'run', 'node.json');
  try {
    await writeRunFile(runFile, { pid: process.pid, apiUrl: node.apiUrl });
    terminal.note(say('serving', { url: node.pageUrl, ae: config.dimse.aeTitle, dimse: `${config.dimse.host}:${node.dimsePort}` }));
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
    terminal.note(say('stopping'));
  } finally {
    await rm(runFile, { force: true });
    await node.close();
  }
  terminal.note(say('stopped'));
  return { exitCode: EXIT.done, result: {} };
}

/** Whole or not at all: other commands read it at any moment. */
async function writeRunFile(path: string, running: { pid: number; apiUrl: string }): Promise<void> {
  await mkdir(join(path, '..'), { recursive: true, mode: 0o700 });
  const next = `${path}.${process.pid}`;
  await writeFile(next, `${JSON.stringify(running)}\n`, { mode: 0o600 });
  await rename(next, path);
}
