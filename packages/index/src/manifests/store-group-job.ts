// Runs in the database's writer thread: one transaction for a group of feed entries.
import type { JobDatabase } from '@meridian/shared/database';

/** One checked manifest of a feed, ready for its row. */
export interface ManifestEntry {
  readonly seq: number;
  readonly studyInstanceUid: string;
  readonly version: number;
  readonly status: number;
  readonly patientKeys: readonly Uint8Array[];
  readonly studyDate: string;
  readonly sortKey: string;
  readonly modalities: string;
  readonly instanceCount: number;
  readonly totalBytes: number;
  readonly payload: Uint8Array;
  readonly signature: Uint8Array;
  readonly keyId: string;
  readonly algorithm: number;
  readonly digest: Uint8Array;
  /** Encoded StudyRecall where this version withdraws the study. */
  readonly recall: Uint8Array | undefined;
}

/** A number of a feed that its node passes over: it moves the feed on and stores nothing. */
export interface PassedEntry {
  readonly seq: number;
  readonly payload?: undefined;
  readonly patientKeys?: undefined;
}

/** A group of entries of one feed, in order of seq. */
export interface ManifestGroup {
  readonly nodeId: string;
  readonly feedId: Uint8Array;
  readonly entries: readonly (ManifestEntry | PassedEntry)[];
  readonly atEpochMs: number;
}

/** What became of a group. */
export interface StoredGroup {
  readonly acknowledgedSeq: number;
  /** Set where an entry did not follow from the one before; nothing of the group after it was stored. */
  readonly gap: boolean;
  /** Whether any node must be told of a recall. */
  readonly recalled: boolean;
}

/** Entries whose arrival is remembered, per feed. */
const LOGGED_ENTRIES = 10_000;

/** Stores a group: entries already held change nothing, older versions never replace newer ones. */
export function storeGroup(database: JobDatabase, argument: unknown): StoredGroup {
  const group = argument as ManifestGroup;
  const feedId = Buffer.from(group.feedId);
  const feed = database.prepare('SELECT last_seq FROM feed WHERE node_id = ? AND feed_id = ?').get(group.nodeId, feedId) as
    | { last_seq: number }
    | undefined;
  let lastSeq = feed?.last_seq ?? 0;
  let gap = false;
  let recalled = false;
  for (const entry of group.entries) {
    if (entry.seq <= lastSeq) continue;
    gap = entry.seq !== lastSeq + 1;
    if (gap) break;
    lastSeq = entry.seq;
    if (entry.payload === undefined) continue;
    database
      .prepare('INSERT INTO feed_log (arrival, node_id, feed_id, seq, study_instance_uid, version) VALUES (?, ?, ?, ?, ?, ?)')
      .run(next(database, 'feed_log'), group.nodeId, feedId, entry.seq, entry.studyInstanceUid, entry.version);
    recalled = storeManifest(database, group, entry) || recalled;
  }
  database
    .prepare(
      'INSERT INTO feed (node_id, feed_id, last_seq, as_of, pending, heard_at) VALUES (?, ?, ?, 0, 0, ?) ON CONFLICT (node_id, feed_id) DO UPDATE SET last_seq = excluded.last_seq, heard_at = excluded.heard_at',
    )
    .run(group.nodeId, feedId, lastSeq, group.atEpochMs);
  database
    .prepare('DELETE FROM feed_log WHERE node_id = ? AND feed_id = ? AND seq <= ?')
    .run(group.nodeId, feedId, lastSeq - LOGGED_ENTRIES);
  return { acknowledgedSeq: lastSeq, gap, recalled };
}

/** @returns whether somebody was told of a recall. */
function storeManifest(database: JobDatabase, group: ManifestGroup, entry: ManifestEntry): boolean {
  const held = database
    .prepare('SELECT version FROM study_locator WHERE study_instance_uid = ? AND custodian_node = ?')
    .get(entry.studyInstanceUid, group.nodeId) as { version: number } | undefined;
  if (held !== undefined && held.version >= entry.version) return false;
  database
    .prepare(
      'INSERT INTO study_locator (study_instance_uid, custodian_node, version, manifest_sha256) VALUES (?, ?, ?, ?) ON CONFLICT (study_instance_uid, custodian_node) DO UPDATE SET version = excluded.version, manifest_sha256 = excluded.manifest_sha256',
    )
    .run(entry.studyInstanceUid, group.nodeId, entry.version, Buffer.from(entry.digest));
  // A changed patient key (a link, a merge, a new epoch) moves the row.
  database.prepare('DELETE FROM study WHERE study_instance_uid = ? AND custodian_node = ?').run(entry.studyInstanceUid, group.nodeId);
  const insert = database.prepare(
    'INSERT INTO study (patient_key, study_instance_uid, custodian_node, version, status, study_date, sort_key, modalities, instance_count, total_bytes, payload, signature, key_id, algorithm, received_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
  );
  for (const key of entry.patientKeys) {
    insert.run(
      Buffer.from(key),
      entry.studyInstanceUid,
      group.nodeId,
      entry.version,
      entry.status,
      entry.studyDate,
      entry.sortKey,
      entry.modalities,
      entry.instanceCount,
      entry.totalBytes,
      Buffer.from(entry.payload),
      Buffer.from(entry.signature),
      entry.keyId,
      entry.algorithm,
      group.atEpochMs,
    );
  }
  return entry.recall !== undefined && tellRecipients(database, group, entry, Buffer.from(entry.recall));
}

function tellRecipients(database: JobDatabase, group: ManifestGroup, entry: ManifestEntry, recall: Buffer): boolean {
  const recipients = database
    .prepare('SELECT node_id FROM study_recipient WHERE study_instance_uid = ? AND custodian_node = ?')
    .all(entry.studyInstanceUid, group.nodeId) as { node_id: string }[];
  for (const { node_id } of recipients) {
    database
      .prepare("INSERT INTO notice (seq, node_id, kind, subject, payload, created_at) VALUES (?, ?, 'recall', ?, ?, ?)")
      .run(next(database, 'notice'), node_id, entry.studyInstanceUid, recall, group.atEpochMs);
  }
  return recipients.length > 0;
}

function next(database: JobDatabase, counter: string): number {
  const row = database
    .prepare('INSERT INTO counter (name, value) VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = counter.value + 1 RETURNING value')
    .get(counter) as { value: number };
  return row.value;
}
