import { asMeshError, MeshError } from '@meridian/shared/errors';
import {
  ManifestServiceService,
  type AdvertiseRequest,
  type AdvertiseResponse,
  type FeedEntry,
  type FeedHeartbeat,
  type ManifestServiceServer,
} from '@meridian/shared/generated/meridian/v1/manifest';
import { runStream, writeMessage, type WritableCall } from '@meridian/shared/grpc';
import type { NodeId } from '@meridian/shared/identifiers';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import type { AttemptLimit } from '../registry/attempts.ts';
import type { Caller, CallerGate } from '../registry/caller.ts';
import type { IndexDatabase } from '../tables.ts';
import { checkEntry } from './check-entry.ts';
import { beginFeed, recordHeartbeat } from './feeds.ts';
import type { ManifestGroup, PassedEntry, ManifestEntry, StoredGroup } from './store-group-job.ts';

/** Entries of one commit, and so of one flush of the disk. */
const MAX_GROUP_ENTRIES = 256;
const MAX_GROUP_BYTES = 4 * 1024 * 1024;
/** A node says something at least every 30 s; a silent stream is a dead one. */
const SILENCE_LIMIT_MS = 300_000;

/** Module of the job that stores groups; the database runs it in its writer thread. */
export const manifestJobs = new URL('./store-group-job.ts', import.meta.url);

/** Parts of the manifest feed. */
export interface AdvertiseParts {
  readonly database: IndexDatabase;
  readonly gate: CallerGate;
  /** How often a node may begin a feed. */
  readonly hellos: AttemptLimit;
  readonly clock: Clock;
  readonly log: Logger;
  /** Called when a stored group left notices for other nodes. */
  readonly onNotices: () => void;
  /** Called after patient keys of a node's studies were stored, before they are acknowledged. */
  readonly onStored: (nodeId: NodeId, patientKeys: readonly Uint8Array[]) => Promise<void>;
}

type AdvertiseCall = AsyncIterable<AdvertiseRequest> & WritableCall<AdvertiseResponse>;

/** The manifest feed's RPC. A node has one feed stream: a newer one ends the older. */
export function manifestService(parts: AdvertiseParts): {
  definition: typeof ManifestServiceService;
  implementation: ManifestServiceServer;
} {
  const running = new Map<NodeId, AbortController>();
  return {
    definition: ManifestServiceService,
    implementation: {
      advertise: (call) => {
        runStream(call, {
          log: parts.log,
          authenticate: parts.gate.authenticate,
          run: async ({ caller, signal }) => {
            const lease = parts.gate.whileActive(caller, signal);
            const superseded = new AbortController();
            running.get(caller.nodeId)?.abort(new MeshError('ABORTED', 'SUPERSEDED', 'A newer feed stream of this node took over.'));
            running.set(caller.nodeId, superseded);
            try {
              await new FeedStream(parts, caller, call, AbortSignal.any([lease.signal, superseded.signal])).run();
            } finally {
              if (running.get(caller.nodeId) === superseded) running.delete(caller.nodeId);
              lease.release();
            }
          },
        });
      },
    },
  };
}

class FeedStream {
  private readonly parts: AdvertiseParts;
  private readonly caller: Caller;
  private readonly call: AdvertiseCall;
  private readonly signal: AbortSignal;
  private feedId: Buffer | undefined;
  private expectedSeq = 0;
  private group: (ManifestEntry | PassedEntry)[] = [];
  private groupBytes = 0;
  private storing: Promise<void> | undefined;
  private failure: unknown;

  constructor(parts: AdvertiseParts, caller: Caller, call: AdvertiseCall, signal: AbortSignal) {
    this.parts = parts;
    this.caller = caller;
    this.call = call;
    this.signal = signal;
  }

  async run(): Promise<void> {
    const requests = this.call[Symbol.asyncIterator]();
    for (;;) {
      const request = await this.nextRequest(requests);
      if (request === undefined) break;
      await this.take(request);
    }
    await this.storeAll();
  }

  /** The next request, or the reason why the stream is over: revocation, silence, a failed commit. */
  private async nextRequest(requests: AsyncIterator<AdvertiseRequest>): Promise<AdvertiseRequest | undefined> {
    this.signal.throwIfAborted();
    if (this.failure !== undefined) throw this.failure;
    let end: (reason: unknown) => void = () => undefined;
    const ended = new Promise<never>((_resolve, reject) => (end = reject));
    const onAbort = (): void => end(this.signal.reason);
    this.signal.addEventListener('abort', onAbort, { once: true });
    this.storing?.catch(end);
    const silence = this.parts.clock.after(SILENCE_LIMIT_MS, () =>
      end(new MeshError('DEADLINE_EXCEEDED', 'FEED_SILENT', 'Nothing came on this feed for five minutes. Open it again.')),
    );
    try {
      const next = await Promise.race([requests.next(), ended]);
      return next.done === true ? undefined : next.value;
    } finally {
      silence.cancel();
      this.signal.removeEventListener('abort', onAbort);
    }
  }

  private async take({ step }: AdvertiseRequest): Promise<void> {
    switch (step?.$case) {
      case 'hello':
        return this.begin(step.value.feedId);
      case 'entry':
        return this.takeEntry(step.value);
      case 'heartbeat':
        return this.takeHeartbeat(step.value);
      case undefined:
        // A step of a later version of the contract.
        return;
    }
  }

  private async begin(feedId: Buffer): Promise<void> {
    if (this.feedId !== undefined) throw new MeshError('INVALID_ARGUMENT', 'FEED_HELLO_TWICE', 'A feed says hello once.');
    this.parts.hellos.count(this.caller.nodeId);
    const acknowledgedSeq = await beginFeed(this.parts.database, { nodeId: this.caller.nodeId, feedId, atEpochMs: this.parts.clock.now() });
    this.feedId = feedId;
    this.expectedSeq = acknowledgedSeq + 1;
    await this.acknowledge(acknowledgedSeq);
  }

  private async takeEntry(entry: FeedEntry): Promise<void> {
    this.begun();
    const seq = Number(entry.seq);
    if (seq > this.expectedSeq) {
      await this.storeAll();
      throw gapError(this.expectedSeq);
    }
    if (seq < this.expectedSeq) {
      await this.storeAll();
      return this.acknowledge(this.expectedSeq - 1);
    }
    const checked = entry.manifest === undefined ? this.passOver(seq) : await this.check(entry);
    this.expectedSeq += 1;
    this.group.push(checked);
    this.groupBytes += checked.payload?.length ?? 0;
    if (this.group.length >= MAX_GROUP_ENTRIES || this.groupBytes >= MAX_GROUP_BYTES) await this.storeAll();
    else this.storing ??= this.storeInBackground();
  }

  /** A refused entry ends the stream; what came before it is durable by then, so that the node knows which one it was. */
  private async check(entry: FeedEntry): Promise<ManifestEntry> {
    try {
      return checkEntry(entry, this.caller, this.parts.clock.now());
    } catch (thrown) {
      const error = asMeshError(thrown);
      if (error.code !== 'INVALID_ARGUMENT') throw error;
      await this.storeAll();
      throw new MeshError(error.code, error.reason, error.message, {
        cause: error,
        details: { ...error.details, refusedSeq: String(entry.seq) },
      });
    }
  }

  private passOver(seq: number): PassedEntry {
    this.parts.log.warn({ event: 'feed-entry-passed-over', nodeId: this.caller.nodeId, seq });
    return { seq };
  }

  private async takeHeartbeat(heartbeat: FeedHeartbeat): Promise<void> {
    const feedId = this.begun();
    await this.storeAll();
    const now = this.parts.clock.now();
    await recordHeartbeat(this.parts.database, {
      nodeId: this.caller.nodeId,
      feedId,
      asOfEpochMs: Math.min(Number(heartbeat.asOfEpochMs), now),
      pending: heartbeat.pending,
      atEpochMs: now,
    });
  }

  private begun(): Buffer {
    if (this.feedId === undefined) throw new MeshError('INVALID_ARGUMENT', 'FEED_HELLO_MISSING', 'A feed says hello before anything else.');
    return this.feedId;
  }

  private async storeAll(): Promise<void> {
    await this.storing;
    if (this.group.length > 0) await this.storeGroups();
  }

  private async storeInBackground(): Promise<void> {
    try {
      await this.storeGroups();
    } catch (thrown) {
      this.failure = thrown;
      throw thrown;
    } finally {
      this.storing = undefined;
    }
  }

  /** Commits what has come, then what came meanwhile: the slower the disk, the larger the groups. */
  private async storeGroups(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    while (this.group.length > 0) {
      const entries = this.group;
      this.group = [];
      this.groupBytes = 0;
      const { nodeId } = this.caller;
      const group: ManifestGroup = { nodeId, feedId: this.begun(), entries, atEpochMs: this.parts.clock.now() };
      const stored = await this.parts.database.run<StoredGroup>('storeGroup', group);
      if (stored.recalled) this.parts.onNotices();
      if (stored.gap) throw gapError(stored.acknowledgedSeq + 1);
      await this.parts.onStored(
        nodeId,
        entries.flatMap(({ patientKeys }) => patientKeys ?? []),
      );
      await this.acknowledge(stored.acknowledgedSeq);
    }
  }

  private async acknowledge(seq: number): Promise<void> {
    await writeMessage(this.call, { acknowledgedSeq: BigInt(seq) }, this.signal);
  }
}

function gapError(expectedSeq: number): MeshError {
  return new MeshError(
    'FAILED_PRECONDITION',
    'FEED_GAP',
    `An entry of this feed is missing: number ${expectedSeq} comes next. Open the feed again and go on from there.`,
    { details: { expectedSeq: String(expectedSeq) } },
  );
}
