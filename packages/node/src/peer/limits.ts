const KIB = 1024;
const MIB = 1024 * KIB;

/** The largest frame of any peer protocol, payload only. */
export const MAX_FRAME_BYTES = MIB;

/** Received frames that may wait for their reader before the stream is paused. */
export const READ_QUEUE_HIGH_BYTES = 4 * MIB;
/** A paused stream reads on below this. */
export const READ_QUEUE_LOW_BYTES = MIB;

/** yamux grows a stream's window up to this: a fixed 256 KiB is ten times slower over a long line. */
export const MAX_STREAM_WINDOW_BYTES = 16 * MIB;
/** What may arrive after a stream was paused: the window that the other end still holds, and one frame. */
export const MAX_PAUSED_BYTES = MAX_STREAM_WINDOW_BYTES + 2 * MIB;
/** A stream whose unsent bytes exceed this is reset: its writer ignored back-pressure. */
export const MAX_WRITE_BUFFER_BYTES = 8 * MIB;

/** Connections of one node, both directions. */
export const MAX_CONNECTIONS = 32;
/** Of one peer; two ends that dial each other at once need two, and one more while an old one dies. */
export const MAX_CONNECTIONS_PER_PEER = 3;
/** Accepted sockets that have not proved a listed key yet; more than connections, so that noise leaves room for members. */
export const MAX_PENDING = 256;
/** Of one address: the rest is turned away before it takes a place. */
export const MAX_PENDING_PER_ADDRESS = 16;
/** Streams that one peer may have open to us, per protocol. */
export const MAX_INBOUND_STREAMS = 8;
/** Streams that we may have open to one peer, per protocol. */
export const MAX_OUTBOUND_STREAMS = 16;

/** From dial to open connection. */
export const DIAL_TIMEOUT_MS = 10_000;
/** From an accepted socket to an open connection: noise on the port is dropped after so long. */
export const INBOUND_UPGRADE_TIMEOUT_MS = 5_000;
/** From an accepted socket to a proved key: two trips over the longest line, and a lost packet. */
export const INBOUND_HANDSHAKE_TIMEOUT_MS = 2_000;
/** A read or a write without any progress for so long ends the stream. */
export const DEFAULT_IDLE_TIMEOUT_MS = 60_000;
/** After close() the rest may still be flushed for so long; then the stream is reset. */
export const CLOSE_TIMEOUT_MS = 2_000;
