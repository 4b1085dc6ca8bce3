const KIB = 1024;
const MIB = 1024 * KIB;

/** The protocol of this room. */
export const TRANSFER_PROTOCOL = '/meridian/transfer/1.0.0';

/** Bytes of one DATA frame at most. */
export const MAX_DATA_BYTES = 256 * KIB;
/** A DATA frame that is not the last of its request holds at least this; a holder cannot drip. */
export const MIN_DATA_BYTES = 16 * KIB;
/** Bytes of one piece of the instance list at most. */
export const LIST_PIECE_BYTES = 256 * KIB;
/** Frames from an asker: a grant with its consent is the largest. */
export const MAX_ASKER_FRAME_BYTES = 128 * KIB;

/** Bytes that may be asked for and not yet be sent. */
export const WINDOW_BYTES = 16 * MIB;
/** Bytes that may be asked for and not yet be durable: what a kill costs at most, unless one object is larger. */
export const UNDURABLE_BYTES = 24 * MIB;
/** The smallest window that an asker works with. */
export const MIN_WINDOW_BYTES = MAX_DATA_BYTES;
/** One GET asks for at most this; larger objects are asked for in pieces. */
export const MAX_GET_BYTES = 4 * MIB;
/** Unanswered GETs of one transfer. */
export const MAX_PENDING_GETS = 4096;
/** Bytes read from disk at once while serving. */
export const READ_BYTES = MIB;
/** Bytes that may be read before they are needed. */
export const READ_AHEAD_BYTES = 4 * MIB;

/** Transfers that one node serves at a time; a place is taken when a grant was accepted. */
export const MAX_SERVED = 64;
/** Streams of one asking node, with or without a grant. */
export const MAX_SESSIONS_PER_NODE = 8;
/** A dialer says HELLO within this. */
export const HELLO_TIMEOUT_MS = 5_000;
/** An asker that is storing may say nothing for as long as a lease lasts. */
export const ASKER_IDLE_TIMEOUT_MS = 330_000;
/** Share of a grant's life after which the asker renews it. */
export const RENEW_AFTER_SHARE = 0.8;
/** Between two tries to renew while the index cannot be reached. */
export const RENEW_RETRY_MS = 10_000;
