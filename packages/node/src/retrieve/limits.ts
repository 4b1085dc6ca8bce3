/** Studies of one page of the index's answer, and pages that are read. */
export const HISTORY_PAGE_SIZE = 500;
export const MAX_HISTORY_PAGES = 40;

/** How long the index may take to answer a history query. */
export const HISTORY_DEADLINE_MS = 5_000;

/** Studies fetched at a time. */
export const MAX_FETCHES = 4;
/** Back-off between tries of an interrupted fetch. */
export const FIRST_RETRY_MS = 500;
export const MAX_RETRY_MS = 30_000;
/** Tries without any progress after which who waits is told; the fetch itself goes on. */
export const TRIES_BEFORE_TELLING = 6;
/** An interrupted fetch is given up after this. */
export const GIVE_UP_AFTER_MS = 24 * 3_600_000;
/** How often copies are looked for whose consent has run out. */
export const VALIDITY_LOOK_MS = 10_000;
/** Ended fetches that the list still shows. */
export const ENDED_FETCHES_SHOWN = 100;
