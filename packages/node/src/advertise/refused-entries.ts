import type { MeshError } from '@meridian/shared/errors';
import type { FeedDatabase } from './feed-tables.ts';
import type { AdvertiseParts } from './parts.ts';

/**
 * One entry that the index will never take must not hold up those behind it: it is reported, and its number is passed
 * over from now on. The study stays here, and a later version of it is announced again.
 * @param parts.error how the feed ended.
 * @returns whether the feed ended for such an entry, so that it can go on at once.
 */
export async function passOverRefused(
  parts: Pick<AdvertiseParts, 'audit' | 'log'> & { readonly database: FeedDatabase; readonly error: MeshError },
): Promise<boolean> {
  const { database, error, audit, log } = parts;
  const seq = Number(error.details['refusedSeq'] ?? Number.NaN);
  if (error.code !== 'INVALID_ARGUMENT' || !Number.isSafeInteger(seq)) return false;
  // Refused once more: then it is the passing over that is not understood, and the feed waits.
  const entry = await database.read
    .selectFrom('feed_entry')
    .select(['study_instance_uid', 'version'])
    .where('seq', '=', seq)
    .where('refused', 'is', null)
    .executeTakeFirst();
  if (entry === undefined) return false;
  const { study_instance_uid: studyInstanceUid, version } = entry;
  await audit.append({
    type: 'ADMIN',
    study: studyInstanceUid,
    reason: error.reason,
    detail: { event: 'feed-entry-refused', version, seq },
  });
  await database.write.updateTable('feed_entry').set({ refused: error.reason }).where('seq', '=', seq).execute();
  log.error(
    { event: 'feed-entry-refused', seq, studyInstanceUid, version, reason: error.reason },
    `the index refuses this study for good, so it is not announced: ${error.message}`,
  );
  return true;
}

/** Studies whose newest entry the index refused. */
export async function refusedStudies(database: FeedDatabase): Promise<number> {
  const refused = await database.read
    .selectFrom('feed_entry as entry')
    .select('entry.seq')
    .where('entry.refused', 'is not', null)
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom('feed_entry as later')
            .select('later.seq')
            .whereRef('later.study_instance_uid', '=', 'entry.study_instance_uid')
            .whereRef('later.version', '>', 'entry.version'),
        ),
      ),
    )
    .execute();
  return refused.length;
}
