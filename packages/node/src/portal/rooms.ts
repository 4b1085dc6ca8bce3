import { statfs } from 'node:fs/promises';
import { NodeStatus } from '@meridian/shared/generated/meridian/v1/trust';
import type { NodeId } from '@meridian/shared/identifiers';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import type { Random } from '@meridian/shared/platform/random';
import type { Advertise } from '../advertise/advertise.ts';
import type { Consent } from '../consent/consent.ts';
import type { Federation } from '../federation/federation.ts';
import type { Mesh } from '../mesh/mesh.ts';
import type { Retrieve } from '../retrieve/retrieve.ts';
import type { Store } from '../store/store.ts';
import type { DoctorFacts } from './doctor.ts';
import type { ConsentPort, PortalParts, QuarantineRow } from './parts.ts';
import { portAnswers } from './probe.ts';

/** The rooms of an open node, as the portal uses them. `joined` is absent where the node keeps its own images only. */
export interface PortalRooms {
  readonly folder: string;
  readonly hospitalName: string;
  /** Stores every DICOM file below a folder; see the media room. */
  readonly importFolder: PortalParts['importFolder'];
  readonly version: string;
  /** The port is known once the door is open. */
  readonly dimse: { readonly host: string; readonly port: () => number; readonly aeTitle: string };
  readonly ports: () => Readonly<Record<string, number>>;
  readonly store: Store;
  readonly retrieve: Retrieve;
  readonly joined?: {
    readonly federation: Federation;
    readonly advertise: Advertise;
    /** Its `revoke` also tells holders directly. */
    readonly consent: Pick<Consent, 'record' | 'revoke' | 'list' | 'settle'>;
    readonly mesh: Mesh;
  };
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly webFolder?: string;
}

/** How many other hospitals the doctor asks, and for how long. */
const PEERS_ASKED = 20;
const PEER_MS = 3000;
/** Kept-aside objects that are listed. */
const QUARANTINE_LISTED = 1000;

/** The portal's parts out of a node's rooms. */
export function portalPartsOf(rooms: PortalRooms): PortalParts {
  const { joined, store, clock, random, log } = rooms;
  return {
    hospitalName: rooms.hospitalName,
    version: rooms.version,
    aeTitle: rooms.dimse.aeTitle,
    ports: rooms.ports,
    clock,
    random,
    log,
    usage: () => store.usage(),
    hospitals: () => hospitalsOf(rooms),
    history: rooms.retrieve,
    importFolder: rooms.importFolder,
    quarantine: () => quarantineOf(store),
    doctorFacts: () => doctorFactsOf(rooms),
    ...(rooms.webFolder === undefined ? {} : { webFolder: rooms.webFolder }),
    ...(joined === undefined
      ? {}
      : {
          nodeId: joined.federation.nodeId,
          indexState: () => joined.federation.channel.state(),
          advertiseStatus: () => joined.advertise.status(),
          transfers: rooms.retrieve,
          consent: joined.consent satisfies ConsentPort,
        }),
  };
}

/** Active members of the mesh, this hospital among them. */
function hospitalsOf({ joined, hospitalName }: PortalRooms): { nodeId: NodeId; name: string }[] {
  if (joined === undefined) return [];
  const active = [...(joined.federation.trust()?.entries.values() ?? [])].filter((entry) => entry.status === NodeStatus.NODE_STATUS_ACTIVE);
  const listed = active.map((entry) => ({ nodeId: entry.nodeId as NodeId, name: entry.name }));
  // Right after joining, before the first list, a node knows of itself alone.
  return listed.some((entry) => entry.nodeId === joined.federation.nodeId)
    ? listed
    : [{ nodeId: joined.federation.nodeId, name: hospitalName }, ...listed];
}

async function quarantineOf(store: Store): Promise<QuarantineRow[]> {
  const rows = await store.database.read
    .selectFrom('quarantine')
    .select(['pk', 'sop_instance_uid', 'study_instance_uid', 'reason', 'received_epoch_ms', 'bytes'])
    .orderBy('pk', 'desc')
    .limit(QUARANTINE_LISTED)
    .execute();
  return rows.map((row) => ({
    id: String(row.pk),
    sopInstanceUid: row.sop_instance_uid,
    studyInstanceUid: row.study_instance_uid,
    reason: row.reason,
    receivedAtEpochMs: Number(row.received_epoch_ms),
    bytes: Number(row.bytes),
  }));
}

async function doctorFactsOf(rooms: PortalRooms): Promise<DoctorFacts> {
  const { joined, store, dimse, clock } = rooms;
  const [usage, attention, space, answering] = await Promise.all([
    store.usage(),
    store.attention(),
    statfs(rooms.folder),
    portAnswers(reachable(dimse.host), dimse.port()),
  ]);
  const facts = {
    nowEpochMs: clock.now(),
    running: true,
    joined: joined !== undefined,
    disk: { freeBytes: usage.freeBytes, totalBytes: space.blocks * space.bsize, readOnly: usage.readOnly },
    dimse: { host: dimse.host, port: dimse.port(), answering },
    quarantined: usage.quarantined,
    patientConflicts: attention.patientConflicts,
    lostFiles: { count: attention.lostFiles, folder: attention.lostFolder },
  };
  if (joined === undefined) return facts;
  const { federation } = joined;
  const trust = federation.trust();
  const clockSkewMs = federation.clockAheadMs();
  return {
    ...facts,
    index: federation.channel.state(),
    certificateExpiresAtEpochMs: federation.certificateExpiresAtEpochMs(),
    feed: joined.advertise.status(),
    peers: await peersOf(rooms),
    ...(clockSkewMs === undefined ? {} : { clockSkewMs }),
    ...(trust === undefined ? {} : { trustList: { issuedAtEpochMs: trust.issuedAtEpochMs, expiresAtEpochMs: trust.expiresAtEpochMs } }),
  };
}

async function peersOf({ joined, ...rooms }: PortalRooms): Promise<{ name: string; reachable: boolean }[]> {
  if (joined === undefined) return [];
  const others = hospitalsOf({ joined, ...rooms }).filter((hospital) => hospital.nodeId !== joined.federation.nodeId);
  return Promise.all(
    others.slice(0, PEERS_ASKED).map(async ({ nodeId, name }) => ({
      name,
      reachable: await joined.mesh.ping(nodeId, AbortSignal.timeout(PEER_MS)).then(
        () => true,
        () => false,
      ),
    })),
  );
}

/** A listener on all addresses is asked at loopback. */
function reachable(host: string): string {
  return host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host;
}
