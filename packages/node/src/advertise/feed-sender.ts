import { asMeshError, MeshError } from '@meridian/shared/errors';
import { SignedObject } from '@meridian/shared/generated/meridian/v1/common';
import type { AdvertiseRequest, AdvertiseResponse } from '@meridian/shared/generated/meridian/v1/manifest';
import { fromServiceError } from '@meridian/shared/grpc';
import type { IndexChannel } from '../federation/federation.ts';
import type { FeedDatabase } from './feed-tables.ts';
import type { AdvertiseParts } from './parts.ts';
import { passOverRefused } from './refused-entries.ts';

/** Sends the feed to the index in order, again after every loss. */
export interface FeedSender {
  /** There are new entries. */
  wake(): void;
  /** Tells the index now how current its picture is. */
  heartbeat(): void;
  close(): Promise<void>;
}

/** Entries that may be under way and not yet acknowledged. */
const WINDOW = 256;
const PAGE = 64;
const HEARTBEAT_MS = 15_000;
const ANSWER_TIMEOUT_MS = 30_000;
const RECONNECT_MS = 5_000;
/** Before the first answer. */
const UNKNOWN = Number.MAX_SAFE_INTEGER;

type Call = ReturnType<IndexChannel['manifests']['advertise']>;

/** @param parts.pending studies known here that are not in the feed yet. */
export function openFeedSender(
  parts: AdvertiseParts & { readonly database: FeedDatabase; readonly pending: () => Promise<number>; readonly onAcknowledged: () => void },
): FeedSender {
  const { federation, database, clock, random, log } = parts;
  const closing = new AbortController();
  let news: () => void = () => undefined;
  let beat: () => void = () => undefined;
  let attempt = 0;

  const session = async (): Promise<void> => {
    const { feed_id: feedId } = await database.read.selectFrom('feed').select('feed_id').executeTakeFirstOrThrow();
    const call = federation.channel.manifests.advertise();
    const ended = new AbortController();
    const end = (reason: unknown): void => ended.abort(reason);
    const stop = AbortSignal.any([closing.signal, federation.channel.replaced()]);
    const onStop = (): void => end(new MeshError('CANCELLED', 'CANCELLED', 'closing'));
    stop.addEventListener('abort', onStop, { once: true });
    if (stop.aborted) onStop();
    call.on('error', (error) => end(fromServiceError(error)));
    call.on('end', () => end(new MeshError('UNAVAILABLE', 'INDEX_UNREACHABLE', 'The index ended the feed.')));
    try {
      await new FeedSession({
        ...parts,
        call,
        ended: ended.signal,
        onNews: (wake) => (news = wake),
        onBeat: (wake) => (beat = wake),
        onAnswer: () => (attempt = 0),
      }).run(Buffer.from(feedId));
    } finally {
      stop.removeEventListener('abort', onStop);
      news = beat = () => undefined;
      call.cancel();
    }
  };

  const run = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      try {
        await session();
      } catch (thrown) {
        if (closing.signal.aborted) return;
        const error = asMeshError(thrown);
        // A full disk, say: the refused entry is met again at the next try.
        const isPassedOver = await passOverRefused({ ...parts, error }).catch((fault: unknown) => {
          log.error({ event: 'refused-entry-not-passed-over', err: fault });
          return false;
        });
        if (isPassedOver) {
          parts.onAcknowledged();
          continue;
        }
        if (error.reason === 'INDEX_UNREACHABLE') federation.channel.report('unreachable');
        log[attempt === 0 || error.code === 'INTERNAL' ? 'info' : 'debug']({
          event: 'feed-lost',
          code: error.code,
          reason: error.reason,
          attempt,
          err: error.code === 'INTERNAL' ? error.cause : undefined,
        });
      }
      const longest = Math.min(RECONNECT_MS, 250 * 2 ** Math.min(attempt, 6));
      attempt += 1;
      await clock.sleep(longest / 2 + (longest / 2) * (random.bytes(1).readUInt8() / 255), closing.signal).catch(() => undefined);
    }
  };
  const running = run();
  return {
    wake: () => news(),
    heartbeat: () => beat(),
    close: async () => {
      closing.abort(new Error('closing'));
      await running;
    },
  };
}

interface SessionParts extends AdvertiseParts {
  readonly database: FeedDatabase;
  readonly call: Call;
  readonly ended: AbortSignal;
  readonly pending: () => Promise<number>;
  readonly onAcknowledged: () => void;
  readonly onNews: (wake: () => void) => void;
  readonly onBeat: (wake: () => void) => void;
  readonly onAnswer: () => void;
}

/** One stream: hello, the answer that tells where to resume, entries in order under a window, heartbeats. */
class FeedSession {
  private readonly parts: SessionParts;
  private acknowledged = UNKNOWN;
  private sent = UNKNOWN;
  private saved = 0;
  private saving: Promise<void> | undefined;
  private isBeatDue = true;
  private isNewsDue = true;
  private lastAnswerMs: number;
  private wake: () => void = () => undefined;

  constructor(parts: SessionParts) {
    this.parts = parts;
    this.lastAnswerMs = parts.clock.monotonicMs();
  }

  async run(feedId: Buffer): Promise<void> {
    const { call, ended, clock } = this.parts;
    const wakeSession = (): void => this.wake();
    this.parts.onNews(() => {
      this.isNewsDue = true;
      wakeSession();
    });
    this.parts.onBeat(() => {
      this.isBeatDue = true;
      wakeSession();
    });
    ended.addEventListener('abort', wakeSession, { once: true });
    const hello = new Promise<number>((resolve, reject) => {
      ended.addEventListener('abort', () => reject(ended.reason as Error), { once: true });
      call.on('data', (answer: AdvertiseResponse) => {
        this.lastAnswerMs = clock.monotonicMs();
        this.acknowledged = Number(answer.acknowledgedSeq);
        resolve(this.acknowledged);
        this.wake();
      });
    });
    hello.catch(() => undefined); // the write below may fail first, and says why
    const timer = clock.after(ANSWER_TIMEOUT_MS, () => call.cancel());
    await this.write({ step: { $case: 'hello', value: { feedId } } });
    const resumeAfter = await hello.finally(() => timer.cancel());
    this.parts.federation.channel.report('connected');
    this.parts.onAnswer();
    await this.resume(resumeAfter);
    try {
      await this.drive();
    } finally {
      await this.saving;
    }
  }

  /** The index says where it stands. It may know less (restored from a backup): it gets it again; more is another feed. */
  private async resume(resumeAfter: number): Promise<void> {
    const { database, log, random } = this.parts;
    const feed = await database.read.selectFrom('feed').select(['last_seq', 'acknowledged_seq']).executeTakeFirstOrThrow();
    if (resumeAfter > feed.last_seq) {
      log.error(
        { event: 'feed-begins-anew', indexHas: resumeAfter, here: feed.last_seq },
        'the index knows more of this feed than this node does: its database is older. A new feed is begun',
      );
      await database.write
        .updateTable('feed')
        .set({ feed_id: random.bytes(16), acknowledged_seq: 0 })
        .execute();
      throw new MeshError('ABORTED', 'FEED_REPLACED', 'A new feed is begun.');
    }
    this.saved = feed.acknowledged_seq;
    this.sent = resumeAfter;
    if (resumeAfter < feed.acknowledged_seq) {
      log.warn({ event: 'feed-sent-again', from: resumeAfter + 1, acknowledged: feed.acknowledged_seq });
      await database.write.updateTable('feed').set({ acknowledged_seq: resumeAfter }).execute();
      this.saved = resumeAfter;
    }
    this.save();
  }

  private async drive(): Promise<void> {
    const { ended, database, clock } = this.parts;
    let nextBeatMs = 0;
    let lastSeq = 0;
    while (!ended.aborted) {
      const woken = this.nextWake();
      this.save();
      if (this.isNewsDue) {
        this.isNewsDue = false;
        lastSeq = (await database.read.selectFrom('feed').select('last_seq').executeTakeFirstOrThrow()).last_seq;
      }
      // Whole pages: a question to the database for every acknowledgement would cost more than the sending.
      if (this.sent < lastSeq && this.sent - this.acknowledged <= WINDOW - PAGE) {
        await this.sendPage();
        this.isBeatDue = true;
        continue;
      }
      const nowMs = clock.monotonicMs();
      if (this.sent > this.acknowledged && nowMs - this.lastAnswerMs > ANSWER_TIMEOUT_MS)
        throw new MeshError('DEADLINE_EXCEEDED', 'INDEX_TIMEOUT', 'The index does not acknowledge the feed.');
      if (this.sent === lastSeq && this.acknowledged >= this.sent && (this.isBeatDue || nowMs >= nextBeatMs)) {
        this.isBeatDue = false;
        nextBeatMs = nowMs + HEARTBEAT_MS;
        await this.write({
          step: { $case: 'heartbeat', value: { asOfEpochMs: BigInt(clock.now()), pending: await this.parts.pending() } },
        });
      }
      const timer = clock.after(Math.max(1, Math.min(nextBeatMs - nowMs, 5_000)), () => this.wake());
      await woken.finally(() => timer.cancel());
    }
    throw ended.reason as Error;
  }

  private async sendPage(): Promise<void> {
    const rows = await this.parts.database.read
      .selectFrom('feed_entry')
      .select(['seq', 'manifest', 'refused'])
      .where('seq', '>', this.sent)
      .orderBy('seq')
      .limit(PAGE)
      .execute();
    if (rows.length === 0) throw new MeshError('DATA_LOSS', 'FEED_GAP', 'The newest entries are missing from the feed of this node.');
    for (const { seq, manifest, refused } of rows) {
      if (seq !== this.sent + 1) throw new MeshError('DATA_LOSS', 'FEED_GAP', 'An entry is missing from the feed of this node.');
      await this.write({
        step: {
          $case: 'entry',
          value: { seq: BigInt(seq), manifest: refused === null ? SignedObject.decode(Buffer.from(manifest)) : undefined },
        },
      });
      this.sent = seq;
    }
  }

  /** Acknowledgements come one by one; what has come meanwhile is made durable together. */
  private save(): void {
    if (this.acknowledged === UNKNOWN || this.acknowledged <= this.saved) return;
    this.saving ??= this.saveAll()
      .catch((thrown: unknown) => this.parts.log.error({ event: 'acknowledgement-not-kept', err: asMeshError(thrown).cause ?? thrown }))
      .finally(() => (this.saving = undefined));
  }

  private async saveAll(): Promise<void> {
    const { database, store, onAcknowledged } = this.parts;
    while (this.saved < this.acknowledged) {
      const to = this.acknowledged;
      const entries = await database.read
        .selectFrom('feed_entry')
        .select(['study_instance_uid', 'store_version'])
        .where('seq', '>', this.saved)
        .where('seq', '<=', to)
        .where('refused', 'is', null)
        .orderBy('seq')
        .execute();
      await store.settle.markAllAdvertised(
        entries.map((entry) => ({ studyInstanceUid: entry.study_instance_uid, version: entry.store_version })),
      );
      await database.write.updateTable('feed').set({ acknowledged_seq: to }).where('acknowledged_seq', '<', to).execute();
      this.saved = to;
      onAcknowledged();
    }
  }

  private async write(request: AdvertiseRequest): Promise<void> {
    const { call, ended } = this.parts;
    if (ended.aborted) throw ended.reason as Error;
    if (call.write(request)) return;
    await new Promise<void>((resolve, reject) => {
      const onEnd = (): void => reject(ended.reason as Error);
      call.once('drain', () => {
        ended.removeEventListener('abort', onEnd);
        resolve();
      });
      ended.addEventListener('abort', onEnd, { once: true });
    });
  }

  private nextWake(): Promise<void> {
    return new Promise((resolve) => {
      this.wake = resolve;
      if (this.parts.ended.aborted) resolve();
    });
  }
}
