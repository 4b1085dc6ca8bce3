import { MeshError } from '@meridian/shared/errors';
import { MAX_GET_BYTES, MAX_PENDING_GETS, READ_AHEAD_BYTES, READ_BYTES, WINDOW_BYTES } from './limits.ts';
import type { ServedInstance, ServeStore } from './ports.ts';

/** A GET that waits for its answer. */
export interface PendingGet<Row> {
  readonly requestId: number;
  /** Absent: refused with `failedReason`. */
  readonly row: Row | undefined;
  readonly offset: number;
  readonly length: number;
  readonly failedReason: 'INSTANCE_UNKNOWN' | 'RANGE_INVALID' | undefined;
  cancelled: boolean;
  /** The first read, begun while earlier GETs are answered. */
  ahead?: { readonly bytes: Promise<Buffer>; readonly length: number };
}

/** The GETs of one transfer in the order in which they came. */
export interface ServeQueue<Row> {
  /** @throws MeshError RESOURCE_EXHAUSTED / WINDOW_EXCEEDED when the asker asks for more than it was allowed. */
  add(get: { readonly requestId: number; readonly sopInstanceUid: string; readonly offset: bigint; readonly length: bigint }): void;
  cancel(requestIds: readonly number[]): void;
  shift(): PendingGet<Row> | undefined;
  /** The bytes of a GET in reads of 1 MiB, each begun before it is needed: a read is several trips to the disk's threads. */
  reads(get: PendingGet<Row>): AsyncGenerator<Buffer>;
  /** To be called when a GET was answered: its bytes may be asked for again. */
  done(get: PendingGet<Row>): void;
}

/** @param rows what the study holds here, by SOP Instance UID. */
export function openServeQueue<Row extends ServedInstance>(rows: ReadonlyMap<string, Row>, store: ServeStore<Row>): ServeQueue<Row> {
  const queue: PendingGet<Row>[] = [];
  let askedBytes = 0;
  let aheadBytes = 0;

  function read(row: Row, offset: number, length: number): Promise<Buffer> {
    const reading = store.studies.readDataSet(row, offset, length);
    // It may be dropped by a cancel or a close before anybody waits for it.
    reading.catch(() => undefined);
    return reading;
  }
  function beginRead(get: PendingGet<Row>): void {
    if (get.row === undefined || get.length === 0 || get.ahead !== undefined) return;
    const length = Math.min(READ_BYTES, get.length);
    get.ahead = { bytes: read(get.row, get.offset, length), length };
    aheadBytes += length;
  }
  function readAhead(): void {
    for (const get of queue) {
      if (aheadBytes >= READ_AHEAD_BYTES) return;
      if (!get.cancelled) beginRead(get);
    }
  }

  return {
    add({ requestId, sopInstanceUid, offset, length }) {
      const row = rows.get(sopInstanceUid);
      const range = row === undefined ? undefined : rangeOf(row.bytes, offset, length);
      const failedReason = row === undefined ? 'INSTANCE_UNKNOWN' : range === undefined ? 'RANGE_INVALID' : undefined;
      askedBytes += range?.length ?? 0;
      if (askedBytes > WINDOW_BYTES || queue.length >= MAX_PENDING_GETS) {
        throw new MeshError(
          'RESOURCE_EXHAUSTED',
          'WINDOW_EXCEEDED',
          `More was asked for at once than the ${WINDOW_BYTES} bytes that were allowed.`,
        );
      }
      queue.push({ requestId, row, offset: range?.offset ?? 0, length: range?.length ?? 0, failedReason, cancelled: false });
    },
    cancel(requestIds) {
      const ids = new Set(requestIds);
      for (const get of queue) if (ids.has(get.requestId)) get.cancelled = true;
    },
    shift() {
      const get = queue.shift();
      if (get !== undefined) beginRead(get);
      readAhead();
      return get;
    },
    async *reads(get) {
      const { row } = get;
      if (row === undefined) return;
      const end = get.offset + get.length;
      let at = get.offset;
      let next = get.ahead?.bytes;
      while (next !== undefined) {
        const bytes = await next;
        if (bytes.length !== Math.min(READ_BYTES, end - at))
          throw new MeshError(
            'DATA_LOSS',
            'STORED_OBJECT_SHORT',
            'A stored object is shorter than its record says. The node has to check its disk.',
          );
        at += bytes.length;
        next = at < end ? read(row, at, Math.min(READ_BYTES, end - at)) : undefined;
        yield bytes;
      }
    },
    done(get) {
      askedBytes -= get.length;
      aheadBytes -= get.ahead?.length ?? 0;
    },
  };
}

function rangeOf(objectBytes: number, offset: bigint, length: bigint): { offset: number; length: number } | undefined {
  if (offset > BigInt(objectBytes)) return undefined;
  const rest = BigInt(objectBytes) - offset;
  const asked = length === 0n ? rest : length;
  return asked <= rest && asked <= BigInt(MAX_GET_BYTES) ? { offset: Number(offset), length: Number(asked) } : undefined;
}
