import { DatabaseSync } from 'node:sqlite';

/** What the index holds of every feed, read from its database file beside the running index. */
export interface FeedArrivals {
  /** Different studies that stand in the index. */
  readonly arrived: number;
  /** Entries of one feed and number, or of one study and version, that came more than once. */
  readonly doubled: number;
  /** Entries that came after a higher number of their feed, or left a gap. */
  readonly outOfOrder: number;
}

interface LogRow {
  readonly feed: string;
  readonly seq: number;
  readonly study: string;
  readonly version: number;
}

/** @param file the index's SQLite database; opened for reading only. */
export function feedArrivals(file: string): FeedArrivals {
  const database = new DatabaseSync(file, { readOnly: true });
  try {
    const { arrived } = database.prepare('SELECT count(DISTINCT study_instance_uid || custodian_node) AS arrived FROM study').get() as {
      arrived: number;
    };
    const log = database
      .prepare(
        "SELECT node_id || hex(feed_id) AS feed, seq, study_instance_uid || ' ' || node_id AS study, version FROM feed_log ORDER BY arrival",
      )
      .all() as unknown as LogRow[];
    const seen = new Set<string>();
    const last = new Map<string, number>();
    let doubled = 0;
    let outOfOrder = 0;
    for (const { feed, seq, study, version } of log) {
      for (const key of [`${feed} ${seq}`, `${study} ${version}`]) {
        if (seen.has(key)) doubled += 1;
        seen.add(key);
      }
      const before = last.get(feed);
      if (before !== undefined && seq !== before + 1) outOfOrder += 1;
      last.set(feed, Math.max(seq, before ?? 0));
    }
    return { arrived, doubled, outOfOrder };
  } finally {
    database.close();
  }
}
