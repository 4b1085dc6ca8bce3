import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { openLog, type Logger } from '@meridian/shared/log';
import { systemClock, type Clock } from '@meridian/shared/platform/clock';
import { systemRandom, type Random } from '@meridian/shared/platform/random';
import { openAdvertise, type Advertise } from './advertise/advertise.ts';
import { openNodeAudit, type AuditLog } from './audit/node-audit.ts';
import type { NodeConfig } from './config.ts';
import { openConsent, type Consent } from './consent/consent.ts';
import { dicomwebDoor } from './dicomweb/dicomweb.ts';
import { auditReads } from './dicomweb/read-audit.ts';
import { openRenderer } from './dicomweb/renderer.ts';
import { openDimse, type DimseServer } from './dimse/dimse-server.ts';
import { makeDataFolder } from './federation/data-folder.ts';
import { openFederation, type Federation } from './federation/federation.ts';
import { openHttp, type HttpServer } from './http/http-server.ts';
import { diskFolder } from './media/folder-reader.ts';
import { importFolder } from './media/import-folder.ts';
import { idsOfImport } from './media/import-ids.ts';
import { openMesh, type Mesh } from './mesh/mesh.ts';
import { openPatients, type Patients } from './patients/patients.ts';
import { openPeerHost, type PeerHost } from './peer/peer-host.ts';
import { LOCAL_SUBJECT } from './portal/parts.ts';
import { openPortal } from './portal/portal.ts';
import { portalPartsOf } from './portal/rooms.ts';
import { openRecalls, type Recalls } from './retrieve/recalls.ts';
import { openRetrieve, type Retrieve } from './retrieve/retrieve.ts';
import { openStore, type Store } from './store/store.ts';
import { serveTransfers, type TransferServer } from './transfer/serve.ts';

/** Bugs that a campaign puts in on purpose, to show that it would notice. No program sets them. */
export interface NodeFaults {
  readonly acknowledgeBeforeWrite?: boolean;
  readonly dropOutboxRow?: boolean;
}

/** What a node is opened with beside its configuration; each has the machine's own as default. */
export interface NodeParts {
  readonly clock?: Clock;
  readonly random?: Random;
  readonly log?: Logger;
  readonly faults?: NodeFaults;
}

/** A running node. */
export interface MeridianNode {
  /** Base of the JSON API: `http://127.0.0.1:8080/api/v1`. */
  readonly apiUrl: string;
  /** Address of the page. */
  readonly pageUrl: string;
  readonly dimsePort: number;
  readonly ports: { readonly dimse: number; readonly http: number; readonly peer: number };
  /** Undefined until the node has joined. */
  readonly nodeId: string | undefined;
  readonly store: Store;
  readonly audit: AuditLog;
  readonly joined: JoinedRooms | undefined;
  /** Until what has arrived is settled, advertised and acknowledged, and consents are delivered. @throws the signal's reason */
  settle(signal?: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** The rooms that only a member of a federation has. */
export interface JoinedRooms {
  readonly federation: Federation;
  readonly advertise: Advertise;
  readonly consent: Consent;
  readonly peerHost: PeerHost;
  readonly mesh: Mesh;
  readonly transfers: TransferServer;
}

interface Base {
  readonly config: NodeConfig;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly audit: AuditLog;
  readonly store: Store;
  readonly patients: Patients;
}

const VERSION = (createRequire(import.meta.url)('../package.json') as { version: string }).version;
const WEB_FOLDER = resolve(import.meta.dirname, '../../web/dist');
const SETTLE_LOOK_MS = 20;
const SETTLE_LIMIT_MS = 120_000;

/**
 * Opens a node over its data folder: every room in order of the ladder; {@link MeridianNode.close} goes the other way.
 * @throws MeshError of the room that could not open, in a plain sentence: NODE_ALREADY_RUNNING, PORT_IN_USE, SCHEMA_NEWER…
 */
export async function openNode(config: NodeConfig, parts: NodeParts = {}): Promise<MeridianNode> {
  const clock = parts.clock ?? systemClock;
  const random = parts.random ?? systemRandom;
  const log = parts.log ?? openLog({ part: 'node', level: config.logLevel });
  const { folder } = config;
  const opened: (() => Promise<unknown>)[] = [];
  const keep = <Room extends { close(): Promise<unknown> }>(room: Room): Room => {
    opened.push(() => room.close());
    return room;
  };
  const close = async (): Promise<void> => {
    for (const one of opened.splice(0).reverse()) await one();
  };
  try {
    await makeDataFolder(folder);
    // The store first: its lock tells at once that another process serves this folder.
    const store = keep(
      await openStore({
        folder,
        clock,
        random,
        log: log.child({ room: 'store' }),
        limits: {
          quietTimeMs: config.quietTimeMs,
          releasedQuietTimeMs: config.releasedQuietTimeMs,
          minimumFreeFraction: config.minimumFreeDisk,
        },
        ...(parts.faults?.acknowledgeBeforeWrite === true ? { faults: { acknowledgeBeforeWrite: true } } : {}),
      }),
    );
    const audit = keep(await openNodeAudit({ folder, clock, random }));
    const federation = await openFederation({ folder, clock, random, log, audit });
    if (federation !== undefined) keep(federation);
    const patients = openPatients({ store, assigningAuthority: config.assigningAuthority, random, modifyingSystem: config.dimse.aeTitle });
    const base: Base = { config, clock, random, log, audit, store, patients };
    const joined = federation === undefined ? undefined : await openJoinedRooms(base, federation, keep, parts.faults);
    const retrieve = keep(
      await openRetrieve({
        folder,
        hospitalName: federation?.hospitalName ?? config.name,
        store,
        patients,
        audit,
        clock,
        random,
        log: log.child({ room: 'retrieve' }),
        ...(joined === undefined ? {} : { mesh: joined }),
      }),
    );
    // Only now: whoever acts on a withdrawal is listening.
    const stopPush =
      joined === undefined
        ? []
        : [joined.consent.pushed, recallsOf(base, joined.federation).pushed].map((listener) => joined.federation.onPush(listener));
    keep({ close: async () => stopPush.forEach((stop) => stop()) });
    const { http, dimse } = await openDoors(base, joined, retrieve, keep);
    log.info(
      { event: 'node-open', dimsePort: dimse.port, httpPort: http.port, peerPort: joined?.peerHost.port, joined: joined !== undefined },
      'the node is open',
    );
    return {
      apiUrl: `${http.address}/api/v1`,
      pageUrl: http.address,
      dimsePort: dimse.port,
      ports: { dimse: dimse.port, http: http.port, peer: joined?.peerHost.port ?? 0 },
      nodeId: federation?.nodeId,
      store,
      audit,
      joined,
      settle: (signal) =>
        settleRooms(base, joined, AbortSignal.any([AbortSignal.timeout(SETTLE_LIMIT_MS), ...(signal === undefined ? [] : [signal])])),
      close,
    };
  } catch (thrown) {
    await close();
    throw thrown;
  }
}

/** Rooms of a member, and who hears of what: trust news, revocations, statements from the index and from other nodes. */
async function openJoinedRooms(
  base: Base,
  federation: Federation,
  keep: <Room extends { close(): Promise<unknown> }>(room: Room) => Room,
  faults: NodeFaults | undefined,
): Promise<JoinedRooms> {
  const { config, store, audit, clock, random, log } = base;
  const { folder } = config;
  const advertise = keep(
    await openAdvertise({
      folder,
      store,
      federation,
      audit,
      clock,
      random,
      log,
      ...(faults?.dropOutboxRow === true ? { faults: { dropOutboxRow: true } } : {}),
    }),
  );
  const consent = keep(await openConsent({ folder, store, federation, audit, clock, random, log }));
  const peerHost = keep(await openPeerHost({ federation, config: config.peer, clock, log: log.child({ room: 'peer' }) }));
  const mesh = keep(
    await openMesh({
      peerHost,
      federation,
      clock,
      log: log.child({ room: 'mesh' }),
      softwareVersion: VERSION,
      onConsent: consent.delivered,
      onRecall: recallsOf(base, federation).take,
    }),
  );
  const transfers = keep(await serveTransfers({ peerHost, store, advertise, consent, audit, clock, log: log.child({ room: 'transfer' }) }));
  const quit = [
    federation.onTrustChange(() => peerHost.applyTrust()),
    consent.onRevoked((statement) => void transfers.revoke(statement)),
    consent.onDenied(({ kind, value }) => {
      transfers.revoke(({ jti, askingNode, peerId, consentId, consentHash }) =>
        ({ jti: [jti], node: [askingNode], peer: [peerId], consent: [consentId, consentHash] })[kind].some((denied) => denied === value),
      );
    }),
  ];
  keep({ close: async () => quit.forEach((stop) => stop()) });
  await federation.updateAddresses(peerHost.addresses);
  return { federation, advertise, consent, peerHost, mesh, transfers };
}

function recallsOf({ store, audit, clock, log }: Base, federation: Federation): Recalls {
  return openRecalls({ federation, fetched: store.fetched, audit, clock, log: log.child({ room: 'retrieve' }) });
}

/** The listener and the doors on it; DIMSE last, when everything behind it is open. */
async function openDoors(
  base: Base,
  joined: JoinedRooms | undefined,
  retrieve: Retrieve,
  keep: <Room extends { close(): Promise<unknown> }>(room: Room) => Room,
): Promise<{ http: HttpServer; dimse: DimseServer }> {
  const { config, clock, random, log, audit, store, patients } = base;
  const http = keep(
    await openHttp({
      host: config.http.host,
      port: config.http.port,
      log: log.child({ room: 'http' }),
      clock,
      portSetting: 'MERIDIAN_HTTP_PORT',
    }),
  );
  const renderer = keep(openRenderer({ clock }));
  await http.mount(
    dicomwebDoor({
      store,
      assigningAuthority: config.assigningAuthority,
      coercionFor: patients.coercionFor,
      renderer,
      log: log.child({ room: 'dicomweb' }),
      onRead: auditReads({ audit, clock, subject: LOCAL_SUBJECT }),
    }),
  );
  let dimsePort = config.dimse.port;
  const portal = keep(
    openPortal(
      portalPartsOf({
        folder: config.folder,
        hospitalName: joined?.federation.hospitalName ?? config.name,
        version: VERSION,
        store,
        retrieve,
        clock,
        random,
        dimse: { host: config.dimse.host, aeTitle: config.dimse.aeTitle, port: () => dimsePort },
        ports: () => ({ dimse: dimsePort, http: http.port, ...(joined === undefined ? {} : { peer: joined.peerHost.port }) }),
        log: log.child({ room: 'portal' }),
        importFolder: async (from, { signal, onProgress, ...ids }) =>
          importFolder(
            {
              folder: from,
              ...idsOfImport(ids, { assigningAuthority: config.assigningAuthority, random }),
              associationId: `import-${random.uuid()}`,
              signal,
              onProgress,
            },
            { ingest: store.ingest, reader: diskFolder, clock },
          ),
        ...(joined === undefined ? {} : { joined: { ...joined, consent: consentOfPortal(joined, log) } }),
        ...(existsSync(WEB_FOLDER) ? { webFolder: WEB_FOLDER } : {}),
      }),
    ),
  );
  await http.mount(portal.plugin, { policy: 'public' });
  await http.ready();
  const dimse = keep(
    await openDimse({
      config: {
        host: config.dimse.host,
        port: config.dimse.port,
        aeTitle: config.dimse.aeTitle,
        assigningAuthority: config.assigningAuthority,
        allow: config.dimse.allow,
        limits: { associations: config.dimse.maximumAssociations, associationsPerAddress: config.dimse.maximumAssociationsPerAddress },
      },
      ingest: store.ingest,
      clock,
      log: log.child({ room: 'dimse' }),
    }),
  );
  dimsePort = dimse.port;
  return { http, dimse };
}

/**
 * Consent for the portal. What was recorded has been offered to the index when the answer comes, so that a fetch right
 * after it is granted; a revocation also goes straight to the holders, whether or not the index is up.
 */
function consentOfPortal({ consent, mesh }: JoinedRooms, log: Logger): Pick<Consent, 'record' | 'revoke' | 'list' | 'settle'> {
  return {
    record: consent.record,
    settle: consent.settle,
    list: consent.list,
    revoke: async (target) => {
      const revocations = await consent.revoke(target);
      for (const { statement, holders } of revocations) {
        for (const holder of holders) {
          // The index pushes it too; a hospital that is away now hears it when it is back.
          void mesh
            .deliverConsent(holder, statement.compact)
            .catch((thrown: unknown) => log.info({ event: 'revocation-not-delivered-directly', nodeId: holder, err: thrown }));
        }
      }
      await consent.settle();
      return revocations;
    },
  };
}

async function settleRooms({ store, clock }: Base, joined: JoinedRooms | undefined, signal: AbortSignal): Promise<void> {
  await store.idle();
  while (store.settle.arriving().length > 0) await clock.sleep(SETTLE_LOOK_MS, signal);
  if (joined === undefined) return;
  await joined.advertise.settle(signal);
  await joined.consent.settle();
}
