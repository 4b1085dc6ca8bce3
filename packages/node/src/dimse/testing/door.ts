import { expect } from '@jest/globals';
import { silentLog } from '@meridian/shared/log';
import { systemClock, type Clock } from '@meridian/shared/platform/clock';
import { openDimse, type AeRule, type DimseServer } from '../dimse-server.ts';
import type { DimseLimits } from '../limits.ts';
import { PDU } from '../pdu.ts';
import { MemoryIngest } from './memory-ingest.ts';
import { associateRequest, RawPeer } from './raw-peer.ts';

/** An open door with an ingest in memory. */
export interface Door {
  readonly server: DimseServer;
  readonly ingest: MemoryIngest;
  peer(): Promise<RawPeer>;
  /** A peer with an accepted association. */
  associated(request?: Buffer): Promise<RawPeer>;
}

/** Opens a door, gives it to the body, closes everything. */
export async function withDoor(
  body: (door: Door) => Promise<void>,
  options: { clock?: Clock; limits?: Partial<DimseLimits>; allow?: readonly AeRule[] } = {},
): Promise<void> {
  const ingest = new MemoryIngest();
  const server = await openDimse({
    config: {
      host: '127.0.0.1',
      port: 0,
      aeTitle: 'MERIDIAN',
      assigningAuthority: 'HOSPITAL-A',
      allow: options.allow ?? [],
      limits: { associationsPerAddress: 100, closeMs: 500, ...options.limits },
    },
    ingest,
    clock: options.clock ?? systemClock,
    log: silentLog,
  });
  const peers: RawPeer[] = [];
  const peer = async (): Promise<RawPeer> => {
    const opened = await RawPeer.connect(server.port);
    peers.push(opened);
    return opened;
  };
  const associated = async (request = associateRequest()): Promise<RawPeer> => {
    const opened = await peer();
    opened.send(request);
    expect((await opened.next())?.type).toBe(PDU.ASSOCIATE_AC);
    return opened;
  };
  try {
    await body({ server, ingest, peer, associated });
  } finally {
    for (const opened of peers) opened.close();
    await server.close();
  }
}

/** 5,000 bytes that stand for a data set. */
export const dataSet = Buffer.from(Array.from({ length: 5000 }, (_, at) => (at * 31) % 251));

/** Waits until what should become true is true; the test's own time limit bounds it. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}
