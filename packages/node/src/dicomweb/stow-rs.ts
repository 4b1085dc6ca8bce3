import { randomUUID } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { asMeshError, MeshError } from '@meridian/shared/errors';
import { parseStudyInstanceUid } from '@meridian/shared/identifiers';
import { systemClock } from '@meridian/shared/platform/clock';
import { HttpStatusError } from '../http/problem.ts';
import { baseUrlOf } from './addresses.ts';
import { acceptOf } from './answers.ts';
import { chooseType, parseMediaType } from './media-types.ts';
import { isBoundary, readMultipart } from './multipart-reader.ts';
import type { DicomwebParts } from './parts.ts';
import { isConnectionLost, storePart, type PartOutcome } from './stow-part.ts';
import { atPace } from './sender-pace.ts';
import { stowAnswer } from './stow-response.ts';

const DICOM = 'application/dicom';
const DICOM_JSON = 'application/dicom+json';

/** Store transaction, `POST /studies[/{study}]` (PS3.18 10.5): every part through the one ingest, each answered by itself. */
export async function mountStow(app: FastifyInstance, parts: DicomwebParts): Promise<void> {
  // The body stays a stream: nothing is read before the handler asks for it.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, _payload, done) => done(null));
  const config = { policy: 'clinical-write', streamedBody: true } as const;
  app.post('/studies', { config }, (request, reply) => store(parts, request, reply, undefined));
  app.post<{ Params: { study: string } }>('/studies/:study', { config }, (request, reply) =>
    store(parts, request, reply, parseStudyInstanceUid(request.params.study)),
  );
}

async function store(
  parts: DicomwebParts,
  request: FastifyRequest,
  reply: FastifyReply,
  studyInstanceUid: string | undefined,
): Promise<FastifyReply> {
  if (chooseType(acceptOf(request), [DICOM_JSON, 'application/json']) === undefined) {
    throw new HttpStatusError(
      406,
      'INVALID_ARGUMENT',
      'NOT_ACCEPTABLE',
      'The answer to a store request comes as application/dicom+json; the Accept header allows it in no form.',
    );
  }
  const { ingest } = parts.store;
  const associationId = `stow-${randomUUID()}`;
  const source = {
    door: 'stow',
    assigningAuthority: parts.assigningAuthority,
    associationId,
    ...(request.ip === undefined ? {} : { address: request.ip }),
    ...(studyInstanceUid === undefined ? {} : { expected: { studyInstanceUid } }),
  } as const;
  const outcomes: PartOutcome[] = [];
  // A study whose instances are still coming is not whole, however long the request takes.
  ingest.associationOpened(associationId);
  let whole = false;
  try {
    whole = await readBodies(parts, request, {
      arrived: () => ingest.associationActive(associationId),
      each: async (body) => void outcomes.push(await storePart({ body, ingest, source })),
      refused: (error) => {
        const last = outcomes.at(-1);
        // A part that was cut short has said so by itself.
        if (last?.kind !== 'refused' || last.error.reason !== error.reason) outcomes.push({ kind: 'refused', error });
      },
    });
  } finally {
    ingest.associationClosed(associationId, whole ? 'released' : 'aborted');
  }
  if (outcomes.length === 0) throw new MeshError('INVALID_ARGUMENT', 'STOW_EMPTY', 'The request holds no DICOM object.');
  const answer = stowAnswer(outcomes, baseUrlOf(request));
  for (const warning of answer.warnings) reply.raw.appendHeader('warning', `299 meridian "${warning.replace(/["\\]/g, "'")}"`);
  const refusals = outcomes.filter((each) => each.kind === 'refused');
  parts.log.info({
    event: 'stow-answered',
    status: answer.status,
    instances: outcomes.length,
    refused: refusals.length,
    reasons: [...new Set(refusals.map(({ error }) => error.reason))],
  });
  // After a body that could not be read to its end the connection is of no more use.
  if (!whole) void reply.header('connection', 'close');
  return reply
    .code(answer.status)
    .type(DICOM_JSON)
    .send(Buffer.from(JSON.stringify(answer.dataset)));
}

interface BodyReceiver {
  /** Bytes have come. */
  readonly arrived: () => void;
  readonly each: (body: AsyncIterable<Buffer>) => Promise<void>;
  readonly refused: (error: MeshError) => void;
}

/** Hands every body of the request on; false where the rest of the request could not be told into parts. */
async function readBodies(parts: DicomwebParts, request: FastifyRequest, { arrived, each, refused }: BodyReceiver): Promise<boolean> {
  const media = parseMediaType(request.headers['content-type'] ?? '');
  const raw = watched(atPace(request.raw as AsyncIterable<Buffer>, parts.clock ?? systemClock), arrived);
  if (media?.type === DICOM) {
    await each(raw);
    return true;
  }
  const type = media?.parameters.get('type')?.toLowerCase() ?? DICOM;
  const boundary = media?.parameters.get('boundary') ?? '';
  if (media?.type !== 'multipart/related' || type !== DICOM) {
    throw new HttpStatusError(
      415,
      'INVALID_ARGUMENT',
      'MEDIA_TYPE_UNSUPPORTED',
      'Send DICOM objects as multipart/related; type="application/dicom", or one object as application/dicom.',
    );
  }
  if (!isBoundary(boundary)) throw new MeshError('INVALID_ARGUMENT', 'MULTIPART_NO_BOUNDARY', 'The Content-Type names no usable boundary.');
  try {
    for await (const part of readMultipart(raw, boundary)) {
      const partType = parseMediaType(part.headers.get('content-type') ?? DICOM)?.type;
      if (partType === DICOM || partType === 'application/octet-stream') await each(part.body);
      else refused(new MeshError('INVALID_ARGUMENT', 'MEDIA_TYPE_UNSUPPORTED', 'A part of the request is not application/dicom.'));
    }
    return true;
  } catch (thrown) {
    // The sender went away: nobody is left to answer. What is malformed ends the request, what was stored stays stored.
    if (isConnectionLost(thrown))
      throw new MeshError('CANCELLED', 'SENDER_GONE', 'The sender ended the connection within its request.', { cause: thrown });
    refused(asMeshError(thrown));
    return false;
  }
}

async function* watched(source: AsyncIterable<Buffer>, arrived: () => void): AsyncGenerator<Buffer, void, undefined> {
  for await (const chunk of source) {
    arrived();
    yield chunk;
  }
}
