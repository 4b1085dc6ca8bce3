import { MeshError } from '@meridian/shared/errors';
import {
  PushServiceService,
  StudyRecall,
  type PushServiceServer,
  type SubscribeRequest,
  type SubscribeResponse,
} from '@meridian/shared/generated/meridian/v1/push';
import { runStream, writeMessage, type WritableCall } from '@meridian/shared/grpc';
import type { NodeId } from '@meridian/shared/identifiers';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import type { CallerGate } from '../registry/caller.ts';
import { noticesAfter, type Notice } from '../registry/notices.ts';
import type { TrustKeeper } from '../registry/trust-keeper.ts';
import type { IndexDatabase } from '../tables.ts';

const KEEP_ALIVE_MS = 15_000;
/** A node that does not read for so long is cut; it comes back and resumes at its cursor. */
const SLOW_LIMIT_MS = 60_000;
const NOTICES_OF_A_STEP = 100;

/** The push channel and the knob that wakes it. */
export interface PushChannel {
  readonly definition: typeof PushServiceService;
  readonly implementation: PushServiceServer;
  /** Tells running streams that there are new notices. */
  readonly wake: () => void;
  /** Node ids with an open stream. */
  readonly connected: () => NodeId[];
}

/** Parts of the push channel. */
export interface PushParts {
  readonly database: IndexDatabase;
  readonly keeper: TrustKeeper;
  readonly gate: CallerGate;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Opens the index's channel to the nodes. Events are read from the database by cursor, so a slow node costs no memory. */
export function openPushChannel(parts: PushParts): PushChannel {
  const streams = new Map<NodeId, Subscription>();
  return {
    definition: PushServiceService,
    implementation: {
      subscribe: (call) => {
        runStream(call, {
          log: parts.log,
          authenticate: parts.gate.authenticate,
          run: async ({ caller, signal }) => {
            const lease = parts.gate.whileActive(caller, signal);
            const subscription = new Subscription(parts, caller.nodeId, call, lease.signal);
            streams.get(caller.nodeId)?.supersede();
            streams.set(caller.nodeId, subscription);
            try {
              await subscription.run(call.request);
            } finally {
              if (streams.get(caller.nodeId) === subscription) streams.delete(caller.nodeId);
              lease.release();
            }
          },
        });
      },
    },
    wake: () => {
      for (const stream of streams.values()) stream.wake();
    },
    connected: () => [...streams.keys()],
  };
}

class Subscription {
  private readonly parts: PushParts;
  private readonly nodeId: NodeId;
  private readonly call: WritableCall<SubscribeResponse>;
  private readonly ending = new AbortController();
  private readonly signal: AbortSignal;
  private stirred = true;
  private stir: () => void = () => undefined;

  constructor(parts: PushParts, nodeId: NodeId, call: WritableCall<SubscribeResponse>, signal: AbortSignal) {
    this.parts = parts;
    this.nodeId = nodeId;
    this.call = call;
    this.signal = AbortSignal.any([signal, this.ending.signal]);
  }

  wake(): void {
    this.stirred = true;
    this.stir();
  }

  supersede(): void {
    this.ending.abort(new MeshError('ABORTED', 'SUPERSEDED', 'A newer push stream of this node took over.'));
  }

  async run(request: SubscribeRequest): Promise<void> {
    let cursor = cursorOf(request.afterCursor);
    let trustSeq = Number(request.trustListSeq);
    let toldHeadAt = 0;
    const stop = this.parts.keeper.onNews(() => this.wake());
    try {
      for (;;) {
        this.signal.throwIfAborted();
        this.stirred = false;
        const { seq, issuedAtEpochMs } = this.parts.keeper.view();
        if (seq !== trustSeq || issuedAtEpochMs !== toldHeadAt) {
          await this.sendTrustNews(trustSeq);
          trustSeq = seq;
          toldHeadAt = issuedAtEpochMs;
        }
        const notices = await noticesAfter(this.parts.database.read, this.nodeId, cursor, NOTICES_OF_A_STEP);
        for (const notice of notices) {
          await this.send({ cursor: String(notice.seq), event: eventOf(notice) });
          cursor = notice.seq;
        }
        if (notices.length < NOTICES_OF_A_STEP && (await this.rest()) === 'keep-alive') {
          await this.send({ cursor: '', event: { $case: 'keepAlive', value: { atEpochMs: BigInt(this.parts.clock.now()) } } });
        }
      }
    } finally {
      stop();
    }
  }

  private async sendTrustNews(haveSeq: number): Promise<void> {
    const { head, deltas } = await this.parts.keeper.newsSince(haveSeq);
    await this.send({ cursor: '', event: { $case: 'trustList', value: { head, deltas } } });
  }

  private async send(response: SubscribeResponse): Promise<void> {
    const timer = this.parts.clock.after(SLOW_LIMIT_MS, () => {
      this.ending.abort(
        new MeshError(
          'RESOURCE_EXHAUSTED',
          'SLOW_CONSUMER',
          'This node did not read its push channel for a minute. Open it again; nothing is lost.',
        ),
      );
    });
    try {
      await writeMessage(this.call, response, this.signal);
    } catch (thrown) {
      this.signal.throwIfAborted();
      throw thrown;
    } finally {
      timer.cancel();
    }
  }

  /** Waits for news or for the time of a keep-alive. */
  private async rest(): Promise<'stirred' | 'keep-alive'> {
    if (this.stirred) return 'stirred';
    return new Promise((resolve, reject) => {
      const end = (): void => {
        timer.cancel();
        this.signal.removeEventListener('abort', onAbort);
        this.stir = () => undefined;
      };
      const timer = this.parts.clock.after(KEEP_ALIVE_MS, () => {
        end();
        resolve('keep-alive');
      });
      const onAbort = (): void => {
        end();
        reject(this.signal.reason as Error);
      };
      this.signal.addEventListener('abort', onAbort, { once: true });
      this.stir = () => {
        end();
        resolve('stirred');
      };
    });
  }
}

function eventOf(notice: Notice): NonNullable<SubscribeResponse['event']> {
  if (notice.kind === 'recall') return { $case: 'recall', value: StudyRecall.decode(notice.payload) };
  return { $case: 'consentStatement', value: { compact: notice.payload.toString('utf8') } };
}

function cursorOf(text: string): number {
  if (text === '') return 0;
  const cursor = Number(text);
  if (Number.isSafeInteger(cursor) && cursor >= 0) return cursor;
  throw new MeshError(
    'INVALID_ARGUMENT',
    'CURSOR_INVALID',
    'This cursor is none that the index gave out. Subscribe with an empty one to be told everything again.',
  );
}
