import { MeshError } from '@meridian/shared/errors';
import type { Clock } from '@meridian/shared/platform/clock';
import type { Random } from '@meridian/shared/platform/random';
import type { TypedPersonId } from '@meridian/shared/identifiers';
import type { FetchPort } from './parts.ts';
import { problemOf } from './ndjson.ts';
import type { Purpose, TransferProgress, TransferView } from './views.ts';

/** How many finished copies are remembered for the page. */
const KEPT = 200;
/** Copies at one time; more are refused so that nobody's ask starves the others. */
const RUNNING_LIMIT = 16;
/** How often a copy is looked at that nobody here started. */
const WATCH_MS = 500;

/** Starts copies in the background and lets any number of readers follow them. */
export interface TransferDesk {
  start(request: {
    personId: TypedPersonId;
    studyInstanceUid: string;
    holderNode?: string;
    holderName?: string;
    patientId?: string;
    purpose: Purpose;
    subject: string;
  }): TransferView;
  list(): Promise<readonly TransferView[]>;
  /** Resolves at the end of the copy, after telling every change. @throws MeshError NOT_FOUND TRANSFER_UNKNOWN */
  follow(id: string, signal: AbortSignal, onChange: (view: TransferView) => void): Promise<TransferView>;
  /** @throws MeshError NOT_FOUND TRANSFER_UNKNOWN */
  cancel(id: string): Promise<TransferView>;
  close(): Promise<void>;
}

interface Entry {
  view: TransferView;
  readonly stop: AbortController;
  readonly listeners: Set<() => void>;
  done: Promise<void>;
}

/** @param port the journey consent, grant, transfer, link; one call a copy. */
export function openTransferDesk({ port, clock, random }: { port: FetchPort; clock: Clock; random: Random }): TransferDesk {
  const entries = new Map<string, Entry>();
  const find = (id: string): Entry => {
    const entry = entries.get(id);
    if (entry === undefined) throw unknownTransfer();
    return entry;
  };
  const change = (entry: Entry, part: Partial<TransferView>): void => {
    entry.view = { ...entry.view, ...part };
    for (const listener of entry.listeners) listener();
  };

  async function run(entry: Entry, request: Parameters<TransferDesk['start']>[0]): Promise<void> {
    const { holderName: _, ...rest } = request;
    try {
      const result = await port.fetch({ ...rest, signal: entry.stop.signal, onProgress: (progress) => change(entry, { progress }) });
      const total: TransferProgress = {
        instancesVerified: result.instances,
        instancesTotal: result.instances,
        bytesVerified: result.bytes,
        bytesTotal: result.bytes,
        ...(result.firstImageMs === undefined ? {} : { firstImageMs: result.firstImageMs }),
      };
      const facts = { resumedInstances: result.resumedInstances, digestMismatches: result.digestMismatches };
      change(entry, { state: 'done', progress: total, finishedAtEpochMs: clock.now(), ...facts });
    } catch (thrown) {
      const state = entry.stop.signal.aborted ? 'cancelled' : 'failed';
      change(entry, { state, finishedAtEpochMs: clock.now(), ...(state === 'failed' ? { failure: problemOf(thrown) } : {}) });
    }
  }

  /** A copy that goes on since before a restart: looked at, now and then, until it ends. */
  async function watch(id: string, signal: AbortSignal, onChange: (view: TransferView) => void): Promise<TransferView> {
    for (;;) {
      const view = (await port.listTransfers?.())?.find((one) => one.id === id);
      if (view === undefined) throw unknownTransfer();
      onChange(view);
      if ((view.state !== 'running' && view.state !== 'queued') || signal.aborted) return view;
      await clock.sleep(WATCH_MS, signal).catch(() => undefined);
    }
  }

  return {
    start(request) {
      const running = [...entries.values()].filter((entry) => entry.view.state === 'running');
      const same = running.find((entry) => entry.view.studyInstanceUid === request.studyInstanceUid);
      if (same !== undefined) return same.view;
      if (running.length >= RUNNING_LIMIT) {
        throw new MeshError(
          'RESOURCE_EXHAUSTED',
          'TRANSFERS_BUSY',
          `${RUNNING_LIMIT} studies are being copied already. Wait for one to end, or cancel one.`,
        );
      }
      const id = random.uuid();
      const view: TransferView = {
        id,
        studyInstanceUid: request.studyInstanceUid,
        ...(request.holderNode === undefined ? {} : { holderNode: request.holderNode }),
        ...(request.holderName === undefined ? {} : { holderName: request.holderName }),
        state: 'running',
        startedAtEpochMs: clock.now(),
      };
      const entry: Entry = { view, stop: new AbortController(), listeners: new Set(), done: Promise.resolve() };
      entries.set(id, entry);
      forgetOldest(entries);
      entry.done = run(entry, request);
      return entry.view;
    },
    async list() {
      const own = [...entries.values()].map((entry) => entry.view);
      const elsewhere = (await port.listTransfers?.()) ?? [];
      const known = new Set(own.map((view) => view.studyInstanceUid));
      return [...own, ...elsewhere.filter((view) => !known.has(view.studyInstanceUid))].sort(
        (a, b) => b.startedAtEpochMs - a.startedAtEpochMs,
      );
    },
    async follow(id, signal, onChange) {
      if (!entries.has(id)) return watch(id, signal, onChange);
      const entry = find(id);
      const tell = (): void => onChange(entry.view);
      entry.listeners.add(tell);
      tell();
      try {
        await Promise.race([entry.done, new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))]);
        return entry.view;
      } finally {
        entry.listeners.delete(tell);
      }
    },
    async cancel(id) {
      const entry = find(id);
      entry.stop.abort(new MeshError('CANCELLED', 'TRANSFER_CANCELLED', 'The copy was cancelled here. What had arrived is kept.'));
      await entry.done;
      return entry.view;
    },
    async close() {
      for (const entry of entries.values())
        entry.stop.abort(new MeshError('CANCELLED', 'NODE_STOPPING', 'The node is stopping; the copy goes on after the restart.'));
      await Promise.all([...entries.values()].map((entry) => entry.done));
    },
  };
}

function forgetOldest(entries: Map<string, Entry>): void {
  for (const [id, entry] of entries) {
    if (entries.size <= KEPT) return;
    if (entry.view.state !== 'running') entries.delete(id);
  }
}

function unknownTransfer(): MeshError {
  return new MeshError(
    'NOT_FOUND',
    'TRANSFER_UNKNOWN',
    'This copy is not known here. It may have ended before the node restarted; look at the history.',
  );
}
