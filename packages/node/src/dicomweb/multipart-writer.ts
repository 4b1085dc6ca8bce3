import { randomUUID } from 'node:crypto';

/** One part of an answer. */
export interface OutgoingPart {
  /** Content-Type of the part, parameters included. */
  readonly type: string;
  readonly location?: string;
  readonly body: AsyncIterable<Buffer> | Iterable<Buffer>;
}

/** A multipart/related answer to be streamed. */
export interface MultipartAnswer {
  readonly contentType: string;
  readonly bytes: AsyncGenerator<Buffer>;
}

/** Packs parts as multipart/related (RFC 2387), one after the other as they are read: nothing is held. */
export function writeMultipart(type: string, parts: AsyncIterable<OutgoingPart> | Iterable<OutgoingPart>): MultipartAnswer {
  // Random, so that content made to contain it cannot exist.
  const boundary = `meridian-${randomUUID()}`;
  return { contentType: `multipart/related; type="${type}"; boundary=${boundary}`, bytes: pack(boundary, parts) };
}

async function* pack(boundary: string, parts: AsyncIterable<OutgoingPart> | Iterable<OutgoingPart>): AsyncGenerator<Buffer> {
  let lead = '';
  for await (const part of parts) {
    const head = Buffer.from(
      `${lead}--${boundary}\r\nContent-Type: ${part.type}\r\n${part.location === undefined ? '' : `Content-Location: ${part.location}\r\n`}\r\n`,
      'latin1',
    );
    let isBegun = false;
    for await (const chunk of part.body) {
      // Not before the part's first bytes are there: what the first part cannot give is then an answer of its own.
      if (!isBegun) yield head;
      isBegun = true;
      yield chunk;
    }
    if (!isBegun) yield head;
    lead = '\r\n';
  }
  yield Buffer.from(`${lead}--${boundary}--\r\n`, 'latin1');
}
