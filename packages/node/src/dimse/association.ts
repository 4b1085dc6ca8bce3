import type { Socket } from 'node:net';
import { asMeshError, MeshError } from '@meridian/shared/errors';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import type { Admission } from './admission.ts';
import { readAssociateRequest, type AssociateRequest } from './associate-request.ts';
import { encodeResponse, type DimseCommand } from './command-set.ts';
import { Deadline } from './deadline.ts';
import type { DimseLimits } from './limits.ts';
import { MessageReader } from './message-reader.ts';
import { encodeAbort, encodeCommandPdus, encodeReject, encodeReleaseReply, PDU } from './pdu.ts';
import { PduReader, type PduHandler } from './pdu-reader.ts';
import { encodeAccept, negotiate, type AcceptedContext, type Implementation } from './presentation-contexts.ts';
import { abortReasonNumber, protocolError } from './protocol-error.ts';
import type { AssociationFacts, DimseRequest, Operation } from './service.ts';

/** How an association that was accepted came to its end. */
export type AssociationEnd = 'released' | 'aborted';

/** What an association needs of its server. */
export interface AssociationParts {
  readonly id: string;
  readonly socket: Socket;
  readonly address: string;
  readonly limits: DimseLimits;
  readonly clock: Clock;
  readonly log: Logger;
  readonly implementation: Implementation;
  /** Admits or rejects, limits on numbers included; called once. */
  admit(request: AssociateRequest): Admission;
  begin(request: DimseRequest): Operation;
  opened(facts: AssociationFacts): void;
  active(): void;
  /** The association is over; the connection may still be waiting for the peer to close. */
  ended(how: AssociationEnd): void;
  disconnected(): void;
}

/** PS3.8 9.2.1: Sta2, Sta6 (and Sta8 while an operation runs), Sta13, Sta1. */
type State = 'awaiting-request' | 'established' | 'closing' | 'closed';
type Pause = 'operation' | 'store' | 'answers';

/** How often the store hears that a long object is still coming. */
const ACTIVE_EVERY_MS = 10_000;

/**
 * The acceptor's side of one association: the state machine of PS3.8 9.2 over a socket, with back-pressure both ways
 * and an end to every wait.
 */
export class Association implements PduHandler {
  readonly #parts: AssociationParts;
  readonly #reader = new PduReader(this);
  readonly #deadline: Deadline;
  readonly #pauses = new Set<Pause>();
  readonly #answered = { requests: 0, failures: 0, warnings: 0 };
  #state: State = 'awaiting-request';
  #facts: AssociationFacts | undefined;
  #messages: MessageReader | undefined;
  #peerPduBytes = 0;
  #busy = false;
  #peerEnded = false;
  #shuttingDown = false;
  #droppedBytes = 0;
  #activeAtMs = 0;

  constructor(parts: AssociationParts) {
    this.#parts = parts;
    this.#deadline = new Deadline(parts.clock, (waitedMs) => this.#onDeadline(waitedMs));
    const { socket, limits } = parts;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 60_000);
    socket.on('data', (chunk: Buffer) => this.#onBytes(chunk));
    socket.on('drain', () => this.#unpause('answers'));
    socket.on('end', () => this.#onPeerEnd());
    socket.on('error', (error) =>
      parts.log.debug({ event: 'connection-error', association: parts.id, code: 'code' in error ? error.code : error.name }),
    );
    socket.on('close', () => this.#onClose());
    this.#deadline.set(limits.artimMs);
  }

  /** True once accepted and until its end. */
  get established(): boolean {
    return this.#state === 'established';
  }

  /** Ends the association as soon as no object is on its way; the caller bounds the wait with `destroy()`. */
  shutDown(): void {
    this.#shuttingDown = true;
    this.#abortIfShuttingDown();
  }

  destroy(): void {
    this.#parts.socket.destroy();
  }

  pduBegins(type: number): number | 'hold' {
    if (type < PDU.ASSOCIATE_RQ || type > PDU.ABORT) throw protocolError('PDU_UNRECOGNISED', `There is no PDU of type ${type}.`);
    if (type === PDU.ABORT) return 4;
    if (this.#state === 'awaiting-request') {
      if (type === PDU.ASSOCIATE_RQ) return this.#parts.limits.associateRequestBytes;
      throw protocolError('PDU_UNEXPECTED', `A PDU of type ${type} came before an association was asked for.`);
    }
    if (type !== PDU.DATA && type !== PDU.RELEASE_RQ)
      throw protocolError('PDU_UNEXPECTED', `A PDU of type ${type} came in an open association.`);
    if (this.#busy) {
      // One operation at a time: what a hasty peer sends meanwhile waits in its own socket.
      this.#pause('operation');
      return 'hold';
    }
    if (type === PDU.RELEASE_RQ) {
      if (this.#messages?.inMessage === true) throw protocolError('PDU_UNEXPECTED', 'A release was asked for in the middle of a message.');
      return 4;
    }
    this.#deadline.set(this.#parts.limits.messageMs);
    this.#tellActive();
    return this.#parts.limits.pduBytes;
  }

  pdu(type: number, body: Buffer): void {
    if (type === PDU.ASSOCIATE_RQ) return this.#associate(body);
    if (type === PDU.RELEASE_RQ) {
      this.#send(encodeReleaseReply());
      return this.#close('released');
    }
    this.#parts.log.info({ event: 'association-aborted-by-peer', association: this.#parts.id, source: body[2], reason: body[3] });
    this.#close('aborted');
    this.destroy();
  }

  pdvBegins(contextId: number, control: number): void {
    this.#messages?.pdvBegins(contextId, control);
    // A message that begins while the last is being answered, in the same PDU: no sender with a window of one does so.
    if (this.#busy) throw protocolError('PDU_UNEXPECTED', 'A second request came before the first was answered, in the same PDU.');
  }

  pdvBytes(bytes: Buffer): void {
    this.#messages?.pdvBytes(bytes);
  }

  pdvEnds(): void {
    this.#messages?.pdvEnds();
  }

  dataPduEnds(): void {
    this.#setDeadline();
  }

  #associate(body: Buffer): void {
    const { id, address, log, limits, implementation } = this.#parts;
    const request = readAssociateRequest(body, limits.presentationContexts);
    const admission = this.#parts.admit(request);
    if (!admission.admit) {
      log.warn(
        {
          event: 'association-rejected',
          association: id,
          address,
          callingAeTitle: request.callingAeTitle,
          calledAeTitle: request.calledAeTitle,
        },
        admission.rejection.sentence,
      );
      this.#parts.socket.end(encodeReject(admission.rejection));
      return this.#close('aborted');
    }
    const negotiated = negotiate(request.contexts);
    this.#peerPduBytes = request.peerPduBytes;
    this.#messages = new MessageReader({
      contexts: negotiated.accepted,
      mostCommandBytes: limits.commandBytes,
      handler: {
        begin: (command, context) => this.#parts.begin({ command, context, association: facts }),
        full: (operation) => this.#waitFor(operation),
        end: (operation, command, context) => void this.#answer(operation, command, context),
      },
    });
    const facts: AssociationFacts = { id, address, callingAeTitle: request.callingAeTitle, ...admission.source };
    this.#facts = facts;
    this.#state = 'established';
    this.#parts.opened(facts);
    this.#send(encodeAccept(request, negotiated, { pduBytes: limits.pduBytes, implementation }));
    log.info({
      event: 'association-accepted',
      association: id,
      address,
      callingAeTitle: request.callingAeTitle,
      contexts: negotiated.accepted.size,
      contextsRefused: negotiated.answers.length - negotiated.accepted.size,
    });
    this.#setDeadline();
  }

  /** Stops reading until the store has room again. */
  #waitFor(operation: Operation): void {
    if (this.#pauses.has('store')) return;
    this.#pause('store');
    operation.drained().then(
      () => this.#unpause('store'),
      (error: unknown) => this.#fail(asMeshError(error)),
    );
  }

  async #answer(operation: Operation, command: DimseCommand, context: AcceptedContext): Promise<void> {
    this.#busy = true;
    try {
      const response = await operation.end();
      this.#answered.requests += 1;
      if (response.status >= 0xb000 && response.status < 0xc000) this.#answered.warnings += 1;
      else if (response.status !== 0) this.#answered.failures += 1;
      for (const pdu of encodeCommandPdus(context.id, encodeResponse(command, response), this.#peerPduBytes)) this.#send(pdu);
      this.#tellActive();
    } catch (error) {
      return this.#fail(asMeshError(error));
    } finally {
      this.#busy = false;
    }
    this.#guard(() => {
      this.#abortIfShuttingDown();
      this.#reader.resume();
      if (!this.#reader.holding) this.#unpause('operation');
    });
    this.#setDeadline();
    if (this.#peerEnded && !this.#busy) this.#onPeerEnd();
  }

  #onBytes(chunk: Buffer): void {
    if (this.#state === 'closing' || this.#state === 'closed') {
      // Sta13: what still comes is ignored (AA-6), but not without end.
      this.#droppedBytes += chunk.length;
      if (this.#droppedBytes > this.#parts.limits.associateRequestBytes) this.destroy();
      return;
    }
    this.#guard(() => this.#reader.push(chunk));
  }

  #guard(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.#fail(asMeshError(error));
    }
  }

  /** Ends the association by A-ABORT (AA-1, AA-8). */
  #fail(error: MeshError): void {
    if (this.#state === 'closing' || this.#state === 'closed') return;
    const { id, address, log, socket } = this.#parts;
    log.warn(
      {
        event: 'association-aborted',
        association: id,
        address,
        reason: error.reason,
        ...(error.code === 'INTERNAL' ? { err: error.cause ?? error } : {}),
      },
      error.message,
    );
    socket.end(encodeAbort(2, abortReasonNumber(error)));
    this.#close('aborted');
  }

  #abortIfShuttingDown(): void {
    if (!this.#shuttingDown || this.#busy || this.#messages?.inMessage === true) return;
    if (this.#state === 'established') {
      this.#parts.socket.end(encodeAbort(0, 0));
      this.#close('aborted');
    } else this.destroy();
  }

  /** To Sta13: the peer has ARTIM's time to close the connection. */
  #close(how: AssociationEnd): void {
    const wasEstablished = this.#state === 'established';
    this.#state = 'closing';
    this.#reader.stop();
    this.#dropOperation();
    for (const pause of this.#pauses) this.#unpause(pause);
    this.#deadline.set(this.#parts.limits.artimMs);
    if (wasEstablished) this.#tellEnd(how);
    if (this.#peerEnded) this.#parts.socket.end();
  }

  #onPeerEnd(): void {
    this.#peerEnded = true;
    // A sender that closes its half after its last object still gets the answer.
    if (this.#busy || this.#reader.holding) return;
    if (this.#state === 'established') this.#close('aborted');
    this.#parts.socket.end();
  }

  #onClose(): void {
    const wasEstablished = this.#state === 'established';
    this.#state = 'closed';
    this.#reader.stop();
    this.#deadline.close();
    this.#dropOperation();
    if (wasEstablished) this.#tellEnd('aborted');
    this.#parts.disconnected();
  }

  #dropOperation(): void {
    this.#messages
      ?.abort()
      .catch((error: unknown) => this.#parts.log.error({ event: 'operation-abort-failed', association: this.#parts.id, err: error }));
  }

  #tellEnd(how: AssociationEnd): void {
    const { id, log } = this.#parts;
    log.info({ event: 'association-ended', association: id, callingAeTitle: this.#facts?.callingAeTitle, how, ...this.#answered });
    this.#parts.ended(how);
  }

  #tellActive(): void {
    const now = this.#parts.clock.monotonicMs();
    if (now - this.#activeAtMs < ACTIVE_EVERY_MS && this.#activeAtMs !== 0) return;
    this.#activeAtMs = now;
    this.#parts.active();
  }

  #onDeadline(waitedMs: number): void {
    if (this.#state === 'closing') return this.destroy();
    if (this.#state === 'awaiting-request') {
      // AA-2: without an association there is nobody to tell.
      this.#parts.log.debug({ event: 'connection-timed-out', association: this.#parts.id, address: this.#parts.address });
      return this.destroy();
    }
    this.#fail(
      new MeshError('DEADLINE_EXCEEDED', 'PEER_SILENT', `The peer sent nothing that ends a message for ${Math.round(waitedMs / 1000)} s.`),
    );
  }

  #setDeadline(): void {
    if (this.#state !== 'established') return;
    const { messageMs, idleMs } = this.#parts.limits;
    // While the peer waits for us, its silence says nothing.
    if (this.#busy || this.#pauses.has('store')) this.#deadline.clear();
    else this.#deadline.set(this.#messages?.inMessage === true || !this.#reader.atBoundary || this.#pauses.size > 0 ? messageMs : idleMs);
  }

  /** One write per PDU; a peer that does not read its answers is not read either. */
  #send(pdu: Buffer): void {
    const { socket } = this.#parts;
    if (socket.writable && !socket.write(pdu)) this.#pause('answers');
  }

  #pause(why: Pause): void {
    this.#pauses.add(why);
    this.#parts.socket.pause();
    this.#setDeadline();
  }

  #unpause(why: Pause): void {
    if (!this.#pauses.delete(why) || this.#pauses.size > 0) return;
    this.#parts.socket.resume();
    this.#setDeadline();
  }
}
