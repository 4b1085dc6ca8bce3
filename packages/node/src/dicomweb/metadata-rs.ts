import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { coerceJson } from '../dicom/coerce.ts';
import type { DicomJson, DicomJsonElement } from '../dicom/json.ts';
import { parseBulkUri } from '../dicom/json.ts';
import { TAG } from '../dicom/tags.ts';
import { HttpStatusError } from '../http/problem.ts';
import { baseUrlOf, instanceUrl } from './addresses.ts';
import { acceptOf, sendStream } from './answers.ts';
import { servedTransferSyntax } from './data-set-source.ts';
import { entityTag, isUnchanged } from './entity-tags.ts';
import { heldInstances, type HeldInstances, type ResourceParams } from './held.ts';
import { chooseType } from './media-types.ts';
import type { DicomwebParts } from './parts.ts';

const DICOM_JSON = 'application/dicom+json';
/** Headers read from the database at a time: some 2 MB. */
const HEADER_BATCH = 100;
/** Available Transfer Syntax UID (0008,3002): how pixel data will come. */
const AVAILABLE_TRANSFER_SYNTAX_UID = '00083002';

/** Retrieve transaction for metadata (PS3.18 10.4.1.1.2): headers as DICOM JSON, long values as BulkDataURI. */
export function mountMetadata(app: FastifyInstance, parts: DicomwebParts): void {
  for (const url of [
    '/studies/:study/metadata',
    '/studies/:study/series/:series/metadata',
    '/studies/:study/series/:series/instances/:instance/metadata',
  ]) {
    app.get<{ Params: ResourceParams }>(url, { config: { policy: 'clinical-read' } }, (request, reply) =>
      metadata(parts, request, reply, request.params),
    );
  }
}

async function metadata(parts: DicomwebParts, request: FastifyRequest, reply: FastifyReply, params: ResourceParams): Promise<FastifyReply> {
  if (chooseType(acceptOf(request), [DICOM_JSON, 'application/json']) === undefined) {
    throw new HttpStatusError(
      406,
      'INVALID_ARGUMENT',
      'NOT_ACCEPTABLE',
      'Metadata comes as application/dicom+json; the Accept header does not allow it.',
    );
  }
  const held = await heldInstances(parts, params);
  const baseUrl = baseUrlOf(request);
  if (isUnchanged(request, reply, entityTag(held.instances, held.coercion, 'metadata', baseUrl))) return reply.send();
  await parts.onRead?.({
    kind: 'view',
    transaction: 'metadata',
    studyInstanceUid: held.study.studyInstanceUid,
    instances: held.instances.length,
    request,
  });
  return sendStream(request, reply.type(DICOM_JSON), jsonArray(parts, held, baseUrl));
}

async function* jsonArray(parts: DicomwebParts, held: HeldInstances, baseUrl: string): AsyncGenerator<Buffer> {
  let separator = '[';
  for (let from = 0; from < held.instances.length; from += HEADER_BATCH) {
    const rows = held.instances.slice(from, from + HEADER_BATCH);
    const headers = new Map(
      (await parts.store.studies.headers(rows.map((row) => row.sopInstanceUid))).map(({ sopInstanceUid, header }) => [
        sopInstanceUid,
        header,
      ]),
    );
    let text = '';
    for (const row of rows) {
      const header = headers.get(row.sopInstanceUid);
      if (header === undefined) continue;
      const served = held.coercion === undefined ? header : coerceJson(header, held.coercion);
      const answer = { ...served, [AVAILABLE_TRANSFER_SYNTAX_UID]: { vr: 'UI', Value: [servedTransferSyntax(row, held.coercion)] } };
      text += separator + JSON.stringify(withAddresses(answer, instanceUrl(baseUrl, row)));
      separator = ',';
    }
    yield Buffer.from(text);
  }
  yield Buffer.from(separator === '[' ? '[]' : ']');
}

/** The data set with the places of long values turned into addresses; elements in the order of their tags. */
function withAddresses(dataset: DicomJson, url: string): DicomJson {
  const answer: DicomJson = {};
  for (const tag of Object.keys(dataset).sort()) {
    const element = dataset[tag];
    // Group 2 is no part of a data set (PS3.18 F.2.2 note).
    if (element !== undefined && !tag.startsWith('0002')) answer[tag] = elementWithAddress(tag, element, url);
  }
  return answer;
}

function elementWithAddress(tag: string, element: DicomJsonElement, url: string): DicomJsonElement {
  if (element.vr === 'SQ' && element.Value !== undefined)
    return { vr: 'SQ', Value: element.Value.map((item) => withAddresses(item as DicomJson, url)) };
  const place = element.BulkDataURI === undefined ? undefined : parseBulkUri(element.BulkDataURI);
  if (place === undefined) return element;
  return {
    vr: element.vr,
    BulkDataURI: tag === TAG.PixelData ? `${url}/bulkdata/${tag}` : `${url}/bulkdata/${place.offset}-${place.length}`,
  };
}
