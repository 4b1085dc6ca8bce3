import { asMeshError, MeshError } from '@meridian/shared/errors';
import type { ConsentStatement } from '@meridian/shared/consent';
import type { TransferReceipt } from '@meridian/shared/generated/meridian/v1/transfer';
import type { GrantCheck, GrantClaims } from '@meridian/shared/grant';
import { parseStudyInstanceUid, type StudyInstanceUid } from '@meridian/shared/identifiers';
import { decodeManifest, manifestDigest } from '@meridian/shared/manifest';
import type { PeerStream } from '../peer/peer-host.ts';
import type { ByteBudget } from './byte-budget.ts';
import { closeStep, refusal } from './close-reason.ts';
import { decodeStep, encodeDataHead, encodeStep, type Step } from './codec.ts';
import { openLease, type Lease } from './lease.ts';
import { HELLO_TIMEOUT_MS, LIST_PIECE_BYTES, MAX_DATA_BYTES, WINDOW_BYTES } from './limits.ts';
import type { ServedInstance } from './ports.ts';
import type { ServeParts } from './serve-parts.ts';
import { openServeQueue, type PendingGet, type ServeQueue } from './serve-queue.ts';

/** An accepted grant with the consent on which it rests. */
export interface Accepted {
  readonly grant: GrantClaims;
  readonly consent: ConsentStatement;
}

/** One transfer from the holder's side: the grant is judged, the release is logged, then bytes go out. */
export class ServeSession<Row extends ServedInstance> {
  readonly stream: PeerStream;
  readonly parts: ServeParts<Row> & { readonly budget: ByteBudget; readonly trustNews: () => number; readonly hasPlace: () => boolean };
  studyInstanceUid: StudyInstanceUid | undefined;
  accepted: Accepted | undefined;
  bytesSent = 0;
  instancesSent = 0;
  private ended: string | undefined;
  private readonly lease: Lease;
  private queue: ServeQueue<Row> | undefined;
  private list: Buffer | undefined;
  private listAsked = false;
  private wake: (() => void) | undefined;

  constructor(stream: PeerStream, parts: ServeSession<Row>['parts']) {
    this.stream = stream;
    this.parts = parts;
    this.lease = openLease(parts.clock, () => this.end(refusal('GRANT_EXPIRED')));
  }

  get isOver(): boolean {
    return this.ended !== undefined;
  }

  /** Serves until the asker is done, or either side ends it. Never throws. */
  async run(): Promise<void> {
    const hello = this.parts.clock.after(HELLO_TIMEOUT_MS, () =>
      this.end(new MeshError('DEADLINE_EXCEEDED', 'HELLO_MISSING', 'The first frame must be HELLO with a grant.')),
    );
    let sending: Promise<void> | undefined;
    try {
      for await (const frame of this.stream.messages()) {
        if (this.ended !== undefined) break;
        const step = decodeStep(frame);
        if (step === undefined) continue;
        if (this.accepted === undefined) {
          hello.cancel();
          await this.greet(step);
          sending = this.send().catch((thrown: unknown) => this.end(asMeshError(thrown)));
        } else await this.take(step);
      }
    } catch (thrown) {
      this.end(asMeshError(thrown));
    } finally {
      hello.cancel();
      this.lease.cancel();
      this.end(undefined);
      await sending;
      await this.logEnd();
      await this.stream.close();
    }
  }

  /** Ends the transfer at the next frame: CLOSE with the reason, then nothing. Without an error it ends in silence. */
  end(error: MeshError | undefined): void {
    if (this.ended !== undefined) return;
    this.ended = error?.reason ?? 'ASKER_GONE';
    this.wake?.();
    if (error === undefined) return;
    const { log } = this.parts;
    log[error.code === 'INTERNAL' ? 'error' : 'warn']({
      event: this.accepted === undefined ? 'transfer.refused' : 'transfer.ended',
      study: this.studyInstanceUid,
      nodeId: this.stream.remote.nodeId,
      reason: error.reason,
      ...(error.code === 'INTERNAL' ? { err: error.cause ?? error } : {}),
    });
    if (this.stream.closed.aborted) return;
    try {
      this.stream.send(encodeStep(closeStep(error)));
    } catch {
      // The asker is gone: there is nobody to tell.
    }
    void this.stream.close();
  }

  private async greet(step: Step): Promise<void> {
    if (step.$case !== 'hello') throw new MeshError('INVALID_ARGUMENT', 'HELLO_MISSING', 'The first frame must be HELLO with a grant.');
    const study = parseStudyInstanceUid(step.value.studyInstanceUid);
    this.studyInstanceUid = study;
    await this.judge(step.value.grant?.compact ?? '', study);
    const [advertised, rows] = await Promise.all([this.parts.advertise.instanceList(study), this.parts.store.studies.instancesOf(study)]);
    const manifest = decodeManifest(advertised.signed.payload);
    this.list = advertised.list;
    this.queue = openServeQueue(new Map(rows.map((row) => [row.sopInstanceUid, row])), this.parts.store);
    // Logged before release, durably: a log that cannot be written releases nothing.
    await this.audit({
      type: 'RELEASE',
      instances: manifest.instanceCount,
      bytes: Number(manifest.totalBytes),
      detail: {
        step: 'begin',
        manifestVersion: Number(manifest.version),
        manifestSha256: manifestDigest(advertised.signed.payload).toString('hex'),
      },
    });
    await this.put({
      $case: 'accept',
      value: {
        manifest: advertised.signed,
        coding: 'identity',
        windowBytes: BigInt(WINDOW_BYTES),
        dataAddresses: [],
        dataToken: Buffer.alloc(0),
      },
    });
  }

  /** Asks for the holder's decision; a statement that arrives meanwhile makes it ask again. */
  private async judge(compact: string, study: StudyInstanceUid): Promise<void> {
    for (;;) {
      const news = this.parts.trustNews();
      const check = await this.parts.consent.decide(compact, { livePeerId: this.stream.remote.peerId, studyUid: study });
      if (!check.allow) return this.deny(check, study);
      if (news !== this.parts.trustNews()) continue;
      if (this.accepted === undefined && !this.parts.hasPlace()) throw transfersBusy();
      this.accepted = { grant: check.grant, consent: check.consent };
      this.lease.extend(check.grant);
      return;
    }
  }

  private async deny(check: Extract<GrantCheck, { allow: false }>, study: StudyInstanceUid): Promise<never> {
    // A stale consent is most often one that was withdrawn: the asker is told which.
    const reason =
      check.reason === 'CONSENT_STALE' && check.detail === 'revoked'
        ? 'CONSENT_REVOKED'
        : check.reason === 'CONSENT_STALE' && check.detail === 'refused'
          ? 'CONSENT_REFUSED'
          : check.reason;
    const { grant } = check;
    await this.parts.audit.append({
      type: 'DENY',
      study,
      peer: this.stream.remote.nodeId,
      reason,
      ...(grant === undefined ? {} : { jti: grant.jti, subject: grant.sub }),
    });
    throw refusal(reason);
  }

  private async take(step: Step): Promise<void> {
    switch (step.$case) {
      case 'get':
        this.queue?.add(step.value);
        break;
      case 'listRequest':
        this.listAsked = true;
        break;
      case 'cancel':
        this.queue?.cancel(step.value.requestIds);
        break;
      case 'renew':
        await this.judge(step.value.grant?.compact ?? '', this.studyInstanceUid!);
        await this.audit({ type: 'RELEASE', detail: { step: 'renew' } });
        break;
      case 'receipt':
        return this.settle(step.value);
      case 'close':
        this.end(undefined);
        break;
      default:
        throw new MeshError('INVALID_ARGUMENT', 'STEP_UNEXPECTED', `An asker does not send ${step.$case.toUpperCase()} here.`);
    }
    this.wake?.();
  }

  private async settle(receipt: TransferReceipt): Promise<void> {
    await this.audit({
      type: 'RELEASE',
      bytes: this.bytesSent,
      instances: receipt.instancesVerified,
      detail: { step: 'receipt', instancesHeldBefore: receipt.instancesHeldBefore },
    });
    this.ended ??= 'RECEIPT';
    this.wake?.();
    await this.stream.close();
  }

  private async send(): Promise<void> {
    while (this.ended === undefined) {
      if (this.listAsked) {
        this.listAsked = false;
        await this.sendList();
        continue;
      }
      const get = this.queue?.shift();
      if (get !== undefined) await this.answer(get);
      else await this.news();
    }
  }

  private news(): Promise<void> {
    return new Promise((resolve) => {
      this.wake = resolve;
    });
  }

  private async sendList(): Promise<void> {
    const list = this.list ?? Buffer.alloc(0);
    for (let at = 0; at === 0 || at < list.length; at += LIST_PIECE_BYTES) {
      await this.put({
        $case: 'list',
        value: { piece: list.subarray(at, at + LIST_PIECE_BYTES), last: at + LIST_PIECE_BYTES >= list.length },
      });
    }
  }

  private async answer(get: PendingGet<Row>): Promise<void> {
    const { requestId } = get;
    try {
      if (get.cancelled) return;
      if (get.failedReason !== undefined)
        return await this.put({ $case: 'data', value: { requestId, bytes: Buffer.alloc(0), last: true, failedReason: get.failedReason } });
      if (get.length === 0) return await this.putBytes(requestId, Buffer.alloc(0), true);
      let rest = get.length;
      for await (const bytes of this.queue!.reads(get)) {
        for (let at = 0; at < bytes.length; at += MAX_DATA_BYTES) {
          if (get.cancelled || this.ended !== undefined) return;
          const part = bytes.subarray(at, at + MAX_DATA_BYTES);
          rest -= part.length;
          await this.putBytes(requestId, part, rest === 0);
        }
      }
      if (get.offset + get.length === get.row?.bytes) this.instancesSent += 1;
      this.parts.log.debug({
        event: 'transfer.instance-sent',
        study: this.studyInstanceUid,
        sop: get.row?.sopInstanceUid,
        offset: get.offset,
        bytes: get.length,
      });
    } finally {
      this.queue?.done(get);
    }
  }

  /** Sends pixels under the lease and the grant's cap. No byte leaves after either, nor after the end. */
  private async putBytes(requestId: number, bytes: Buffer, last: boolean): Promise<void> {
    if (this.ended !== undefined) return;
    if (this.lease.over) throw refusal('GRANT_EXPIRED');
    if (!this.parts.budget.charge(this.accepted!.grant, bytes.length)) throw refusal('GRANT_BYTES_EXCEEDED');
    this.bytesSent += bytes.length;
    if (!this.stream.send(encodeDataHead({ requestId, length: bytes.length, last }), bytes)) await this.stream.drained();
  }

  private async put(step: Step): Promise<void> {
    if (this.ended === undefined && !this.stream.send(encodeStep(step))) await this.stream.drained();
  }

  private async audit(event: {
    type: 'RELEASE';
    bytes?: number;
    instances?: number;
    reason?: string;
    detail: Record<string, string | number>;
  }): Promise<void> {
    const { grant, consent } = this.accepted!;
    await this.parts.audit.append({
      ...event,
      jti: grant.jti,
      study: this.studyInstanceUid!,
      peer: grant.azp,
      subject: grant.sub,
      detail: { ...event.detail, purpose: grant.pou, consent: consent.hash },
    });
  }

  private async logEnd(): Promise<void> {
    if (this.accepted === undefined || this.ended === 'RECEIPT') return;
    try {
      await this.audit({
        type: 'RELEASE',
        reason: this.ended ?? 'ASKER_GONE',
        bytes: this.bytesSent,
        instances: this.instancesSent,
        detail: { step: 'end' },
      });
    } catch (thrown) {
      // The release itself stands in the log; that it ended early is told by the missing receipt as well.
      this.parts.log.error({ event: 'transfer.audit-failed', err: thrown });
    }
  }
}

/** The asker waits and tries again by itself. */
export function transfersBusy(): MeshError {
  return new MeshError('RESOURCE_EXHAUSTED', 'TRANSFERS_BUSY', 'Not now.');
}
