import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import { mkdir, readdir } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { delimiter, join } from 'node:path';

/** What a program of dcmtk said. */
export interface Ran {
  readonly exitCode: number;
  readonly output: string;
}

/** Without TCP_NODELAY dcmtk waits 40 ms an instance for a delayed acknowledgement. */
const ENVIRONMENT = { ...process.env, TCP_NODELAY: '1' };

/** Runs one of dcmtk's programs to its end, for at most `timeoutMs`. */
export async function dcmtk(
  program: string,
  args: readonly string[],
  { timeoutMs = 60_000, signal }: { timeoutMs?: number; signal?: AbortSignal } = {},
): Promise<Ran> {
  return await new Promise((resolve) => {
    execFile(
      program,
      [...args],
      {
        env: ENVIRONMENT,
        timeout: timeoutMs,
        maxBuffer: 64 * 1024 * 1024,
        encoding: 'latin1',
        ...(signal === undefined ? {} : { signal }),
      },
      (error, stdout, stderr) => {
        const exitCode = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
        resolve({ exitCode, output: `${stdout}${stderr}${exitCode === -1 ? `\n${error?.message ?? ''}` : ''}` });
      },
    );
  });
}

/** The option of storescu that proposes a transfer syntax first; undefined where dcmtk 3.6.7 does not know it. */
export const STORESCU_OPTION: Readonly<Record<string, string>> = {
  '1.2.840.10008.1.2': '-xi',
  '1.2.840.10008.1.2.1': '-xe',
  '1.2.840.10008.1.2.2': '-xb',
  '1.2.840.10008.1.2.1.99': '-xd',
  '1.2.840.10008.1.2.4.50': '-xy',
  '1.2.840.10008.1.2.4.51': '-xx',
  '1.2.840.10008.1.2.4.70': '-xs',
  '1.2.840.10008.1.2.4.80': '-xt',
  '1.2.840.10008.1.2.4.81': '-xu',
  '1.2.840.10008.1.2.4.90': '-xv',
  '1.2.840.10008.1.2.4.91': '-xw',
  '1.2.840.10008.1.2.4.100': '-xm',
  '1.2.840.10008.1.2.4.101': '-xh',
  '1.2.840.10008.1.2.4.102': '-xn',
  '1.2.840.10008.1.2.4.103': '-xl',
  '1.2.840.10008.1.2.4.107': '-x4',
  '1.2.840.10008.1.2.4.108': '-x5',
  '1.2.840.10008.1.2.5': '-xr',
};

/** A storescp that writes exactly what it reads. */
export interface StoreScp {
  readonly port: number;
  readonly pid: number;
  readonly folder: string;
  /** Files written and not yet taken. */
  files(): Promise<string[]>;
  close(): Promise<void>;
}

/** Starts `storescp +B`: it accepts any storage class in the transfer syntaxes that its `options` prefer. */
export async function openStoreScp({ folder, options = ['+xa'] }: { folder: string; options?: readonly string[] }): Promise<StoreScp> {
  await mkdir(folder, { recursive: true });
  const port = await freePort();
  const child = spawn('storescp', ['+B', '-pm', ...options, '--max-pdu', '131072', '-od', folder, String(port)], {
    env: ENVIRONMENT,
    stdio: 'ignore',
  });
  try {
    await untilListening(port, child);
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
  return {
    port,
    pid: child.pid ?? 0,
    folder,
    files: async () => (await readdir(folder)).map((name) => join(folder, name)),
    close: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** Resolves once a child answers on its port. @throws when it exits or stays silent for 20 s */
export async function untilListening(port: number, child: ChildProcess): Promise<void> {
  for (let attempt = 0; attempt < 400; attempt += 1) {
    if (child.exitCode !== null) throw new Error(`The program ended with ${child.exitCode} before it listened on port ${port}.`);
    const socket = connect({ port, host: '127.0.0.1' });
    const isOpen = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true));
      socket.once('error', () => resolve(false));
    });
    socket.destroy();
    if (isOpen) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`Nothing listened on port ${port} within 20 s.`);
}

/** True where a program can be run. */
export function isInstalled(program: string): boolean {
  return [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin'].some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
