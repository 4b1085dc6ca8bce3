import { asMeshError, MeshError } from '@meridian/shared/errors';
import type { InstanceEntry } from '@meridian/shared/generated/meridian/v1/manifest';
import type { TransferData, TransferGet } from '@meridian/shared/generated/meridian/v1/transfer';
import { MAX_DATA_BYTES, MAX_GET_BYTES, MIN_DATA_BYTES, UNDURABLE_BYTES } from './limits.ts';
import type { PeerInstanceSink } from './ports.ts';

/** What a fetch counts; a campaign reads it to show that nothing durable travels twice. */
export interface TransferLog {
  /** GETs for whole instances, repetitions after a digest mismatch included. */
  instancesAsked: number;
  instancesVerified: number;
  bytesReceived: number;
  bytesVerified: number;
  digestMismatches: number;
}

/** The instances that are being received: asked for under the byte window, stored as they come, checked by digest. */
export interface ReceiveWindow {
  /** GETs that may be sent now. */
  take(): TransferGet[];
  /**
   * The answer to the oldest GET.
   * @throws MeshError DATA_LOSS / INVALID_ARGUMENT where the holder answers what was not asked.
   */
  receive(data: TransferData): Promise<void>;
  /** True while answers are outstanding; otherwise wait for `stored()`. */
  readonly awaiting: boolean;
  readonly finished: boolean;
  /** Resolves when one more instance is durable or failed. @throws what storing threw, or DATA_LOSS / DIGEST_MISMATCH at the second mismatch. */
  stored(): Promise<void>;
  /** Gives up what is not durable. */
  abort(): Promise<void>;
}

interface Incoming {
  readonly entry: InstanceEntry;
  readonly bytes: number;
  sink: PeerInstanceSink | undefined;
  askedBytes: number;
  receivedBytes: number;
}

interface Outstanding {
  readonly incoming: Incoming;
  readonly requestId: number;
  readonly bytes: number;
  receivedBytes: number;
}

/**
 * What is asked for and not yet durable is bounded too; one larger object is taken alone, in pieces.
 * @param parts.windowBytes bound of what is asked for and not yet received.
 * @param parts.begin opens the store's sink for an instance.
 * @param parts.onVerified called when an instance is durable.
 */
export function openReceiveWindow(parts: {
  readonly instances: readonly InstanceEntry[];
  readonly windowBytes: number;
  readonly log: TransferLog;
  readonly begin: (entry: InstanceEntry) => PeerInstanceSink;
  readonly onVerified: (entry: InstanceEntry) => void;
}): ReceiveWindow {
  const { windowBytes, log } = parts;
  const waiting = [...parts.instances].reverse();
  const active = new Set<Incoming>();
  const outstanding: Outstanding[] = [];
  const storing = new Set<Promise<void>>();
  const mismatched = new Set<string>();
  let asking: Incoming | undefined;
  let undurableBytes = 0;
  let outstandingBytes = 0;
  let nextRequestId = 1;
  let failure: MeshError | undefined;

  /** The instance whose next piece may be asked for. */
  function nextToAsk(): Incoming | undefined {
    if (asking !== undefined) return asking;
    const entry = waiting.at(-1);
    if (entry === undefined) return undefined;
    const bytes = Number(entry.bytes);
    if (undurableBytes > 0 && undurableBytes + bytes > UNDURABLE_BYTES) return undefined;
    waiting.pop();
    asking = { entry, bytes, sink: undefined, askedBytes: 0, receivedBytes: 0 };
    active.add(asking);
    undurableBytes += bytes;
    log.instancesAsked += 1;
    return asking;
  }

  function settle(incoming: Incoming, error: MeshError | undefined): void {
    active.delete(incoming);
    undurableBytes -= incoming.bytes;
    if (error === undefined) {
      log.instancesVerified += 1;
      log.bytesVerified += incoming.bytes;
      return parts.onVerified(incoming.entry);
    }
    // Bytes that cannot be read as the object they should be are other bytes too: the holder's own ingest took the right ones.
    if (error.reason !== 'DIGEST_MISMATCH' && error.code !== 'INVALID_ARGUMENT') {
      failure ??= error;
      return;
    }
    log.digestMismatches += 1;
    // Once may be a fault on the way; twice is the holder.
    if (mismatched.has(incoming.entry.sopInstanceUid)) failure ??= mismatch(error);
    mismatched.add(incoming.entry.sopInstanceUid);
    waiting.push(incoming.entry);
  }

  async function store(incoming: Incoming, sink: PeerInstanceSink): Promise<void> {
    try {
      const { outcome } = await sink.end();
      if (outcome === 'quarantined')
        throw new MeshError(
          'FAILED_PRECONDITION',
          'INSTANCE_CONFLICT',
          'This hospital already holds another object under the same SOP Instance UID. It was set aside; somebody must look at it in the quarantine list.',
        );
      settle(incoming, undefined);
    } catch (thrown) {
      settle(incoming, asMeshError(thrown));
    }
  }

  return {
    take() {
      const gets: TransferGet[] = [];
      for (;;) {
        const incoming = nextToAsk();
        if (incoming === undefined) return gets;
        const length = Math.min(MAX_GET_BYTES, windowBytes, incoming.bytes - incoming.askedBytes);
        if (outstandingBytes > 0 && outstandingBytes + length > windowBytes) return gets;
        const requestId = nextRequestId++;
        gets.push({
          requestId,
          sopInstanceUid: incoming.entry.sopInstanceUid,
          offset: BigInt(incoming.askedBytes),
          length: BigInt(length),
        });
        outstanding.push({ incoming, requestId, bytes: length, receivedBytes: 0 });
        outstandingBytes += length;
        incoming.askedBytes += length;
        if (incoming.askedBytes === incoming.bytes) asking = undefined;
      }
    },
    async receive({ requestId, bytes, last, failedReason }) {
      const oldest = outstanding[0];
      if (oldest === undefined || oldest.requestId !== requestId) throw misbehaved('DATA_UNASKED', 'it answered what was not asked');
      if (failedReason !== '')
        throw new MeshError(
          'NOT_FOUND',
          'INSTANCE_UNAVAILABLE',
          'The other hospital can no longer send an object that its list names. Ask it for the history again.',
        );
      const { incoming } = oldest;
      oldest.receivedBytes += bytes.length;
      const complete = oldest.receivedBytes === oldest.bytes;
      if (bytes.length > MAX_DATA_BYTES || oldest.receivedBytes > oldest.bytes || last !== complete)
        throw misbehaved('DATA_LENGTH', 'it sent another number of bytes than it announced');
      if (!last && bytes.length < MIN_DATA_BYTES) throw misbehaved('DATA_DRIP', 'it sent its bytes in needlessly small pieces');
      log.bytesReceived += bytes.length;
      incoming.receivedBytes += bytes.length;
      incoming.sink ??= parts.begin(incoming.entry);
      if (bytes.length > 0 && !incoming.sink.write(bytes)) await incoming.sink.drained();
      if (!complete) return;
      outstanding.shift();
      outstandingBytes -= oldest.bytes;
      if (incoming.receivedBytes < incoming.bytes) return;
      const stored = store(incoming, incoming.sink).finally(() => storing.delete(stored));
      storing.add(stored);
      if (failure !== undefined) throw failure;
    },
    get awaiting() {
      return outstanding.length > 0;
    },
    get finished() {
      return waiting.length === 0 && active.size === 0;
    },
    async stored() {
      await Promise.race(storing);
      if (failure !== undefined) throw failure;
    },
    async abort() {
      await Promise.all(
        [...active].map(async (incoming) => {
          if (incoming.receivedBytes < incoming.bytes) await incoming.sink?.abort();
        }),
      );
      await Promise.all(storing);
    },
  };
}

function misbehaved(reason: 'DATA_UNASKED' | 'DATA_LENGTH' | 'DATA_DRIP', what: string): MeshError {
  return new MeshError(
    'DATA_LOSS',
    reason,
    `The other hospital's node misbehaved: ${what}. Nothing wrong was stored; its IT department must look at it.`,
  );
}

function mismatch(cause: MeshError): MeshError {
  return new MeshError(
    'DATA_LOSS',
    'DIGEST_MISMATCH',
    'The other hospital sent an object that is not the one it signed for, twice. Nothing wrong was stored; its IT department must check its disks.',
    { cause },
  );
}
