import { createServer, type Server, type Socket } from 'node:net';
import { MeshError } from '@meridian/shared/errors';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import { systemRandom, type Random } from '@meridian/shared/platform/random';
import { IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME } from '../dicom/part10.ts';
import type { Ingest } from '../store/ingest.ts';
import { isLoopback, openAdmission, plainAddress, type Admission, type AeRule } from './admission.ts';
import { Association } from './association.ts';
import { echoService } from './c-echo.ts';
import { storeService } from './c-store.ts';
import { COMMAND } from './command-set.ts';
import { DIMSE_STATUS } from './dimse-status.ts';
import { DEFAULT_DIMSE_LIMITS, type DimseLimits } from './limits.ts';
import { REJECTIONS } from './pdu.ts';
import { answering, type DimseService } from './service.ts';

export type { AeRule } from './admission.ts';

/** Where the DIMSE door listens and whom it lets in. */
export interface DimseConfig {
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
  readonly aeTitle: string;
  /** Authority of patient ids that this machine's own programs send while there is no rule. */
  readonly assigningAuthority: string;
  /** The first rule that fits counts; without any, only this machine is admitted. */
  readonly allow: readonly AeRule[];
  readonly limits?: Partial<DimseLimits>;
}

/** What the door is opened with. */
export interface DimseParts {
  readonly config: DimseConfig;
  readonly ingest: Ingest;
  readonly clock: Clock;
  readonly log: Logger;
  readonly random?: Random;
}

/** An open DIMSE door. */
export interface DimseServer {
  readonly port: number;
  /** Associations that are open now. */
  associations(): number;
  /** Lets objects on their way finish for a moment, then aborts what is open. */
  close(): Promise<void>;
}

/**
 * Opens the DIMSE door: verification and storage SCP.
 * @throws MeshError FAILED_PRECONDITION / DIMSE_ALLOW_LIST_MISSING beyond loopback without a rule;
 *   ALREADY_EXISTS / PORT_IN_USE; INVALID_ARGUMENT / AE_TITLE_INVALID, AE_RULE_ADDRESS
 * @see DICOM PS3.8, PS3.7 9.1, PS3.4 B
 */
export async function openDimse(parts: DimseParts): Promise<DimseServer> {
  const { config } = parts;
  if (!isLoopback(config.host === 'localhost' ? '127.0.0.1' : config.host) && config.allow.length === 0) {
    throw new MeshError(
      'FAILED_PRECONDITION',
      'DIMSE_ALLOW_LIST_MISSING',
      `DICOM may not listen on ${config.host} while nobody is on the list of allowed modalities. Add rules (address, AE title) or listen on 127.0.0.1.`,
    );
  }
  const door = new DimseDoor(parts);
  await door.listen();
  return door;
}

class DimseDoor implements DimseServer {
  readonly #parts: DimseParts;
  readonly #limits: DimseLimits;
  readonly #random: Random;
  readonly #server: Server;
  readonly #admit: ReturnType<typeof openAdmission>;
  readonly #services: ReadonlyMap<number, DimseService>;
  /** Every connection, oldest first. */
  readonly #connections = new Set<Association>();
  /** Accepted associations by address. */
  readonly #openByAddress = new Map<string, number>();
  #open = 0;
  #onEmpty: (() => void) | undefined;

  constructor(parts: DimseParts) {
    this.#parts = parts;
    this.#limits = { ...DEFAULT_DIMSE_LIMITS, ...parts.config.limits };
    this.#random = parts.random ?? systemRandom;
    this.#admit = openAdmission(parts.config);
    this.#services = new Map([
      [COMMAND.C_ECHO_RQ, echoService],
      [COMMAND.C_STORE_RQ, storeService(parts)],
    ]);
    // Half-open is allowed so that a sender which closes its half early still gets its answer.
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#onConnection(socket));
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : this.#parts.config.port;
  }

  associations(): number {
    return this.#open;
  }

  async listen(): Promise<void> {
    const { host, port } = this.#parts.config;
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (error) => reject(listenError(error, host, port)));
      this.#server.listen({ host, port, backlog: 511 }, resolve);
    });
    this.#server.removeAllListeners('error');
    this.#server.on('error', (error) => this.#parts.log.error({ event: 'dimse-listener-error', err: error }));
    this.#parts.log.info({ event: 'dimse-listening', host, port: this.port, aeTitle: this.#parts.config.aeTitle });
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    const empty = new Promise<void>((resolve) => {
      this.#onEmpty = resolve;
      if (this.#connections.size === 0) resolve();
    });
    for (const association of this.#connections) association.shutDown();
    const limit = this.#parts.clock.after(this.#limits.closeMs, () => {
      for (const association of this.#connections) association.destroy();
    });
    await empty;
    limit.cancel();
    await closed;
  }

  #onConnection(socket: Socket): void {
    const address = plainAddress(socket.remoteAddress);
    const id = this.#random.uuid();
    const { ingest, clock, log } = this.#parts;
    const association: Association = new Association({
      id,
      socket,
      address,
      limits: this.#limits,
      clock,
      log,
      implementation: { classUid: IMPLEMENTATION_CLASS_UID, versionName: IMPLEMENTATION_VERSION_NAME },
      admit: (request): Admission => {
        const admission = this.#admit(request, address);
        return admission.admit && this.#isFull(address) ? { admit: false, rejection: REJECTIONS.tooMany } : admission;
      },
      begin: (request) => {
        const service = this.#services.get(request.command.commandField);
        return service === undefined ? answering({ status: DIMSE_STATUS.UNRECOGNISED_OPERATION }) : service(request);
      },
      opened: () => {
        this.#count(address, 1);
        ingest.associationOpened(id);
      },
      active: () => ingest.associationActive(id),
      ended: (how) => {
        this.#count(address, -1);
        ingest.associationClosed(id, how);
      },
      disconnected: () => {
        this.#connections.delete(association);
        if (this.#connections.size === 0) this.#onEmpty?.();
      },
    });
    this.#connections.add(association);
    this.#evictOldestWaiting();
  }

  #isFull(address: string): boolean {
    return this.#open >= this.#limits.associations || (this.#openByAddress.get(address) ?? 0) >= this.#limits.associationsPerAddress;
  }

  #count(address: string, change: 1 | -1): void {
    this.#open += change;
    const count = (this.#openByAddress.get(address) ?? 0) + change;
    if (count === 0) this.#openByAddress.delete(address);
    else this.#openByAddress.set(address, count);
  }

  /** A real peer asks at once, so under a flood of silent connections the oldest silent one is not a real peer. */
  #evictOldestWaiting(): void {
    if (this.#connections.size - this.#open <= this.#limits.waitingConnections) return;
    for (const association of this.#connections) {
      if (association.established) continue;
      association.destroy();
      // Its 'close' comes later; a flood must not find it again.
      this.#connections.delete(association);
      return;
    }
  }
}

function listenError(error: Error, host: string, port: number): MeshError {
  if ('code' in error && error.code === 'EADDRINUSE') {
    return new MeshError(
      'ALREADY_EXISTS',
      'PORT_IN_USE',
      `Port ${port} on ${host} is in use by another program. Choose another DICOM port, or stop that program.`,
      { cause: error },
    );
  }
  return new MeshError(
    'UNAVAILABLE',
    'DIMSE_LISTEN_FAILED',
    `DICOM could not listen on ${host}:${port} (${'code' in error ? String(error.code) : error.message}).`,
    { cause: error },
  );
}
