import { isAbsolute } from 'node:path';
import type { FastifyInstance, FastifyPluginAsync } from 'fastify';
import { MeshError } from '@meridian/shared/errors';
import { parsePersonId, parseStudyInstanceUid } from '@meridian/shared/identifiers';
import { consentRoutes, notJoined } from './consents.ts';
import { adviceOf } from './doctor.ts';
import { languageOf } from './doctor-words.ts';
import { streamWork } from './ndjson.ts';
import { openApiDocument } from './openapi.ts';
import { LOCAL_SUBJECT, type PortalParts } from './parts.ts';
import { CLINICAL_READ, CLINICAL_WRITE, OPERATOR, PUBLIC } from './policies.ts';
import { HISTORY_BODY, IMPORT_BODY, TRANSFER_BODY, TRANSFER_PARAMS } from './schemas.ts';
import { webRoutes } from './static-web.ts';
import { openTransferDesk, type TransferDesk } from './transfer-desk.ts';
import type { NodeView, Purpose } from './views.ts';

/** The door of people and of the command line: a JSON API under /api/v1 and the page at /. */
export interface Portal {
  /** Mount it on the listener. */
  readonly plugin: FastifyPluginAsync;
  /** Stops the copies that were started here; they go on after a restart. */
  close(): Promise<void>;
}

/** @param parts the rooms below, each as narrow as it is used here. */
export function openPortal(parts: PortalParts): Portal {
  const desk =
    parts.transfers === undefined ? undefined : openTransferDesk({ port: parts.transfers, clock: parts.clock, random: parts.random });
  const plugin: FastifyPluginAsync = async (app) => {
    await app.register(
      async (api) => {
        nodeRoutes(api, parts);
        historyRoutes(api, parts);
        consentRoutes(api, parts);
        transferRoutes(api, parts, desk);
        importRoutes(api, parts);
      },
      { prefix: '/api/v1' },
    );
    await webRoutes(app, parts.webFolder);
  };
  return { plugin, close: async () => desk?.close() };
}

function nodeRoutes(api: FastifyInstance, parts: PortalParts): void {
  api.get('/openapi.json', { config: PUBLIC }, async () => openApiDocument(parts.version));
  api.get('/node', { config: OPERATOR }, async () => nodeView(parts));
  api.get('/quarantine', { config: OPERATOR }, async () => ({ quarantined: await parts.quarantine() }));
  api.get('/doctor', { config: OPERATOR }, async (request) =>
    adviceOf(await parts.doctorFacts(), languageOf(request.headers['accept-language'])),
  );
}

function historyRoutes(api: FastifyInstance, parts: PortalParts): void {
  api.post('/history', { config: CLINICAL_READ, schema: { body: HISTORY_BODY } }, async (request, reply) => {
    const { personId, purpose } = request.body as { personId: string; purpose: Purpose };
    reply.header('cache-control', 'no-store');
    return parts.history.patientHistory({ personId: parsePersonId(personId), purpose, subject: LOCAL_SUBJECT });
  });
}

function transferRoutes(api: FastifyInstance, parts: PortalParts, desk: TransferDesk | undefined): void {
  const need = (): TransferDesk => {
    if (desk === undefined) throw notJoined();
    return desk;
  };
  api.post('/transfers', { config: CLINICAL_WRITE, schema: { body: TRANSFER_BODY } }, async (request, reply) => {
    const body = request.body as { personId: string; studyInstanceUid: string; holderNode?: string; patientId?: string; purpose: Purpose };
    const holderName = parts.hospitals().find((hospital) => hospital.nodeId === body.holderNode)?.name;
    const view = need().start({
      personId: parsePersonId(body.personId),
      studyInstanceUid: parseStudyInstanceUid(body.studyInstanceUid),
      ...(body.holderNode === undefined ? {} : { holderNode: body.holderNode }),
      ...(holderName === undefined ? {} : { holderName }),
      ...(body.patientId === undefined ? {} : { patientId: body.patientId }),
      purpose: body.purpose,
      subject: LOCAL_SUBJECT,
    });
    return reply.code(202).send(view);
  });
  api.get('/transfers', { config: CLINICAL_READ }, async () => ({ transfers: desk === undefined ? [] : await desk.list() }));
  api.get('/transfers/:id/events', { config: CLINICAL_READ, schema: { params: TRANSFER_PARAMS } }, async (request, reply) => {
    const { id } = request.params as { id: string };
    const live = need();
    if (!(await live.list()).some((view) => view.id === id))
      throw new MeshError('NOT_FOUND', 'TRANSFER_UNKNOWN', 'This copy is not known here. Look at the history for what is held.');
    return streamWork({ reply, clock: parts.clock }, (signal, onProgress) => live.follow(id, signal, onProgress));
  });
  api.post('/transfers/:id/cancel', { config: CLINICAL_WRITE, schema: { params: TRANSFER_PARAMS } }, async (request) =>
    need().cancel((request.params as { id: string }).id),
  );
}

function importRoutes(api: FastifyInstance, parts: PortalParts): void {
  api.post('/import', { config: OPERATOR, schema: { body: IMPORT_BODY } }, async (request, reply) => {
    const { folder, ...ids } = request.body as { folder: string; authority?: string; ownIds?: boolean };
    if (!isAbsolute(folder))
      throw new MeshError(
        'INVALID_ARGUMENT',
        'FOLDER_NOT_ABSOLUTE',
        'Give the whole path of the folder, from the root, as the node sees it.',
      );
    return streamWork({ reply, clock: parts.clock }, (signal, onProgress) => parts.importFolder(folder, { ...ids, signal, onProgress }));
  });
}

async function nodeView(parts: PortalParts): Promise<NodeView> {
  const storage = await parts.usage();
  return {
    ...(parts.nodeId === undefined ? {} : { nodeId: parts.nodeId }),
    hospitalName: parts.hospitalName,
    joined: parts.nodeId !== undefined,
    version: parts.version,
    runtime: `Node.js ${process.versions.node}`,
    contract: 'meridian.v1',
    aeTitle: parts.aeTitle,
    ports: parts.ports(),
    ...(parts.indexState === undefined ? {} : { index: parts.indexState() }),
    storage,
    ...(parts.advertiseStatus === undefined ? {} : { advertise: parts.advertiseStatus() }),
    hospitals: parts.hospitals().map((hospital) => ({ ...hospital, self: hospital.nodeId === parts.nodeId })),
    limitsReached: [...(storage.readOnly ? ['disk-nearly-full'] : []), ...(parts.limitsReached?.() ?? [])],
    nowEpochMs: parts.clock.now(),
  };
}
