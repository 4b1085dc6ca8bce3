import { deflateRawSync } from 'node:zlib';
import { asMeshError } from '@meridian/shared/errors';
import { SignedObject } from '@meridian/shared/generated/meridian/v1/common';
import type { StudyManifest } from '@meridian/shared/generated/meridian/v1/manifest';
import { parseStudyInstanceUid, type StudyInstanceUid } from '@meridian/shared/identifiers';
import { signManifest } from '@meridian/shared/manifest';
import type { Change } from '../store/changes.ts';
import { buildManifest } from './build-manifest.ts';
import type { FeedDatabase } from './feed-tables.ts';
import type { AdvertiseParts } from './parts.ts';

/** Turns the archive's changes into entries of the feed, in their order. */
export interface FeedWriter {
  /** Changes that wait, and the reason why where they cannot go on now. */
  state(): { readonly waitingFor: string | undefined };
  /** Looks for changes now. */
  wake(): void;
  close(): Promise<void>;
}

const BATCH = 64;
const LOOK_AGAIN_MS = 5_000;
const RETRY_MS = 2_000;
const ADVERTISED_KINDS: ReadonlySet<string> = new Set(['study-settled', 'study-amended', 'study-incomplete', 'study-linked']);

/**
 * An archive restored from an older backup counts its changes from an earlier number again: those under the cursor would
 * never be announced. Everything it knows is announced anew; versions only grow, so the index ends with what is held now.
 */
export async function followOlderArchive(
  parts: Pick<AdvertiseParts, 'store' | 'log'> & { readonly database: FeedDatabase },
): Promise<void> {
  const { store, database, log } = parts;
  const { change_seq: cursor } = await database.read.selectFrom('feed').select('change_seq').executeTakeFirstOrThrow();
  const lastSeq = await store.changes.lastSeq();
  if (lastSeq >= cursor) return;
  log.error(
    { event: 'archive-older-than-feed', archive: lastSeq, feed: cursor },
    'the archive knows less than was announced from it: it was restored from an older backup. All its studies are announced again',
  );
  await database.write.updateTable('feed').set({ change_seq: 0 }).execute();
}

/**
 * Follows the archive. An entry gets its number in the transaction in which the cursor moves, so none is lost or doubled;
 * a change that cannot be worked off now (a new patient while the index is down) holds up those behind it.
 */
export function openFeedWriter(
  parts: AdvertiseParts & { readonly database: FeedDatabase; readonly onEntry: () => void; readonly onIdle: () => void },
): FeedWriter {
  const { store, federation, database, clock, log } = parts;
  const closing = new AbortController();
  let wakeUp: () => void = () => undefined;
  let isAwake = true;
  let waitingFor: string | undefined;
  let isDropDue = parts.faults?.dropOutboxRow === true;

  const wake = (): void => {
    isAwake = true;
    wakeUp();
  };
  const rest = (ms: number): Promise<void> => {
    if (isAwake || closing.signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = clock.after(ms, () => resolve());
      wakeUp = () => {
        timer.cancel();
        resolve();
      };
    });
  };

  const pass = async (): Promise<boolean> => {
    const { change_seq: cursor } = await database.read.selectFrom('feed').select('change_seq').executeTakeFirstOrThrow();
    const changes = await store.changes.after(cursor, BATCH);
    await learnKeys(changes);
    for (const [place, change] of changes.entries()) {
      if (closing.signal.aborted) return false;
      const entry = ADVERTISED_KINDS.has(change.kind) ? await prepare(change) : undefined;
      // Cursor moves of changes that make no entry are saved up for the next one that does.
      if (entry !== undefined || place === changes.length - 1) await advance(change.seq, entry);
    }
    return changes.length === BATCH;
  };

  /** One question to the evaluator for many patients; where it fails, those who are known still go on. */
  const learnKeys = async (changes: readonly Change[]): Promise<void> => {
    const uids = new Set(changes.filter(({ kind }) => ADVERTISED_KINDS.has(kind)).map(({ studyInstanceUid }) => studyInstanceUid));
    if (uids.size < 2) return;
    const studies = await store.studies.findStudies({ studyInstanceUids: [...uids], limit: BATCH });
    await federation
      .patientKeys(
        studies.filter(({ copyOf }) => copyOf === undefined).flatMap(({ personIds }) => personIds),
        closing.signal,
      )
      .catch((thrown: unknown) => {
        log.debug({ event: 'patient-keys-not-learnt', reason: asMeshError(thrown).reason });
      });
  };

  const prepare = async (change: Change): Promise<Prepared | undefined> => {
    const studyInstanceUid = parseStudyInstanceUid(change.studyInstanceUid);
    const study = await store.studies.study(studyInstanceUid);
    // Fetched copies are not advertised; a study of an unknown person waits for its link ("study-linked").
    if (study === undefined || study.copyOf !== undefined || study.personIds.length === 0) return undefined;
    const patientKeys = await federation.patientKeys(study.personIds, closing.signal);
    const last = await database.read
      .selectFrom('feed_entry')
      .select(({ fn }) => fn.max('version').as('version'))
      .where('study_instance_uid', '=', studyInstanceUid)
      .executeTakeFirst();
    const version = Math.max(change.version, (last?.version ?? 0) + 1);
    const built = await buildManifest(store, {
      studyInstanceUid,
      custodianNode: federation.nodeId,
      version,
      isComplete: change.kind !== 'study-incomplete',
      ofVersion: change.version,
      patientKeys,
      issuedAtEpochMs: clock.now(),
    });
    if (built === undefined) return undefined;
    const signed = await sign(built.manifest);
    if (signed === undefined) return undefined;
    await parts.audit.append({
      type: 'STORE',
      study: studyInstanceUid,
      instances: built.manifest.instanceCount,
      bytes: Number(built.manifest.totalBytes),
      detail: { version },
    });
    return {
      studyInstanceUid,
      version,
      storeVersion: Math.max(change.version, 1),
      manifest: Buffer.from(SignedObject.encode(signed).finish()),
      list: deflateRawSync(built.list),
    };
  };

  /** A study that no manifest can hold (too many series, say) is reported and does not hold up the others. */
  const sign = async (manifest: StudyManifest): Promise<SignedObject | undefined> => {
    try {
      return signManifest(manifest, federation.signingKey);
    } catch (thrown) {
      const error = asMeshError(thrown);
      if (error.code !== 'INVALID_ARGUMENT') throw error;
      await parts.audit.append({
        type: 'ADMIN',
        study: manifest.studyInstanceUid,
        reason: error.reason,
        detail: { event: 'study-not-advertised', version: Number(manifest.version) },
      });
      log.error({ event: 'study-not-advertised', studyInstanceUid: manifest.studyInstanceUid, reason: error.reason }, error.message);
      return undefined;
    }
  };

  const advance = async (changeSeq: number, entry: Prepared | undefined): Promise<void> => {
    const isDropped = entry !== undefined && isDropDue;
    await database.write.transaction().execute(async (transaction) => {
      await transaction.updateTable('feed').set({ change_seq: changeSeq }).execute();
      if (entry === undefined || isDropped) return;
      const { last_seq: lastSeq } = await transaction.selectFrom('feed').select('last_seq').executeTakeFirstOrThrow();
      await transaction
        .insertInto('feed_entry')
        .values({
          seq: lastSeq + 1,
          study_instance_uid: entry.studyInstanceUid,
          version: entry.version,
          store_version: entry.storeVersion,
          manifest: entry.manifest,
        })
        .execute();
      await transaction
        .insertInto('instance_list')
        .values({ study_instance_uid: entry.studyInstanceUid, version: entry.version, list: entry.list })
        .execute();
      await transaction
        .updateTable('feed')
        .set({ last_seq: lastSeq + 1 })
        .execute();
    });
    if (isDropped) isDropDue = false;
    if (entry !== undefined) parts.onEntry();
  };

  const run = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      isAwake = false;
      let pauseMs = LOOK_AGAIN_MS;
      try {
        const isMore = await pass();
        if (waitingFor !== undefined) log.info({ event: 'feed-goes-on' });
        waitingFor = undefined;
        if (isMore) isAwake = true;
        else parts.onIdle();
      } catch (thrown) {
        if (closing.signal.aborted) return;
        const error = asMeshError(thrown);
        if (waitingFor !== error.reason)
          log.warn({
            event: 'feed-waits',
            code: error.code,
            reason: error.reason,
            err: error.code === 'INTERNAL' ? error.cause : undefined,
          });
        waitingFor = error.reason;
        // Not woken by news: what holds up the first change holds up all.
        isAwake = false;
        pauseMs = RETRY_MS;
      }
      await rest(pauseMs);
    }
  };
  const stop = store.changes.onChange(() => {
    if (waitingFor === undefined) wake();
  });
  const running = run();
  return {
    state: () => ({ waitingFor }),
    wake,
    close: async () => {
      stop();
      closing.abort(new Error('closing'));
      wake();
      await running;
    },
  };
}

interface Prepared {
  readonly studyInstanceUid: StudyInstanceUid;
  readonly version: number;
  readonly storeVersion: number;
  readonly manifest: Buffer;
  readonly list: Buffer;
}
