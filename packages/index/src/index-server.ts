import { openGrpcServer, serverCredentials, type GrpcServer } from '@meridian/shared/grpc';
import { silentLog, type Logger } from '@meridian/shared/log';
import { systemClock, type Clock } from '@meridian/shared/platform/clock';
import { systemRandom, type Random } from '@meridian/shared/platform/random';
import { openWorkerPool } from '@meridian/shared/workers';
import { indexFiles, type IndexSettings } from './config.ts';
import { consentService, tellNewHolder } from './consent/consent-service.ts';
import { openControl, type Control } from './control.ts';
import { evaluatorJobs, evaluatorService } from './evaluator/evaluate.ts';
import { grantService } from './grants/issue-grant.ts';
import { openIndexAdmin, type IndexAdmin } from './index-admin.ts';
import { keptPorts, openIndexCore, type IndexCore } from './index-core.ts';
import { initKeyFiles, writeSecret } from './key-files.ts';
import { manifestService } from './manifests/advertise.ts';
import { openPushChannel } from './push/subscribe.ts';
import { queryService } from './query/patient-history.ts';
import { openAttemptLimit, type AttemptLimit } from './registry/attempts.ts';
import { openCallerGate } from './registry/caller.ts';
import { dropExpiredCertificates } from './registry/certificates.ts';
import { enrolmentService } from './registry/enrolment-service.ts';
import { forgetNotices } from './registry/notices.ts';
import { trustService } from './registry/trust-service.ts';

/** What an index needs to open; everything else stands in its folder. */
export interface IndexConfig {
  /** Made by {@link initIndex}. */
  readonly folder: string;
  /** Instead of those of the settings; 0 takes any free port and keeps it for the next start. */
  readonly ports?: { readonly join: number; readonly grpc: number };
  readonly clock?: Clock;
  readonly random?: Random;
  readonly log?: Logger;
  /** Tries a minute from one address at the join door; 30 unless given. */
  readonly joinAttempts?: number;
  /** Tries a minute from all addresses; 600 unless given. */
  readonly joinAttemptsOverall?: number;
}

/** A running index. */
export interface MeridianIndex {
  readonly joinPort: number;
  readonly grpcPort: number;
  readonly databasePath: string;
  readonly auditFolder: string;
  readonly status: IndexAdmin['status'];
  readonly addHospital: IndexAdmin['addHospital'];
  readonly inviteAgain: IndexAdmin['inviteAgain'];
  /** Takes a node out of the federation for good; its running calls end at once. */
  revokeNode(nodeId: string): Promise<void>;
  suspendNode(nodeId: string): Promise<void>;
  reinstateNode(nodeId: string): Promise<void>;
  close(): Promise<void>;
}

const MAINTENANCE_MS = 3_600_000;
const NOTICE_LIFETIME_MS = 180 * 24 * 3_600_000;
const EVALUATOR_THREADS = 2;
/** Of one node, which renews once in some days. */
const RENEWALS_A_MINUTE = 20;
/** Of one node each; a busy day stays far below. A node that is turned away tries again by itself. */
const HELLOS_A_MINUTE = 60;
const ADDRESS_CHANGES_A_MINUTE = 20;
const STATEMENTS_A_MINUTE = 1200;

/**
 * Makes CA, keys and settings of a new index in a folder.
 * @param init `host` is the name under which hospitals reach it; `listen` the address it listens on (127.0.0.1).
 * @throws MeshError ALREADY_EXISTS / INDEX_EXISTS, FAILED_PRECONDITION / SETTINGS_INVALID
 */
export async function initIndex(init: {
  readonly folder: string;
  readonly name: string;
  readonly host: string;
  readonly listen?: string;
  readonly ports?: { readonly join: number; readonly grpc: number };
  readonly dailyEvaluations?: number;
  readonly clock?: Clock;
  readonly random?: Random;
}): Promise<IndexSettings> {
  return initKeyFiles(
    init.folder,
    {
      name: init.name,
      host: init.host,
      ...(init.listen === undefined ? {} : { listen: init.listen }),
      ...(init.ports === undefined ? {} : { joinPort: init.ports.join, grpcPort: init.ports.grpc }),
      ...(init.dailyEvaluations === undefined ? {} : { dailyEvaluations: init.dailyEvaluations }),
    },
    { random: init.random ?? systemRandom, nowEpochMs: (init.clock ?? systemClock).now() },
  );
}

/**
 * Opens an index: its rooms in order, then the two listeners, then the operator's control file.
 * @throws MeshError FAILED_PRECONDITION / INDEX_NOT_INITIALISED | NODE_ALREADY_RUNNING | PORT_IN_USE and of the parts
 */
export async function openIndex(config: IndexConfig): Promise<MeridianIndex> {
  const core = await openIndexCore({
    folder: config.folder,
    clock: config.clock ?? systemClock,
    random: config.random ?? systemRandom,
    log: config.log ?? silentLog,
  });
  const closers: (() => Promise<void>)[] = [() => core.close()];
  const close = async (): Promise<void> => {
    for (const closer of closers.splice(0).reverse()) await closer();
  };
  try {
    return await openRooms(core, config, closers, close);
  } catch (thrown) {
    await close();
    throw thrown;
  }
}

async function openRooms(
  core: IndexCore,
  config: IndexConfig,
  closers: (() => Promise<void>)[],
  close: () => Promise<void>,
): Promise<MeridianIndex> {
  const { database, keeper, keys, audit, clock, random, log, settings } = core;
  const gate = openCallerGate(keeper);
  const ofNode = (perCaller: number): AttemptLimit => openAttemptLimit({ clock, perCaller });
  const workers = openWorkerPool({
    jobs: evaluatorJobs,
    size: EVALUATOR_THREADS,
    deadlineMs: 10_000,
    memoryMib: 128,
    queueLimit: 64,
    clock,
  });
  closers.push(() => workers.close());
  const push = openPushChannel({ database, keeper, gate, clock, log });
  const services = [
    trustService({ keeper, gate, addressChanges: ofNode(ADDRESS_CHANGES_A_MINUTE), log }),
    evaluatorService({ database, keys: keys.evaluatorKeys, workers, dailyQuota: settings.dailyEvaluations, gate, clock, log }),
    manifestService({
      database,
      gate,
      clock,
      log,
      hellos: ofNode(HELLOS_A_MINUTE),
      onNotices: push.wake,
      onStored: async (nodeId, patientKeys) => {
        if (await tellNewHolder(database, { nodeId, patientKeys, atEpochMs: clock.now() })) push.wake();
      },
    }),
    consentService({
      database,
      keeper,
      gate,
      audit,
      clock,
      log,
      statements: { opening: ofNode(STATEMENTS_A_MINUTE), closing: ofNode(STATEMENTS_A_MINUTE) },
      onNotices: push.wake,
    }),
    grantService({ database, keeper, gate, key: keys.signingKey, audit, clock, random, log }),
    queryService({ database, keeper, gate, audit, clock, log }),
    push,
  ];
  const ports = await portsOf(core, config);
  const identity = {
    caCertificatePem: keys.authority.certificatePem,
    certificateChainPem: keys.tls.certificatePem + keys.authority.certificatePem,
    privateKeyPem: keys.tls.privateKeyPem,
  };
  const mutual: GrpcServer = await openGrpcServer({
    host: settings.listen,
    port: ports.grpc,
    credentials: serverCredentials(identity, 'required'),
    services,
  });
  closers.push(() => {
    gate.close();
    return mutual.close();
  });
  const enrolment = enrolmentService({
    database,
    authority: keys.authority,
    keeper,
    audit,
    clock,
    log,
    attempts: openAttemptLimit({ clock, perCaller: config.joinAttempts ?? 30, overall: config.joinAttemptsOverall ?? 600 }),
    renewals: openAttemptLimit({ clock, perCaller: RENEWALS_A_MINUTE }),
    welcome: () => ({
      indexAddress: `${bracketed(settings.host)}:${mutual.port}`,
      indexSigningPublicKey: keys.signingKey.publicKey,
      evaluator: currentEvaluatorKey(core),
    }),
  });
  const doors: GrpcServer = await openGrpcServer({
    host: settings.listen,
    port: ports.join,
    credentials: serverCredentials(identity, 'none'),
    services: [enrolment],
  });
  closers.push(() => doors.close());
  await writeSecret(indexFiles(core.folder).ports, `${JSON.stringify({ join: doors.port, grpc: mutual.port })}\n`);

  const admin = openIndexAdmin(core, { running: true, ports: { join: doors.port, grpc: mutual.port }, connected: push.connected });
  const control: Control = await openControl({ folder: core.folder, admin, random, log });
  closers.push(() => control.close());
  closers.push(startMaintenance(core));
  log.info({ event: 'index-open', joinPort: doors.port, grpcPort: mutual.port }, 'the index is open');
  return {
    joinPort: doors.port,
    grpcPort: mutual.port,
    databasePath: database.path,
    auditFolder: indexFiles(core.folder).audit,
    status: admin.status,
    addHospital: admin.addHospital,
    inviteAgain: admin.inviteAgain,
    revokeNode: (nodeId) => admin.setStatus(nodeId, 'revoked'),
    suspendNode: (nodeId) => admin.setStatus(nodeId, 'suspended'),
    reinstateNode: (nodeId) => admin.setStatus(nodeId, 'active'),
    close,
  };
}

/** Nodes know the index by its port, so a port that was once taken for 0 is taken again. */
async function portsOf(core: IndexCore, config: IndexConfig): Promise<{ join: number; grpc: number }> {
  const kept = await keptPorts(core.folder);
  const choose = (asked: number | undefined, inSettings: number, before: number | undefined): number => {
    const wanted = asked ?? inSettings;
    return wanted === 0 ? (before ?? 0) : wanted;
  };
  return {
    join: choose(config.ports?.join, core.settings.joinPort, kept?.join),
    grpc: choose(config.ports?.grpc, core.settings.grpcPort, kept?.grpc),
  };
}

function currentEvaluatorKey(core: IndexCore): { publicKey: Uint8Array; epoch: string } {
  const { currentEpoch, keys } = core.keys.evaluatorKeys;
  return { publicKey: keys.get(currentEpoch)?.publicKey ?? new Uint8Array(), epoch: currentEpoch };
}

/** Every hour: keys whose certificates ran out leave the trust list, old notices are forgotten. */
function startMaintenance(core: IndexCore): () => Promise<void> {
  const { clock, database, keeper, log } = core;
  let running: Promise<void> = Promise.resolve();
  const tidy = async (): Promise<void> => {
    try {
      await dropExpiredCertificates({ database, keeper }, clock.now());
      await forgetNotices(database.write, clock.now() - NOTICE_LIFETIME_MS);
    } catch (thrown) {
      log.error({ event: 'maintenance-failed', err: thrown }, 'the hourly maintenance failed; it is tried again in an hour');
    }
    timer = clock.after(MAINTENANCE_MS, start);
  };
  const start = (): void => {
    running = tidy();
  };
  let timer = clock.after(MAINTENANCE_MS, start);
  return async () => {
    timer.cancel();
    await running;
    timer.cancel();
  };
}

function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
