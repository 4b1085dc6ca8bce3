import { once } from 'node:events';
import { createServer } from 'node:net';
import type { NetworkPorts } from '../network.ts';

/** First port of the demo where nothing else listens there. */
const FIRST_BASE = 18_400;
const STEP = 100;
const TRIES = 20;

/** The demo's ports from one base: index 0–1, pages from 51, DICOM from 61, peers from 71. */
export function portsFrom(base: number, hospitals: number): NetworkPorts {
  return {
    join: base,
    grpc: base + 1,
    hospitals: Array.from({ length: hospitals }, (_, at) => ({ http: base + 51 + at, dimse: base + 61 + at, peer: base + 71 + at })),
  };
}

/** The first port of a set that another program holds on loopback, or undefined. */
export async function takenPort(ports: NetworkPorts): Promise<number | undefined> {
  for (const port of [ports.join, ports.grpc, ...ports.hospitals.flatMap(({ http, dimse, peer }) => [http, dimse, peer])]) {
    if (!(await isFree(port))) return port;
  }
  return undefined;
}

/** A base whose ports are all free. @throws Error when none is found. */
export async function freeBase(hospitals: number): Promise<number> {
  for (let base = FIRST_BASE; base < FIRST_BASE + TRIES * STEP; base += STEP) {
    if ((await takenPort(portsFrom(base, hospitals))) === undefined) return base;
  }
  throw new Error(
    `Ports ${FIRST_BASE} to ${FIRST_BASE + TRIES * STEP} are all in use. Close a program that listens there, or name a free base: npm start -- --port 30000`,
  );
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    return true;
  } catch {
    return false;
  } finally {
    server.close();
  }
}
