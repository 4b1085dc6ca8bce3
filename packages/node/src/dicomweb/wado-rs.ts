import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { InstanceRow } from '../store/rows.ts';
import { baseUrlOf, instanceUrl } from './addresses.ts';
import { acceptOf, sendStream } from './answers.ts';
import { part10File, part10Length, servedTransferSyntax } from './data-set-source.ts';
import { entityTag, isUnchanged } from './entity-tags.ts';
import { heldInstances, type HeldInstances, type ResourceParams } from './held.ts';
import { writeMultipart, type OutgoingPart } from './multipart-writer.ts';
import type { ReadingParts } from './parts.ts';
import { chooseStored, DICOM } from './representations.ts';

/** Retrieve transaction for whole objects (PS3.18 10.4): Part 10 files, the data set byte for byte as stored. */
export function mountWado(app: FastifyInstance, parts: ReadingParts): void {
  for (const url of ['/studies/:study', '/studies/:study/series/:series', '/studies/:study/series/:series/instances/:instance']) {
    app.get<{ Params: ResourceParams }>(url, { config: { policy: 'clinical-read' } }, (request, reply) =>
      retrieve(parts, request, reply, request.params),
    );
  }
}

async function retrieve(parts: ReadingParts, request: FastifyRequest, reply: FastifyReply, params: ResourceParams): Promise<FastifyReply> {
  const held = await heldInstances(parts, params);
  const { instances, coercion, study } = held;
  const forms = instances.map((row) => ({ type: DICOM, transferSyntaxUid: servedTransferSyntax(row, coercion) }));
  const packing = chooseStored(acceptOf(request), forms, params.instance === undefined);
  if (isUnchanged(request, reply, entityTag(instances, coercion))) return reply.send();
  await parts.onRead?.({
    kind: 'export',
    transaction: 'retrieve',
    studyInstanceUid: study.studyInstanceUid,
    instances: instances.length,
    request,
  });
  const [only] = instances;
  if (packing === 'single' && only !== undefined) {
    if (coercion === undefined) reply.header('content-length', part10Length(only));
    return sendStream(
      request,
      reply.type(dicomType(only, held)),
      part10File({ studies: parts.store.studies, memory: parts.memory }, only, coercion),
    );
  }
  const answer = writeMultipart(DICOM, files(parts, held, baseUrlOf(request)));
  return sendStream(request, reply.type(answer.contentType), answer.bytes);
}

function* files(parts: ReadingParts, held: HeldInstances, baseUrl: string): Generator<OutgoingPart> {
  for (const row of held.instances) {
    yield {
      type: dicomType(row, held),
      location: instanceUrl(baseUrl, row),
      body: part10File({ studies: parts.store.studies, memory: parts.memory }, row, held.coercion),
    };
  }
}

function dicomType(row: InstanceRow, { coercion }: HeldInstances): string {
  return `${DICOM}; transfer-syntax=${servedTransferSyntax(row, coercion)}`;
}
