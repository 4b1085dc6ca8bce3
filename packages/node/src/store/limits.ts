/** What the store allows itself; every key has a default in {@link DEFAULT_STORE_LIMITS}. */
export interface StoreLimits {
  /** Silence after which a study counts as whole. */
  readonly quietTimeMs: number;
  /** The same after the association that carried it was released normally. */
  readonly releasedQuietTimeMs: number;
  /** An open association that carried the study and was active within this time holds it open. */
  readonly activeAssociationMs: number;
  /** After so much steady receiving the study is announced as incomplete. */
  readonly incompleteAfterMs: number;
  /** Below this share of free disk, 0 to 1, new objects are refused. */
  readonly minimumFreeFraction: number;
  /** Bytes of one object that may wait for the disk before `write` asks the sender to wait. */
  readonly pendingBytes: number;
  /** Bytes that are handed to the disk in one write. */
  readonly writeBytes: number;
  /** Threads that answer reads of the database. */
  readonly readers: number;
}

/** Waiting times of a study: 60 s of silence, 15 s after a normal release, 5 minutes for an association that idles. */
export const DEFAULT_STORE_LIMITS: StoreLimits = {
  quietTimeMs: 60_000,
  releasedQuietTimeMs: 15_000,
  activeAssociationMs: 300_000,
  incompleteAfterMs: 300_000,
  minimumFreeFraction: 0.05,
  pendingBytes: 8 * 1024 * 1024,
  writeBytes: 512 * 1024,
  readers: 2,
};
