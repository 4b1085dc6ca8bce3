/** Bounds of the HTTP listener. */
export interface HttpLimits {
  /** Bytes of a body that is read whole (JSON); streamed bodies are bounded by their route. */
  readonly bodyBytes: number;
  /** Time for such a body to arrive whole. */
  readonly bodyTimeMs: number;
  /** Bytes of request line and headers together. */
  readonly headerBytes: number;
  /** Time for the headers to arrive whole. */
  readonly headersMs: number;
  /** How often the two above are looked at. */
  readonly checkIntervalMs: number;
  /** A connection on which nothing moves for so long is cut; streams that wait longer must send a heartbeat. */
  readonly idleMs: number;
  readonly keepAliveMs: number;
  readonly connections: number;
  /** Characters of one part of a path. */
  readonly parameterLength: number;
  /** How long a request waits for the doors to open while the node starts. */
  readonly startWaitMs: number;
  /** How long running answers may go on when the listener closes. */
  readonly closeGraceMs: number;
}

/** What holds unless the settings say otherwise. */
export const HTTP_LIMITS: HttpLimits = {
  bodyBytes: 1024 * 1024,
  bodyTimeMs: 30_000,
  headerBytes: 32 * 1024,
  headersMs: 15_000,
  checkIntervalMs: 2_000,
  idleMs: 60_000,
  keepAliveMs: 20_000,
  connections: 1_000,
  parameterLength: 4_096,
  startWaitMs: 10_000,
  closeGraceMs: 2_000,
};
