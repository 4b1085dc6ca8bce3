import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { parseSeriesInstanceUid, parseStudyInstanceUid } from '@meridian/shared/identifiers';
import { coerceJson, type Coercion } from '../dicom/coerce.ts';
import type { DicomJson } from '../dicom/json.ts';
import { TAG } from '../dicom/tags.ts';
import { HttpStatusError } from '../http/problem.ts';
import type { InstanceRow, StudyRow } from '../store/rows.ts';
import type { InstanceQuery } from '../store/study-query.ts';
import { baseUrlOf } from './addresses.ts';
import { acceptOf, sendStream } from './answers.ts';
import { heldStudy } from './held.ts';
import { chooseType } from './media-types.ts';
import type { DicomwebParts } from './parts.ts';
import {
  dateRange,
  integerKey,
  parseQidoQuery,
  timeRange,
  uidList,
  type QidoLevel,
  type QidoQuery,
  type ValueRange,
} from './qido-query.ts';
import { inTagOrder, instanceAttributes, seriesAttributes, studyAttributes } from './qido-rows.ts';

const DICOM_JSON = 'application/dicom+json';
const FUZZY_WARNING = '299 meridian "The fuzzymatching parameter is not supported. Only literal matching has been performed."';
const MORE_WARNING = '299 meridian "There are additional results that can be requested."';
const PATIENT_TAGS = [TAG.PatientID, TAG.PatientName, TAG.IssuerOfPatientID, TAG.PatientBirthDate, TAG.PatientSex];
/** Rows written at a time. */
const ROW_BATCH = 100;

interface QidoParams {
  readonly study?: string;
  readonly series?: string;
}

/** Search transaction (PS3.18 10.6): an empty answer is `200 []`. */
export function mountQido(app: FastifyInstance, parts: DicomwebParts): void {
  const route = (url: string, level: QidoLevel): void => {
    app.get<{ Params: QidoParams }>(url, { config: { policy: 'clinical-read' } }, (request, reply) =>
      search(parts, { level, params: request.params }, request, reply),
    );
  };
  route('/studies', 'study');
  route('/series', 'series');
  route('/instances', 'instance');
  route('/studies/:study/series', 'series');
  route('/studies/:study/instances', 'instance');
  route('/studies/:study/series/:series/instances', 'instance');
}

async function search(
  parts: DicomwebParts,
  { level, params }: { level: QidoLevel; params: QidoParams },
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  if (chooseType(acceptOf(request), [DICOM_JSON, 'application/json']) === undefined) {
    throw new HttpStatusError(
      406,
      'INVALID_ARGUMENT',
      'NOT_ACCEPTABLE',
      'Search results come as application/dicom+json; the Accept header does not allow it.',
    );
  }
  const at = request.url.indexOf('?');
  const query = parseQidoQuery(at < 0 ? '' : request.url.slice(at + 1), level);
  const study = params.study === undefined ? undefined : await heldStudy(parts, parseStudyInstanceUid(params.study));
  const storeQuery: InstanceQuery = {
    ...toStoreQuery(query.matches),
    ...(study === undefined ? {} : { studyInstanceUids: [study.studyInstanceUid] }),
    ...(params.series === undefined ? {} : { seriesInstanceUids: [parseSeriesInstanceUid(params.series)] }),
    // One more than asked, to know whether there is more.
    limit: query.limit + 1,
    offset: query.offset,
  };
  const found = await find(parts, level, storeQuery);
  if (query.fuzzyMatchingAsked) reply.raw.appendHeader('warning', FUZZY_WARNING);
  if (found.length > query.limit) reply.raw.appendHeader('warning', MORE_WARNING);
  const rows = found.slice(0, query.limit);
  const describe = openDescriber(parts, { level, query, baseUrl: baseUrlOf(request), relational: params.study === undefined });
  return sendStream(request, reply.type(DICOM_JSON), jsonArray(rows, describe));
}

interface FoundRow {
  readonly studyInstanceUid: string;
  /** Its own study's, of a study row. */
  readonly study?: StudyRow;
  readonly attributes: (baseUrl: string) => DicomJson;
  /** Whose header answers for attributes that the tables do not hold. */
  readonly representative: () => Promise<InstanceRow | undefined>;
}

async function find(parts: DicomwebParts, level: QidoLevel, query: InstanceQuery): Promise<FoundRow[]> {
  const { studies } = parts.store;
  const first = async (of: InstanceQuery): Promise<InstanceRow | undefined> => (await studies.findInstances({ ...of, limit: 1 }))[0];
  switch (level) {
    case 'study':
      return (await studies.findStudies(query)).map((study) => ({
        studyInstanceUid: study.studyInstanceUid,
        study,
        attributes: (baseUrl) => studyAttributes(study, baseUrl),
        representative: () => first({ studyInstanceUids: [study.studyInstanceUid] }),
      }));
    case 'series':
      return (await studies.findSeries(query)).map((series) => ({
        studyInstanceUid: series.studyInstanceUid,
        attributes: (baseUrl) => seriesAttributes(series, baseUrl),
        representative: () => first({ studyInstanceUids: [series.studyInstanceUid], seriesInstanceUids: [series.seriesInstanceUid] }),
      }));
    case 'instance':
      return (await studies.findInstances(query)).map((instance) => ({
        studyInstanceUid: instance.studyInstanceUid,
        attributes: (baseUrl) => instanceAttributes(instance, baseUrl),
        representative: async () => instance,
      }));
  }
}

type Describe = (row: FoundRow) => Promise<DicomJson | undefined>;

/** Makes the answer for a row: its own attributes, its study's in a search over all studies, and what was asked for beside. */
function openDescriber(
  parts: DicomwebParts,
  options: { level: QidoLevel; query: QidoQuery; baseUrl: string; relational: boolean },
): Describe {
  const { level, query, baseUrl, relational } = options;
  let lastStudy: StudyRow | undefined;
  return async (row) => {
    if (lastStudy?.studyInstanceUid !== row.studyInstanceUid)
      lastStudy = row.study ?? (await parts.store.studies.study(row.studyInstanceUid));
    if (lastStudy === undefined) return undefined;
    // A locked copy is told of, but nothing below its study.
    if (lastStudy.locked && level !== 'study') return undefined;
    const ofStudy = studyAttributes(lastStudy, baseUrl);
    const own = row.attributes(baseUrl);
    const known = { ...ofStudy, ...own };
    const header = await headerFor(parts, row, query, known);
    const answer: DicomJson = { ...(relational ? ofStudy : {}), ...own };
    for (const tag of query.includeAll ? Object.keys({ ...header, ...known }) : query.includeTags) {
      const element = known[tag] ?? header[tag];
      if (element !== undefined && element.BulkDataURI === undefined) answer[tag] ??= element;
    }
    return coerced(inTagOrder(answer), parts.coercionFor(lastStudy));
  };
}

async function headerFor(parts: DicomwebParts, row: FoundRow, query: QidoQuery, known: DicomJson): Promise<DicomJson> {
  if (!query.includeAll && [...query.includeTags].every((tag) => known[tag] !== undefined)) return {};
  const instance = await row.representative();
  return instance === undefined ? {} : parts.store.studies.header(instance.sopInstanceUid);
}

function coerced(dataset: DicomJson, coercion: Coercion | undefined): DicomJson {
  const tellsPatient = PATIENT_TAGS.some((tag) => dataset[tag] !== undefined);
  return coercion === undefined || !tellsPatient ? dataset : coerceJson(dataset, coercion);
}

async function* jsonArray(rows: readonly FoundRow[], describe: Describe): AsyncGenerator<Buffer> {
  let pending = '[';
  let separator = '';
  for (const [index, row] of rows.entries()) {
    const dataset = await describe(row);
    if (dataset !== undefined) {
      pending += separator + JSON.stringify(dataset);
      separator = ',';
    }
    if (index % ROW_BATCH === ROW_BATCH - 1) {
      yield Buffer.from(pending);
      pending = '';
    }
  }
  yield Buffer.from(`${pending}]`);
}

function toStoreQuery(matches: ReadonlyMap<string, string>): InstanceQuery {
  const text = <Key extends string>(key: Key, tag: string): { [K in Key]?: string } => pick(key, matches.get(tag));
  const uids = <Key extends string>(key: Key, tag: string): { [K in Key]?: string[] } => pick(key, convert(matches, tag, uidList));
  const range = <Key extends string>(key: Key, tag: string, parse: typeof dateRange): { [K in Key]?: string } =>
    pick(
      key,
      convert(matches, tag, (of, value) => rangeText(parse(of, value))),
    );
  const modalities = matches
    .get(TAG.ModalitiesInStudy)
    ?.split(/[,\\]/)
    .map((one) => one.trim())
    .filter((one) => one !== '');
  return {
    ...text('patientId', TAG.PatientID),
    ...text('assigningAuthority', TAG.IssuerOfPatientID),
    ...text('patientName', TAG.PatientName),
    ...text('patientSex', TAG.PatientSex),
    ...text('accessionNumber', TAG.AccessionNumber),
    ...text('studyDescription', TAG.StudyDescription),
    ...text('studyId', TAG.StudyID),
    ...text('referringPhysicianName', TAG.ReferringPhysicianName),
    ...text('modality', TAG.Modality),
    ...text('seriesDescription', TAG.SeriesDescription),
    ...text('bodyPartExamined', TAG.BodyPartExamined),
    ...range('patientBirthDate', TAG.PatientBirthDate, dateRange),
    ...range('studyDate', TAG.StudyDate, dateRange),
    ...range('studyTime', TAG.StudyTime, timeRange),
    ...uids('studyInstanceUids', TAG.StudyInstanceUID),
    ...uids('seriesInstanceUids', TAG.SeriesInstanceUID),
    ...uids('sopInstanceUids', TAG.SOPInstanceUID),
    ...uids('sopClassUids', TAG.SOPClassUID),
    ...pick('seriesNumber', convert(matches, TAG.SeriesNumber, integerKey)),
    ...pick('instanceNumber', convert(matches, TAG.InstanceNumber, integerKey)),
    ...pick('modalitiesInStudy', modalities),
  };
}

function convert<Value>(
  matches: ReadonlyMap<string, string>,
  tag: string,
  parse: (tag: string, value: string) => Value,
): Value | undefined {
  const value = matches.get(tag);
  return value === undefined ? undefined : parse(tag, value);
}

function rangeText({ from, to, exact }: ValueRange): string {
  return exact ? (from ?? '') : `${from ?? ''}-${to ?? ''}`;
}

function pick<Key extends string, Value>(key: Key, value: Value | undefined): { [K in Key]?: Value } {
  return (value === undefined ? {} : { [key]: value }) as { [K in Key]?: Value };
}
