import { CONSENT_BODY, CONSENT_LIST_BODY, CONSENT_REVOKE_BODY, HISTORY_BODY, IMPORT_BODY, TRANSFER_BODY } from './schemas.ts';

const problem = {
  description: 'What went wrong, by a stable reason (RFC 9457)',
  content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
};
const json = (description: string) => ({
  '200': { description, content: { 'application/json': { schema: { type: 'object' } } } },
  default: problem,
});
const lines = (description: string) => ({
  '200': {
    description: `${description} One JSON object a line: {type: progress}…, then {type: result} or {type: problem}.`,
    content: { 'application/x-ndjson': { schema: { $ref: '#/components/schemas/StreamLine' } } },
  },
  default: problem,
});
const body = (schema: object) => ({ required: true, content: { 'application/json': { schema } } });
const idParameter = { name: 'id', in: 'path', required: true, schema: { type: 'string' } };

/** The API described (OpenAPI 3.1), from the same schemas that check the bodies. */
export function openApiDocument(version: string): object {
  return {
    openapi: '3.1.0',
    info: {
      title: 'Meridian node',
      version,
      description: 'One hospital node. A person id travels in bodies only, never in an address. Long work answers as JSON lines.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/api/v1' }],
    paths: {
      '/node': { get: { operationId: 'getNode', summary: 'Who this node is and how it stands', responses: json('NodeView') } },
      '/doctor': {
        get: {
          operationId: 'getDoctor',
          summary: 'What is wrong and what to do, in words (Accept-Language: en, zh-CN)',
          responses: json('DoctorAdvice'),
        },
      },
      '/quarantine': {
        get: { operationId: 'listQuarantine', summary: 'Objects kept aside', responses: json('Rows without patient data') },
      },
      '/history': {
        post: {
          operationId: 'patientHistory',
          summary: 'Local and remote studies of a person, newest first, with who was asked',
          requestBody: body(HISTORY_BODY),
          responses: json('HistoryView'),
        },
      },
      '/consents': {
        post: {
          operationId: 'recordConsent',
          summary: 'Record a consent that a patient gave',
          requestBody: body(CONSENT_BODY),
          responses: { '201': { description: 'ConsentView' }, default: problem },
        },
      },
      '/consents/revoke': {
        post: {
          operationId: 'revokeConsent',
          summary: 'Stop sharing: one consent, or all of a person',
          requestBody: body(CONSENT_REVOKE_BODY),
          responses: json('How many were revoked'),
        },
      },
      '/consents/list': {
        post: {
          operationId: 'listConsents',
          summary: 'Consents of a person as they stand now',
          requestBody: body(CONSENT_LIST_BODY),
          responses: json('ConsentView[]'),
        },
      },
      '/transfers': {
        get: { operationId: 'listTransfers', summary: 'Copies, running and ended', responses: json('TransferView[]') },
        post: {
          operationId: 'startTransfer',
          summary: 'Copy a study from the hospital that holds it',
          requestBody: body(TRANSFER_BODY),
          responses: { '202': { description: 'TransferView' }, default: problem },
        },
      },
      '/transfers/{id}/events': {
        get: {
          operationId: 'followTransfer',
          summary: 'Live progress of a copy',
          parameters: [idParameter],
          responses: lines('TransferView as it changes.'),
        },
      },
      '/transfers/{id}/cancel': {
        post: {
          operationId: 'cancelTransfer',
          summary: 'Stop a copy; what arrived is kept',
          parameters: [idParameter],
          responses: json('TransferView'),
        },
      },
      '/import': {
        post: {
          operationId: 'importFolder',
          summary: 'Read every DICOM file under a folder of this machine',
          requestBody: body(IMPORT_BODY),
          responses: lines('How far it is, then what was stored and refused.'),
        },
      },
    },
    components: {
      schemas: {
        Problem: {
          type: 'object',
          required: ['type', 'title', 'status', 'detail', 'reason'],
          properties: {
            type: { type: 'string' },
            title: { type: 'string' },
            status: { type: 'integer' },
            detail: { type: 'string' },
            reason: { type: 'string' },
          },
        },
        StreamLine: {
          type: 'object',
          required: ['type'],
          properties: { type: { enum: ['progress', 'result', 'problem'] }, progress: {}, result: {}, problem: {} },
        },
      },
    },
  };
}
