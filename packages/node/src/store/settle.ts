import type { Database } from '@meridian/shared/database';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import type { StoreLimits } from './limits.ts';
import type { StoreSchema } from './schema.ts';

/** Decides when a study has arrived. */
export interface Settle {
  /** An instance of the study was stored. */
  received(studyInstanceUid: string, associationId?: string): void;
  associationOpened(id: string): void;
  associationActive(id: string): void;
  associationClosed(id: string, how: 'released' | 'aborted'): void;
  /** Takes the study as whole at once; resolves when that is durable. False: it was not arriving. */
  now(studyInstanceUid: string): Promise<boolean>;
  /** The index acknowledged this version. */
  markAdvertised(studyInstanceUid: string, version: number): Promise<void>;
  /** The same for many at once. */
  markAllAdvertised(acknowledged: readonly { readonly studyInstanceUid: string; readonly version: number }[]): Promise<void>;
  /** Studies that are still arriving. */
  arriving(): readonly string[];
  /** Resolves when no decision is being written. */
  idle(): Promise<void>;
  /** Stops all timers; studies that are arriving go on at the next start. */
  close(): Promise<void>;
}

interface Arrival {
  lastReceivedMs: number;
  /** Instances have come since the last announcement. */
  hasNews: boolean;
  /** Of the last announcement as incomplete, or of the first instance. */
  announcedMs: number;
  /** When the last association that carried it ended by release. */
  releasedMs: number | undefined;
  readonly associations: Set<string>;
  timer: { cancel(): void } | undefined;
}

interface Association {
  activeMs: number;
  readonly studies: Set<string>;
}

/**
 * Opens the timers. A study is whole after `quietTimeMs` of silence, or `releasedQuietTimeMs` after a normal release; an
 * association that carried it and was active within `activeAssociationMs` holds it open.
 */
export async function openSettle(parts: {
  database: Database<StoreSchema>;
  clock: Clock;
  log: Logger;
  onChange: () => void;
  limits: Pick<StoreLimits, 'quietTimeMs' | 'releasedQuietTimeMs' | 'activeAssociationMs' | 'incompleteAfterMs'>;
}): Promise<Settle> {
  const { database, clock, log, limits } = parts;
  const arrivals = new Map<string, Arrival>();
  const associations = new Map<string, Association>();
  const writing = new Set<Promise<unknown>>();
  let isClosed = false;

  const dueMs = (arrival: Arrival): number => {
    const silence = arrival.lastReceivedMs + limits.quietTimeMs;
    let held = 0;
    for (const id of arrival.associations) held = Math.max(held, (associations.get(id)?.activeMs ?? 0) + limits.activeAssociationMs);
    if (arrival.associations.size > 0) return Math.max(silence, held);
    return arrival.releasedMs === undefined
      ? silence
      : Math.min(silence, Math.max(arrival.lastReceivedMs, arrival.releasedMs) + limits.releasedQuietTimeMs);
  };

  const arm = (studyInstanceUid: string, arrival: Arrival): void => {
    arrival.timer?.cancel();
    if (isClosed) return;
    const next = Math.min(dueMs(arrival), arrival.announcedMs + limits.incompleteAfterMs);
    arrival.timer = clock.after(Math.max(0, next - clock.monotonicMs()), () => look(studyInstanceUid, arrival));
  };

  const look = (studyInstanceUid: string, arrival: Arrival): void => {
    if (isClosed || arrivals.get(studyInstanceUid) !== arrival) return;
    const nowMs = clock.monotonicMs();
    if (nowMs >= dueMs(arrival)) return void advance(studyInstanceUid, 'settle');
    if (nowMs >= arrival.announcedMs + limits.incompleteAfterMs) {
      arrival.announcedMs = nowMs;
      if (arrival.hasNews) void advance(studyInstanceUid, 'incomplete');
      arrival.hasNews = false;
    }
    arm(studyInstanceUid, arrival);
  };

  const advance = (studyInstanceUid: string, how: 'settle' | 'incomplete'): Promise<boolean> => {
    if (how === 'settle') forget(studyInstanceUid);
    const work = database.run<boolean>('advanceStudy', { studyInstanceUid, how, nowEpochMs: clock.now() }).then((hasChanged) => {
      if (hasChanged) parts.onChange();
      return hasChanged;
    });
    // A decision that could not be written (disk full) is taken again after another quiet time.
    const tracked = work
      .catch((thrown: unknown) => {
        log.error({ event: 'settle-failed', studyInstanceUid, err: thrown });
        if (how === 'settle' && !isClosed && !arrivals.has(studyInstanceUid)) begin(studyInstanceUid, clock.monotonicMs());
      })
      .finally(() => writing.delete(tracked));
    writing.add(tracked);
    return work;
  };

  const begin = (studyInstanceUid: string, nowMs: number): Arrival => {
    const arrival: Arrival = {
      lastReceivedMs: nowMs,
      hasNews: true,
      announcedMs: nowMs,
      releasedMs: undefined,
      associations: new Set(),
      timer: undefined,
    };
    arrivals.set(studyInstanceUid, arrival);
    arm(studyInstanceUid, arrival);
    return arrival;
  };

  const forget = (studyInstanceUid: string): void => {
    const arrival = arrivals.get(studyInstanceUid);
    if (arrival === undefined) return;
    arrival.timer?.cancel();
    arrivals.delete(studyInstanceUid);
    for (const id of arrival.associations) associations.get(id)?.studies.delete(studyInstanceUid);
  };

  const left = await database.read.selectFrom('study').select('study_instance_uid').where('arriving', '=', 1).execute();
  for (const { study_instance_uid: uid } of left) begin(uid, clock.monotonicMs());

  return {
    received: (studyInstanceUid, associationId) => {
      const nowMs = clock.monotonicMs();
      const arrival = arrivals.get(studyInstanceUid) ?? begin(studyInstanceUid, nowMs);
      arrival.lastReceivedMs = nowMs;
      arrival.hasNews = true;
      const association = associationId === undefined ? undefined : associations.get(associationId);
      if (associationId === undefined || association === undefined) return;
      association.activeMs = nowMs;
      association.studies.add(studyInstanceUid);
      arrival.associations.add(associationId);
    },
    associationOpened: (id) => {
      associations.set(id, { activeMs: clock.monotonicMs(), studies: new Set() });
    },
    associationActive: (id) => {
      const association = associations.get(id);
      if (association !== undefined) association.activeMs = clock.monotonicMs();
    },
    associationClosed: (id, how) => {
      const association = associations.get(id);
      associations.delete(id);
      for (const uid of association?.studies ?? []) {
        const arrival = arrivals.get(uid);
        if (arrival === undefined) continue;
        arrival.associations.delete(id);
        arrival.releasedMs = how === 'released' ? clock.monotonicMs() : undefined;
        arm(uid, arrival);
      }
    },
    now: (studyInstanceUid) => advance(studyInstanceUid, 'settle'),
    markAdvertised: (studyInstanceUid, version) => database.run('markAdvertised', { studyInstanceUid, version }),
    markAllAdvertised: (acknowledged) => database.run('markAllAdvertised', acknowledged),
    arriving: () => [...arrivals.keys()],
    idle: async () => {
      while (writing.size > 0) await Promise.all(writing);
    },
    close: async () => {
      isClosed = true;
      for (const arrival of arrivals.values()) arrival.timer?.cancel();
      await Promise.all(writing);
    },
  };
}
