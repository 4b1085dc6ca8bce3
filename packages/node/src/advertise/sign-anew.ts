import { sql } from 'kysely';
import { SignedObject } from '@meridian/shared/generated/meridian/v1/common';
import { decodeManifest, signManifest } from '@meridian/shared/manifest';
import type { FeedDatabase } from './feed-tables.ts';
import type { AdvertiseParts } from './parts.ts';

const PAGE = 256;

/**
 * A node that joined again has a new signing key, and what the old one signed proves nothing any more: the newest version
 * of every study is signed anew as its next version, in a new feed. All of it or nothing.
 */
export async function signAnew(
  parts: Pick<AdvertiseParts, 'federation' | 'clock' | 'random' | 'log'> & { readonly database: FeedDatabase },
): Promise<void> {
  const { database, federation, clock, random, log } = parts;
  const { keyId } = federation.signingKey;
  const { key_id: signedBy } = await database.read.selectFrom('feed').select('key_id').executeTakeFirstOrThrow();
  if (signedBy === keyId) return;
  const newest = await database.read.selectFrom('feed_entry').select('manifest').orderBy('seq', 'desc').limit(1).executeTakeFirst();
  // A feed from before the key was noted: it is all by one key, for it changes in one step.
  if (newest === undefined || SignedObject.decode(Buffer.from(newest.manifest)).keyId === keyId) {
    await database.write.updateTable('feed').set({ key_id: keyId }).execute();
    return;
  }
  const studies = await database.write.transaction().execute(async (transaction) => {
    let count = 0;
    for (let after = 0; ;) {
      const rows = await transaction
        .selectFrom('feed_entry as entry')
        .select(['seq', 'study_instance_uid', 'version', 'store_version', 'manifest'])
        .select((select) =>
          select
            .selectFrom('feed_entry as any')
            .select(({ fn }) => fn.max('any.version').as('newest'))
            .whereRef('any.study_instance_uid', '=', 'entry.study_instance_uid')
            .as('newest'),
        )
        .where('seq', '>', after)
        .where('refused', 'is', null)
        .where((where) =>
          where.not(
            where.exists(
              where
                .selectFrom('feed_entry as later')
                .select('later.seq')
                .whereRef('later.study_instance_uid', '=', 'entry.study_instance_uid')
                .whereRef('later.version', '>', 'entry.version')
                .where('later.refused', 'is', null),
            ),
          ),
        )
        .orderBy('seq')
        .limit(PAGE)
        .execute();
      for (const row of rows) {
        const signed = SignedObject.decode(Buffer.from(row.manifest));
        const version = (row.newest ?? row.version) + 1;
        const manifest = {
          ...decodeManifest(signed.payload),
          version: BigInt(version),
          custodianNode: federation.nodeId,
          issuedAtEpochMs: BigInt(clock.now()),
        };
        count += 1;
        // Below zero until the old entries are gone.
        await transaction
          .insertInto('feed_entry')
          .values({
            seq: -count,
            study_instance_uid: row.study_instance_uid,
            version,
            store_version: row.store_version,
            manifest: Buffer.from(SignedObject.encode(signManifest(manifest, federation.signingKey)).finish()),
          })
          .execute();
        await transaction
          .updateTable('instance_list')
          .set({ version })
          .where('study_instance_uid', '=', row.study_instance_uid)
          .where('version', '=', row.version)
          .execute();
      }
      after = rows.at(-1)?.seq ?? after;
      if (rows.length < PAGE) break;
    }
    await transaction.deleteFrom('feed_entry').where('seq', '>', 0).execute();
    await sql`UPDATE feed_entry SET seq = -seq`.execute(transaction);
    await sql`DELETE FROM instance_list WHERE NOT EXISTS (SELECT 1 FROM feed_entry e WHERE e.study_instance_uid = instance_list.study_instance_uid AND e.version = instance_list.version)`.execute(
      transaction,
    );
    await transaction
      .updateTable('feed')
      .set({ feed_id: random.bytes(16), last_seq: count, acknowledged_seq: 0, key_id: keyId })
      .execute();
    return count;
  });
  if (studies > 0)
    log.warn(
      { event: 'manifests-signed-anew', studies, keyId },
      'this node joined again with a new key: its studies are signed and announced anew',
    );
}
