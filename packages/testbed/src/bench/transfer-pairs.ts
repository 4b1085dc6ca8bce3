import { NODE_FLAGS } from '../processes.ts';
import { execFile, fork, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';
import { part10Prefix } from '@meridian/node/dicom/part10';
import { generateStudy } from '../data/studies.ts';
import { BENCH_STUDY } from './transfer-parts.ts';
import type { Ask, Role, Told } from './transfer-process.ts';

/** Two processes between which the study can be sent again and again. */
export interface Pair {
  readonly name: string;
  /** Sends the study once. @returns data set bytes and seconds until all is at the other end. */
  transfer(round: number): Promise<{ readonly bytes: number; readonly seconds: number }>;
  /** Largest resident memory so far, MB, by process. */
  peakMemoryMb(): Promise<Record<string, number>>;
  close(): Promise<void>;
}

const START_TIMEOUT_MS = 180_000;

/** Ours: a holder and an asker with their stores, over a real peer connection. */
export function openMeridianPair(folder: string): Promise<Pair> {
  return openNodePair('meridian', folder, 'holder', 'asker');
}

/** @returns undefined where there is no openssl to make the certificate. */
export async function openTlsPair(folder: string): Promise<Pair | undefined> {
  await mkdir(folder, { recursive: true });
  try {
    const files = ['-keyout', join(folder, 'key.pem'), '-out', join(folder, 'cert.pem')];
    await promisify(execFile)('openssl', [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-days',
      '2',
      '-subj',
      '/CN=bench',
      '-addext',
      'subjectAltName=DNS:bench',
      ...files,
    ]);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  return openNodePair('node:tls', folder, 'tls-sender', 'tls-receiver');
}

async function openNodePair(name: string, folder: string, sending: Role, receiving: Role): Promise<Pair> {
  await mkdir(folder, { recursive: true });
  const children = [sending, receiving].map((role) =>
    fork(new URL('./transfer-process.ts', import.meta.url), [role, folder], {
      execArgv: [...NODE_FLAGS],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    }),
  ) as [ChildProcess, ChildProcess];
  const close = async (): Promise<void> => {
    await Promise.all(children.map((child) => stop(child)));
  };
  try {
    const [sender] = await Promise.all(children.map((child) => answerOf(child)));
    const receiver = children[1];
    return {
      name,
      async transfer(round) {
        const answer = answerOf(receiver);
        receiver.send({ round, addresses: sender?.addresses ?? [], manifest: sender?.manifest ?? '' } satisfies Ask);
        const { bytes = 0, seconds = Number.NaN } = await answer;
        return { bytes, seconds };
      },
      peakMemoryMb: async () => ({ [`${name} ${sending}`]: await peakOf(children[0]), [`${name} ${receiving}`]: await peakOf(receiver) }),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Two of Debian's Orthancs as shipped; the first sends by its peer store. @returns undefined where Orthanc is not installed. */
export async function openOrthancPair(folder: string): Promise<Pair | undefined> {
  const [toHttp, fromHttp] = [await freePort(), await freePort()];
  const to = await startOrthanc(join(folder, 'b'), toHttp, {});
  if (to === undefined) return undefined;
  const from = await startOrthanc(join(folder, 'a'), fromHttp, { B: { Url: `http://127.0.0.1:${toHttp}/`, Timeout: 600 } });
  const close = async (): Promise<void> => {
    for (const child of [to, from]) if (child !== undefined) await stop(child);
  };
  try {
    if (from === undefined) throw new Error('the second Orthanc did not start');
    let bytes = 0;
    for (const instance of generateStudy(BENCH_STUDY)) {
      bytes += instance.dataSet.length;
      await call(`http://127.0.0.1:${fromHttp}/instances`, {
        method: 'POST',
        body: new Uint8Array(Buffer.concat([part10Prefix(instance), instance.dataSet])),
      });
    }
    const studies = (await call(`http://127.0.0.1:${fromHttp}/studies`)) as string[];
    return {
      name: 'orthanc',
      async transfer() {
        const startedAt = performance.now();
        await call(`http://127.0.0.1:${fromHttp}/peers/B/store`, {
          method: 'POST',
          body: JSON.stringify({ Resources: studies, Synchronous: true }),
        });
        const seconds = (performance.now() - startedAt) / 1000;
        const { CountInstances } = (await call(`http://127.0.0.1:${toHttp}/statistics`)) as { CountInstances: number };
        if (CountInstances !== BENCH_STUDY.slices) throw new Error(`Orthanc stored ${CountInstances} of ${BENCH_STUDY.slices}`);
        for (const study of (await call(`http://127.0.0.1:${toHttp}/studies`)) as string[])
          await call(`http://127.0.0.1:${toHttp}/studies/${study}`, { method: 'DELETE' });
        return { bytes, seconds };
      },
      peakMemoryMb: async () => ({ 'orthanc sender': await peakOf(from), 'orthanc receiver': await peakOf(to) }),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function startOrthanc(folder: string, httpPort: number, peers: Record<string, unknown>): Promise<ChildProcess | undefined> {
  await mkdir(folder, { recursive: true });
  const config = join(folder, 'orthanc.json');
  const storage = join(folder, 'db');
  await writeFile(
    config,
    JSON.stringify({
      Name: 'BENCH',
      StorageDirectory: storage,
      IndexDirectory: storage,
      Plugins: [],
      HttpServerEnabled: true,
      HttpPort: httpPort,
      HttpBindAddresses: ['127.0.0.1'],
      RemoteAccessAllowed: false,
      AuthenticationEnabled: false,
      DicomServerEnabled: false,
      OrthancPeers: peers,
    }),
  );
  const child = spawn('Orthanc', [config], {
    stdio: 'ignore',
    env: { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin`, TCP_NODELAY: '1' },
  });
  const missing = await new Promise<boolean>((resolve) => {
    child.once('spawn', () => resolve(false));
    child.once('error', () => resolve(true));
  });
  if (missing) return undefined;
  for (let tries = 0; tries < 300; tries += 1) {
    if (child.exitCode !== null) throw new Error(`Orthanc ended at its start with ${child.exitCode}`);
    const isUp = await fetch(`http://127.0.0.1:${httpPort}/system`).then(
      (answer) => answer.ok,
      () => false,
    );
    if (isUp) return child;
    await wait(100);
  }
  await stop(child);
  throw new Error('Orthanc did not open its port in 30 s');
}

async function call(url: string, init: RequestInit = {}): Promise<unknown> {
  const answer = await fetch(url, { ...init, signal: AbortSignal.timeout(300_000) });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}: ${text.slice(0, 200)}`);
  return text === '' ? undefined : JSON.parse(text);
}

async function answerOf(child: ChildProcess): Promise<Told> {
  const exited = new AbortController();
  const onExit = (): void => exited.abort(new Error(`a process of the bench ended with ${child.exitCode}`));
  child.once('exit', onExit);
  try {
    const [told] = (await once(child, 'message', { signal: AbortSignal.any([exited.signal, AbortSignal.timeout(START_TIMEOUT_MS)]) })) as [
      Told,
    ];
    if (told.error !== undefined) throw new Error(told.error);
    return told;
  } finally {
    child.off('exit', onExit);
  }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

async function peakOf(child: ChildProcess): Promise<number> {
  const status = await readFile(`/proc/${child.pid}/status`, 'utf8').catch(() => '');
  return Math.round(Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? Number.NaN) / 1000);
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address !== null ? address.port : 0;
}
