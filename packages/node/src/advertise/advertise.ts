import { join } from 'node:path';
import { inflateRawSync } from 'node:zlib';
import { openSqlite } from '@meridian/shared/database';
import { MeshError } from '@meridian/shared/errors';
import { SignedObject } from '@meridian/shared/generated/meridian/v1/common';
import type { StudyManifest } from '@meridian/shared/generated/meridian/v1/manifest';
import type { StudyInstanceUid } from '@meridian/shared/identifiers';
import { MANIFEST_LIMITS, decodeManifest, manifestDigest } from '@meridian/shared/manifest';
import { openFeedSender } from './feed-sender.ts';
import { feedMigrations, type FeedSchema } from './feed-tables.ts';
import { followOlderArchive, openFeedWriter } from './feed-writer.ts';
import type { AdvertiseParts } from './parts.ts';
import { refusedStudies } from './refused-entries.ts';
import { signAnew } from './sign-anew.ts';

export type { AdvertiseParts } from './parts.ts';

/** How far the feed is. */
export interface AdvertiseStatus {
  readonly lastSeq: number;
  readonly acknowledgedSeq: number;
  /** Studies with news that are not in the feed yet, and entries that the index has not acknowledged. */
  readonly pending: number;
  /** Studies whose newest version the index refused for good: they are not announced as they are. */
  readonly refused: number;
  /** Why the feed does not go on, where it does not: a stable reason. */
  readonly waitingFor?: string;
}

/** What this node advertises. */
export interface Advertise {
  /** As of a moment ago. */
  status(): AdvertiseStatus;
  /** Resolves when everything that has settled is advertised and acknowledged. @throws the signal's reason */
  settle(signal?: AbortSignal): Promise<void>;
  /**
   * The instance list of a version (the newest unless given) with the signed manifest that binds it.
   * @throws MeshError NOT_FOUND / MANIFEST_ABSENT
   */
  instanceList(studyInstanceUid: StudyInstanceUid, version?: number): Promise<{ signed: SignedObject; list: Buffer }>;
  /** The newest manifest of an own study; undefined where none was made. */
  currentManifest(
    studyInstanceUid: StudyInstanceUid,
  ): Promise<{ signed: SignedObject; manifest: StudyManifest; digest: Buffer } | undefined>;
  close(): Promise<void>;
}

/** Opens the feed of a node that has joined; it begins where it was. */
export async function openAdvertise(parts: AdvertiseParts): Promise<Advertise> {
  const { store } = parts;
  const log = parts.log.child({ room: 'advertise' });
  const database = await openSqlite<FeedSchema>({ file: join(parts.folder, 'advertise.sqlite'), migrations: feedMigrations, readers: 1 });
  await database.write
    .insertInto('feed')
    .values({ one: 1, feed_id: parts.random.bytes(16), change_seq: 0, last_seq: 0, acknowledged_seq: 0 })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  await followOlderArchive({ store, database, log });
  await signAnew({ ...parts, database, log });

  const watchers = new Set<() => void>();
  let news = 0;
  let status: AdvertiseStatus = { lastSeq: 0, acknowledgedSeq: 0, pending: 0, refused: 0 };
  let looking: Promise<void> | undefined;
  const changed = (): void => {
    news += 1;
    looking ??= look()
      .catch((thrown: unknown) => log.error({ event: 'feed-status-unknown', err: thrown }))
      .finally(() => (looking = undefined));
    for (const watcher of watchers) watcher();
  };
  const feed = () => database.read.selectFrom('feed').selectAll().executeTakeFirstOrThrow();
  const unwritten = async (): Promise<number> => {
    const changes = await store.changes.after((await feed()).change_seq, 1_000);
    return new Set(changes.map(({ studyInstanceUid }) => studyInstanceUid)).size;
  };
  const look = async (): Promise<void> => {
    // News that come while the tables are read are looked at too.
    for (let seen = -1; seen !== news;) {
      seen = news;
      const waiting = await unwritten();
      const { last_seq: lastSeq, acknowledged_seq: acknowledgedSeq } = await feed();
      const { waitingFor } = writer.state();
      status = {
        lastSeq,
        acknowledgedSeq,
        pending: waiting + lastSeq - acknowledgedSeq,
        refused: await refusedStudies(database),
        ...(waitingFor === undefined ? {} : { waitingFor }),
      };
    }
  };
  const sender = openFeedSender({
    ...parts,
    log,
    database,
    pending: async () => (await unwritten()) + store.settle.arriving().length,
    onAcknowledged: changed,
  });
  const writer = openFeedWriter({
    ...parts,
    log,
    database,
    onEntry: () => {
      sender.wake();
      changed();
    },
    onIdle: changed,
  });
  const stopCounting = store.changes.onChange(changed);
  changed();
  const stopWaking = parts.federation.onContact(() => {
    // The index is back: what waited for it goes on at once.
    if (writer.state().waitingFor !== undefined) writer.wake();
  });

  const entryOf = (studyInstanceUid: StudyInstanceUid, version: number | undefined) => {
    const all = database.read
      .selectFrom('feed_entry')
      .select(['version', 'manifest'])
      .where('study_instance_uid', '=', studyInstanceUid)
      .where('refused', 'is', null);
    return (version === undefined ? all : all.where('version', '=', version)).orderBy('version', 'desc').limit(1).executeTakeFirst();
  };
  const isSettled = async (): Promise<boolean> => {
    // In this order: what is not unwritten any more is in the feed that is read next.
    if ((await unwritten()) > 0) return false;
    const { last_seq: lastSeq, acknowledged_seq: acknowledgedSeq } = await feed();
    return acknowledgedSeq === lastSeq;
  };

  return {
    status: () => status,
    settle: async (signal) => {
      writer.wake();
      for (;;) {
        signal?.throwIfAborted();
        const seen = news;
        if (await isSettled()) break;
        if (seen === news) await nextOf(watchers, signal);
      }
      await looking;
      sender.heartbeat();
    },
    instanceList: async (studyInstanceUid, version) => {
      const entry = await entryOf(studyInstanceUid, version);
      const row =
        entry === undefined
          ? undefined
          : await database.read
              .selectFrom('instance_list')
              .select('list')
              .where('study_instance_uid', '=', studyInstanceUid)
              .where('version', '=', entry.version)
              .executeTakeFirst();
      if (entry === undefined || row === undefined)
        throw new MeshError('NOT_FOUND', 'MANIFEST_ABSENT', 'This node has not advertised that version of the study.');
      return {
        signed: SignedObject.decode(Buffer.from(entry.manifest)),
        list: inflateRawSync(row.list, { maxOutputLength: MANIFEST_LIMITS.instanceListBytes }),
      };
    },
    currentManifest: async (studyInstanceUid) => {
      const entry = await entryOf(studyInstanceUid, undefined);
      if (entry === undefined) return undefined;
      const signed = SignedObject.decode(Buffer.from(entry.manifest));
      return { signed, manifest: decodeManifest(signed.payload), digest: manifestDigest(signed.payload) };
    },
    close: async () => {
      stopWaking();
      await writer.close();
      await sender.close();
      stopCounting();
      await looking;
      await database.close();
    },
  };
}

/** Resolves at the next news, or rejects with the signal. */
function nextOf(watchers: Set<() => void>, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (finish: () => void): void => {
      watchers.delete(onNews);
      signal?.removeEventListener('abort', onAbort);
      finish();
    };
    const onNews = (): void => end(resolve);
    const onAbort = (): void => end(() => reject(signal?.reason as Error));
    watchers.add(onNews);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}
