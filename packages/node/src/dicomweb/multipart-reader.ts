import { MeshError } from '@meridian/shared/errors';

/** Bounds of a multipart body. */
export interface MultipartLimits {
  /** Bytes of the headers of one part. */
  readonly partHeaderBytes: number;
  /** Bytes before the first boundary. */
  readonly preambleBytes: number;
  readonly parts: number;
}

/** What holds for DICOMweb: real part headers are below 500 bytes. */
export const MULTIPART_LIMITS: MultipartLimits = { partHeaderBytes: 16 * 1024, preambleBytes: 64 * 1024, parts: 100_000 };

/** One part; its body must be read before the next part is asked for, else the reader skips it. */
export interface MultipartPart {
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
  /**
   * The bytes of the body, as they come; buffers are the reader's to give away.
   * @throws MeshError INVALID_ARGUMENT / MULTIPART_TRUNCATED where the body ends without a boundary
   */
  readonly body: AsyncIterable<Buffer>;
}

/** True for a boundary of RFC 2046 5.1.1 (a few more characters are let pass, controls are not). */
export function isBoundary(text: string): boolean {
  return /^[\x20-\x7e]{1,200}$/.test(text) && !text.endsWith(' ');
}

/**
 * Reads a multipart body (RFC 2046 5.1) part by part with bounded memory. Preamble and epilogue are skipped. A sender
 * that ends lines with LF alone is understood; where the first boundary line ended in CRLF all must.
 * @throws MeshError INVALID_ARGUMENT / MULTIPART_TRUNCATED | MULTIPART_HEADER_TOO_LONG | MULTIPART_TOO_MANY_PARTS | MULTIPART_NO_BOUNDARY
 */
export async function* readMultipart(
  source: AsyncIterable<Buffer>,
  boundary: string,
  limits: MultipartLimits = MULTIPART_LIMITS,
): AsyncGenerator<MultipartPart, void, undefined> {
  const scanner = new Scanner(source, `--${boundary}`);
  if ((await scanner.skipPreamble(limits.preambleBytes)) === 'last') return;
  for (let count = 1; ; count += 1) {
    if (count > limits.parts)
      throw broken('MULTIPART_TOO_MANY_PARTS', `The request has more than ${limits.parts} parts. Send it in smaller requests.`);
    const headers = await scanner.headers(limits.partHeaderBytes);
    let end: BodyEnd | undefined;
    const body = (async function* (): AsyncGenerator<Buffer, void, undefined> {
      while (end === undefined) {
        const piece = await scanner.bodyPiece();
        if (piece.end !== undefined) end = piece.end;
        if (piece.bytes.length > 0) yield piece.bytes;
      }
    })();
    yield { headers, body };
    // Whatever the reader left of this body is passed over. (A generator that was left early is finished: read on below it.)
    while (end === undefined) end = (await scanner.bodyPiece()).end;
    if ((end as BodyEnd) === 'last') return;
  }
}

type BodyEnd = 'next' | 'last';

/** Finds boundaries in a stream of chunks, holding one chunk and a tail. */
class Scanner {
  readonly #source: AsyncIterator<Buffer>;
  readonly #marker: Buffer;
  #held: Buffer = Buffer.alloc(0);
  #ended = false;
  /** Known from the first boundary line on. */
  #lineBreak: '\r\n' | '\n' | undefined;
  /** What is held begins at the start of a line: of the whole body, or behind the headers of a part. */
  #fresh = true;

  constructor(source: AsyncIterable<Buffer>, marker: string) {
    this.#source = source[Symbol.asyncIterator]();
    this.#marker = Buffer.from(marker, 'latin1');
  }

  /** Goes behind the first boundary line. */
  async skipPreamble(limitBytes: number): Promise<BodyEnd> {
    let passed = 0;
    for (;;) {
      const found = this.#find();
      if (found !== undefined && found.line !== 'cut') {
        this.#lineBreak = found.lineBreak;
        this.#held = this.#held.subarray(found.after);
        return found.line;
      }
      if (passed + this.#held.length > limitBytes)
        throw broken('MULTIPART_NO_BOUNDARY', 'The boundary that the Content-Type names does not occur at the start of the body.');
      if (found === undefined) passed += this.#release(this.#tailFrom()).length;
      if (!(await this.#more()))
        throw broken('MULTIPART_NO_BOUNDARY', 'The boundary that the Content-Type names does not occur in the body.');
    }
  }

  async headers(limitBytes: number): Promise<ReadonlyMap<string, string>> {
    const headers = new Map<string, string>();
    let used = 0;
    let last: string | undefined;
    for (;;) {
      const lineEnd = this.#held.indexOf(0x0a);
      if (lineEnd < 0) {
        if (used + this.#held.length > limitBytes) throw tooLongHeader(limitBytes);
        if (!(await this.#more())) throw truncated();
        continue;
      }
      used += lineEnd + 1;
      if (used > limitBytes) throw tooLongHeader(limitBytes);
      const line = this.#held.toString('latin1', 0, lineEnd).replace(/\r$/, '');
      this.#held = this.#held.subarray(lineEnd + 1);
      if (line === '') {
        this.#fresh = true;
        return headers;
      }
      last = addHeaderLine(headers, line, last);
    }
  }

  /** The next bytes of a body; `end` with the last of them. */
  async bodyPiece(): Promise<{ bytes: Buffer; end?: BodyEnd }> {
    for (;;) {
      const found = this.#find();
      if (found !== undefined && found.line !== 'cut') {
        const bytes = this.#held.subarray(0, found.from);
        this.#held = this.#held.subarray(found.after);
        return { bytes, end: found.line };
      }
      const keep = found === undefined ? this.#tailFrom() : found.from;
      if (keep > 0) {
        return { bytes: this.#release(keep) };
      }
      if (!(await this.#more())) throw truncated();
    }
  }

  #release(length: number): Buffer {
    const bytes = this.#held.subarray(0, length);
    if (length > 0) this.#fresh = false;
    this.#held = this.#held.subarray(length);
    return bytes;
  }

  /** Where a boundary could still begin: a line break and the marker may be cut off at the end of what is held. */
  #tailFrom(): number {
    return this.#ended ? this.#held.length : Math.max(0, this.#held.length - this.#marker.length - 2);
  }

  /** The first boundary in what is held. `cut`: its line is not whole yet. */
  #find(): { from: number; after: number; line: BodyEnd | 'cut'; lineBreak: '\r\n' | '\n' } | undefined {
    const held = this.#held;
    for (let at = held.indexOf(this.#marker); at >= 0; at = held.indexOf(this.#marker, at + 1)) {
      const from = this.#lineStart(at);
      if (from === undefined) continue;
      const line = this.#boundaryLine(at + this.#marker.length);
      if (line !== undefined) return { from, ...line };
    }
    return undefined;
  }

  /** Where the line break before a marker begins, or undefined where the marker does not stand at the start of a line. */
  #lineStart(at: number): number | undefined {
    if (at === 0) return this.#fresh ? 0 : undefined;
    if (this.#held[at - 1] !== 0x0a) return undefined;
    if (this.#held[at - 2] === 0x0d) return this.#lineBreak === '\n' ? at - 1 : at - 2;
    return this.#lineBreak === '\r\n' ? undefined : at - 1;
  }

  #boundaryLine(at: number): { after: number; line: BodyEnd | 'cut'; lineBreak: '\r\n' | '\n' } | undefined {
    const held = this.#held;
    if (held[at] === 0x2d && held[at + 1] === 0x2d) return { after: at + 2, line: 'last', lineBreak: '\r\n' };
    if (held[at] === 0x2d && at + 1 >= held.length) return this.#ended ? undefined : { after: at, line: 'cut', lineBreak: '\r\n' };
    let end = at;
    while (end < held.length && end - at < 80 && (held[end] === 0x20 || held[end] === 0x09)) end += 1;
    if (held[end] === 0x0a) return { after: end + 1, line: 'next', lineBreak: '\n' };
    if (held[end] === 0x0d && held[end + 1] === 0x0a) return { after: end + 2, line: 'next', lineBreak: '\r\n' };
    const cut = end >= held.length || (held[end] === 0x0d && end + 1 >= held.length);
    return cut && !this.#ended ? { after: at, line: 'cut', lineBreak: '\r\n' } : undefined;
  }

  async #more(): Promise<boolean> {
    const { done, value } = await this.#source.next();
    if (done === true) {
      this.#ended = true;
      return false;
    }
    this.#held = this.#held.length === 0 ? value : Buffer.concat([this.#held, value]);
    return true;
  }
}

/** Adds a line, or goes on with the header before it where the line is folded; the name of the header it belongs to. */
function addHeaderLine(headers: Map<string, string>, line: string, last: string | undefined): string | undefined {
  if (/^[ \t]/.test(line) && last !== undefined) {
    headers.set(last, `${headers.get(last) ?? ''} ${line.trim()}`);
    return last;
  }
  const colon = line.indexOf(':');
  if (colon <= 0) return last;
  const name = line.slice(0, colon).trim().toLowerCase();
  headers.set(name, line.slice(colon + 1).trim());
  return name;
}

function broken(reason: Uppercase<string>, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', reason, message);
}

function truncated(): MeshError {
  return broken('MULTIPART_TRUNCATED', 'The body ends in the middle of a part. Send that part again in full.');
}

function tooLongHeader(limitBytes: number): MeshError {
  return broken('MULTIPART_HEADER_TOO_LONG', `The headers of a part are longer than ${limitBytes} bytes.`);
}
