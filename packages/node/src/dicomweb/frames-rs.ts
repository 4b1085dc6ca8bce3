import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { MeshError } from '@meridian/shared/errors';
import { openFrames, type Frames, type ReadAt } from '../dicom/frames.ts';
import { bulkUri, type DicomJson } from '../dicom/json.ts';
import { TAG } from '../dicom/tags.ts';
import { EXPLICIT_VR_LITTLE_ENDIAN } from '../dicom/transfer-syntaxes.ts';
import { baseUrlOf, instanceUrl } from './addresses.ts';
import { acceptOf, sendStream } from './answers.ts';
import { bulkReferences, dataSetReader } from './data-set-source.ts';
import { entityTag, isUnchanged } from './entity-tags.ts';
import { heldInstance, type HeldInstance } from './held.ts';
import { writeMultipart, type OutgoingPart } from './multipart-writer.ts';
import type { ReadingParts } from './parts.ts';
import { chooseStored, frameMediaType, OCTET_STREAM } from './representations.ts';

/** Address of an instance. */
export interface InstanceParams {
  readonly study: string;
  readonly series: string;
  readonly instance: string;
}

const INSTANCE = '/studies/:study/series/:series/instances/:instance';
const MAX_LISTED_FRAMES = 10_000;
/** More in one answer than the largest slide has tiles. */
const MAX_ALL_FRAMES = 1_000_000;
const CHUNK_BYTES = 1024 * 1024;

/** Retrieve transaction for frames as stored and for bulk data (PS3.18 10.4.1.1.4, 10.4.1.1.5). */
export function mountFrames(app: FastifyInstance, parts: ReadingParts): void {
  const config = { policy: 'clinical-read' } as const;
  app.get<{ Params: InstanceParams & { frames: string } }>(`${INSTANCE}/frames/:frames`, { config }, async (request, reply) =>
    sendFrames(parts, await heldInstance(parts, request.params), parseFrameList(request.params.frames), request, reply),
  );
  app.get<{ Params: InstanceParams & { reference: string } }>(`${INSTANCE}/bulkdata/:reference`, { config }, async (request, reply) => {
    const held = await heldInstance(parts, request.params);
    if (request.params.reference.toUpperCase() === TAG.PixelData) return sendFrames(parts, held, 'all', request, reply);
    return sendBulk(parts, held, request.params.reference, request, reply);
  });
}

/**
 * Frame numbers of an address, `1,2,3`, from 1.
 * @throws MeshError INVALID_ARGUMENT / FRAME_LIST_INVALID
 */
export function parseFrameList(text: string): number[] {
  const list = text.split(',');
  if (list.length > MAX_LISTED_FRAMES || list.some((one) => !/^[1-9]\d{0,8}$/.test(one.trim())))
    throw new MeshError('INVALID_ARGUMENT', 'FRAME_LIST_INVALID', 'A list of frames is numbers from 1, separated by commas.');
  return list.map(Number);
}

/** The frames of an instance, and its header, until the answer is over. Offsets are found without reading pixels. */
export async function framesOf(
  parts: ReadingParts,
  { instance }: HeldInstance,
  reply: FastifyReply,
): Promise<{ header: DicomJson; frames: Frames; read: ReadAt }> {
  const header = await parts.store.studies.header(instance.sopInstanceUid);
  const read = await readUntilAnswered(parts, instance, reply);
  return { header, read, frames: await openFrames({ dataset: header, transferSyntaxUid: instance.transferSyntaxUid, read }) };
}

async function readUntilAnswered(parts: ReadingParts, instance: HeldInstance['instance'], reply: FastifyReply): Promise<ReadAt> {
  const { read, release } = await dataSetReader({ studies: parts.store.studies, memory: parts.memory }, instance);
  if (reply.raw.closed) release();
  else reply.raw.once('close', release);
  return read;
}

async function sendFrames(
  parts: ReadingParts,
  held: HeldInstance,
  asked: readonly number[] | 'all',
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const { instance } = held;
  const opened = await framesOf(parts, held, reply);
  const { encapsulated, count } = opened.frames;
  if (asked === 'all' && count > MAX_ALL_FRAMES)
    throw new MeshError(
      'RESOURCE_EXHAUSTED',
      'FRAMES_TOO_MANY',
      `The object has ${count} frames, more than are given at once. Ask for them by number, some at a time.`,
    );
  const numbers = (): Iterable<number> => (asked === 'all' ? upTo(count) : asked);
  // Told before the first byte leaves, not in the middle of an answer. Native frames lie one behind the other: the last tells of all.
  for (const number of asked === 'all' && !encapsulated ? [count] : numbers()) await opened.frames.place(number);
  const type = encapsulated ? frameMediaType(instance.transferSyntaxUid) : OCTET_STREAM;
  const transferSyntaxUid = encapsulated ? instance.transferSyntaxUid : EXPLICIT_VR_LITTLE_ENDIAN;
  const packing = chooseStored(acceptOf(request), [{ type, transferSyntaxUid }], (asked === 'all' ? count : asked.length) > 1);
  if (isUnchanged(request, reply, entityTag([instance], undefined, 'frames', asked === 'all' ? asked : asked.join(','))))
    return reply.send();
  await parts.onRead?.({ kind: 'view', transaction: 'frames', studyInstanceUid: instance.studyInstanceUid, instances: 1, request });
  const body = (number: number): AsyncGenerator<Buffer> => frameBytes(opened, number);
  const partType = `${type}; transfer-syntax=${transferSyntaxUid}`;
  const [only] = numbers();
  if (packing === 'single' && only !== undefined) return sendStream(request, reply.type(partType), body(only));
  const url = `${instanceUrl(baseUrlOf(request), instance)}/frames`;
  const answer = writeMultipart(
    type,
    partsOf(numbers(), (number) => ({ type: partType, location: `${url}/${number}`, body: body(number) })),
  );
  return sendStream(request, reply.type(answer.contentType), answer.bytes);
}

function* upTo(count: number): Generator<number> {
  for (let number = 1; number <= count; number += 1) yield number;
}

/** Made as they are sent: an object may have very many. */
function* partsOf(numbers: Iterable<number>, part: (number: number) => OutgoingPart): Generator<OutgoingPart> {
  for (const number of numbers) yield part(number);
}

/** One frame as stored, in pieces; native pixels leave as little endian whatever they are stored in. */
async function* frameBytes(
  opened: { frames: Frames; read: (offset: number, length: number) => Promise<Buffer> },
  number: number,
): AsyncGenerator<Buffer> {
  const place = await opened.frames.place(number);
  if (place.bitOffset !== 0 || opened.frames.swappedBytes > 1) {
    yield await opened.frames.read(number);
    return;
  }
  for (const range of place.ranges) {
    for (let at = 0; at < range.length; at += CHUNK_BYTES)
      yield await opened.read(range.offset + at, Math.min(CHUNK_BYTES, range.length - at));
  }
}

async function sendBulk(
  parts: ReadingParts,
  held: HeldInstance,
  reference: string,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const { instance } = held;
  const match = /^(\d{1,15})-(\d{1,15})$/.exec(reference);
  const place = { offset: Number(match?.[1] ?? 0), length: Number(match?.[2] ?? 0) };
  // Only what the metadata points at: other ranges would show what a copy is not served with.
  if (match === null || !bulkReferences(await parts.store.studies.header(instance.sopInstanceUid)).has(bulkUri(place))) {
    throw new MeshError(
      'NOT_FOUND',
      'BULK_DATA_UNKNOWN',
      'This instance has no bulk data at this address. Take the address from its metadata.',
    );
  }
  const packing = chooseStored(acceptOf(request), [{ type: OCTET_STREAM, transferSyntaxUid: instance.transferSyntaxUid }], false);
  if (isUnchanged(request, reply, entityTag([instance], undefined, 'bulk', reference))) return reply.send();
  await parts.onRead?.({ kind: 'view', transaction: 'bulkdata', studyInstanceUid: instance.studyInstanceUid, instances: 1, request });
  const read = await readUntilAnswered(parts, instance, reply);
  const bytes = (async function* (): AsyncGenerator<Buffer> {
    for (let at = 0; at < place.length; at += CHUNK_BYTES) yield await read(place.offset + at, Math.min(CHUNK_BYTES, place.length - at));
  })();
  if (packing === 'single') return sendStream(request, reply.type(OCTET_STREAM), bytes);
  const answer = writeMultipart(OCTET_STREAM, [
    { type: OCTET_STREAM, location: `${instanceUrl(baseUrlOf(request), instance)}/bulkdata/${reference}`, body: bytes },
  ]);
  return sendStream(request, reply.type(answer.contentType), answer.bytes);
}
