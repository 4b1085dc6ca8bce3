/** The protocol of this room. */
export const CONTROL_PROTOCOL = '/meridian/control/1.0.0';

/** A request and its reply are over within this. */
export const CONTROL_TIMEOUT_MS = 10_000;
/** Segments of a trust list that fit into one reply; larger lists come from the index alone. */
export const MAX_SEGMENTS_BYTES = 900 * 1024;
