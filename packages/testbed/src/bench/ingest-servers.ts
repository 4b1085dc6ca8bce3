import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { freePort, openStoreScp, untilListening } from '@meridian/node/dimse/testing/dcmtk';
import { CAMPAIGN_NODE } from '../campaigns/kill.ts';
import { hospitalClient } from '../hospital-client.ts';
import { serveNode } from '../processes.ts';

/** A C-STORE SCP in a process of its own, over an empty folder. */
export interface StoreServer {
  readonly port: number;
  readonly pid: number;
  readonly aeTitle: string;
  /** Objects that it holds. */
  stored(): Promise<number>;
  /** Stops it and removes what it stored. */
  close(): Promise<void>;
}

/** How a server is started; the folder is its own. */
export type StartServer = (folder: string) => Promise<StoreServer>;

/** Our node, as `meridian serve` runs it. */
export const startMeridian: StartServer = async (folder) => {
  const node = await serveNode({ folder, env: { ...CAMPAIGN_NODE, MERIDIAN_DIMSE_ASSOCIATIONS_PER_ADDRESS: '100' } });
  return {
    port: node.ports['dimse'] ?? 0,
    pid: node.pid,
    aeTitle: 'MERIDIAN',
    stored: async () => (await hospitalClient(`http://127.0.0.1:${node.ports['http']}`).node()).storage.instances,
    close: async () => {
      await node.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
};

/** Debian's Orthanc as shipped, on loopback: SQLite index, one file an object, flushed. */
export const startOrthanc: StartServer = async (folder) => {
  await mkdir(folder, { recursive: true });
  const [port, httpPort] = [await freePort(), await freePort()];
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
      RemoteAccessAllowed: false,
      AuthenticationEnabled: false,
      DicomServerEnabled: true,
      DicomAet: 'ORTHANC',
      DicomPort: port,
      DicomCheckCalledAet: false,
      DicomAlwaysAllowStore: true,
      DicomAlwaysAllowEcho: true,
    }),
  );
  const child = spawn('Orthanc', [config], {
    stdio: 'ignore',
    env: { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin`, TCP_NODELAY: '1' },
  });
  const close = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await untilListening(port, child);
  } catch (error) {
    await close();
    throw error;
  }
  return { port, pid: child.pid ?? 0, aeTitle: 'ORTHANC', stored: () => orthancStored(httpPort), close };
};

async function orthancStored(httpPort: number): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${httpPort}/statistics`, { signal: AbortSignal.timeout(30_000) });
  return ((await response.json()) as { readonly CountInstances: number }).CountInstances;
}

/** dcmtk's storescp writing what it reads: no index, no flush. A bound, not an archive. */
export const startStoreScp: StartServer = async (folder) => {
  const scp = await openStoreScp({ folder });
  return {
    port: scp.port,
    pid: scp.pid,
    aeTitle: 'STORESCP',
    stored: async () => (await scp.files()).length,
    close: async () => {
      await scp.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
};

/** Largest resident memory that a process has had, MB. */
export async function peakMemoryMb(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? Number.NaN) / 1000;
}
