import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { MeshError } from '@meridian/shared/errors';
import { HttpStatusError } from '../http/problem.ts';
import type { InstanceRow } from '../store/rows.ts';
import { acceptOf } from './answers.ts';
import { entityTag, isUnchanged } from './entity-tags.ts';
import { framesOf, parseFrameList } from './frames-rs.ts';
import { heldInstances, type HeldInstance, type HeldInstances, type ResourceParams } from './held.ts';
import { chooseType } from './media-types.ts';
import type { ReadingParts } from './parts.ts';
import { assertPictureSize } from './renderer.ts';
import { parseRenderQuery, type RenderQuery } from './render-query.ts';
import { describeImage } from './render/image-description.ts';

const JPEG = 'image/jpeg';
const INSTANCE = '/studies/:study/series/:series/instances/:instance';

type RenderedParams = ResourceParams & { readonly frames?: string };

/** Rendered pictures and thumbnails (PS3.18 10.4.1.1.3, 10.4.1.1.6): one frame as JPEG. */
export function mountRendered(app: FastifyInstance, parts: ReadingParts): void {
  const config = { policy: 'clinical-read' } as const;
  for (const url of [`${INSTANCE}/rendered`, `${INSTANCE}/frames/:frames/rendered`]) {
    app.get<{ Params: RenderedParams }>(url, { config }, (request, reply) =>
      picture(parts, request, reply, { params: request.params, thumbnail: false }),
    );
  }
  for (const url of [
    '/studies/:study/thumbnail',
    '/studies/:study/series/:series/thumbnail',
    `${INSTANCE}/thumbnail`,
    `${INSTANCE}/frames/:frames/thumbnail`,
  ]) {
    app.get<{ Params: RenderedParams }>(url, { config }, (request, reply) =>
      picture(parts, request, reply, { params: request.params, thumbnail: true }),
    );
  }
}

async function picture(
  parts: ReadingParts,
  request: FastifyRequest,
  reply: FastifyReply,
  { params, thumbnail }: { params: RenderedParams; thumbnail: boolean },
): Promise<FastifyReply> {
  if (chooseType(acceptOf(request), [JPEG]) === undefined)
    throw new HttpStatusError(
      406,
      'INVALID_ARGUMENT',
      'NOT_ACCEPTABLE',
      'Pictures come as image/jpeg; the Accept header does not allow it.',
    );
  const at = request.url.indexOf('?');
  const query = parseRenderQuery(at < 0 ? '' : request.url.slice(at + 1), thumbnail);
  const held = representative(await heldInstances(parts, params));
  const frame = frameNumber(params.frames, held.instance, thumbnail);
  if (isUnchanged(request, reply, entityTag([held.instance], undefined, 'rendered', String(frame), JSON.stringify(query))))
    return reply.send();
  await parts.onRead?.({ kind: 'view', transaction: 'rendered', studyInstanceUid: held.study.studyInstanceUid, instances: 1, request });
  return reply.type(JPEG).send(await render(parts, held, { frame, query, reply }));
}

/** The middle object with pixels stands for a series or a study. */
function representative(held: HeldInstances): HeldInstance {
  const images = held.instances.filter((row) => row.rows !== undefined);
  const instance = images[Math.floor(images.length / 2)] ?? (held.instances[0] as InstanceRow);
  return { ...held, instance };
}

function frameNumber(asked: string | undefined, instance: InstanceRow, thumbnail: boolean): number {
  if (asked === undefined) return thumbnail ? Math.floor(instance.numberOfFrames / 2) + 1 : 1;
  const [frame, ...more] = parseFrameList(asked);
  if (frame === undefined || more.length > 0)
    throw new MeshError('INVALID_ARGUMENT', 'FRAME_LIST_INVALID', 'A picture shows one frame. Ask for each by itself.');
  return frame;
}

async function render(
  parts: ReadingParts,
  held: HeldInstance,
  { frame, query, reply }: { frame: number; query: RenderQuery; reply: FastifyReply },
): Promise<Buffer> {
  const { header, frames } = await framesOf(parts, held, reply);
  const signal = goneSignal(reply);
  const image = describeImage(header, held.instance.transferSyntaxUid, frame);
  assertPictureSize(image);
  return parts.renderer.render({
    frame: await frames.read(frame),
    image,
    quality: query.quality,
    signal,
    ...(query.window === undefined ? {} : { window: query.window }),
    ...(query.viewport === undefined ? {} : { viewport: query.viewport }),
  });
}

/** Aborts when the client goes away: nobody waits for the picture any more. */
function goneSignal(reply: FastifyReply): AbortSignal {
  const gone = new AbortController();
  reply.raw.once('close', () => gone.abort());
  return gone.signal;
}
