import { PURPOSES } from './views.ts';

/** JSON schemas of request bodies: Fastify checks them, the API description shows them. */
const text = (maxLength: number, description: string) => ({ type: 'string', minLength: 1, maxLength, description }) as const;
const uid = { type: 'string', pattern: '^[0-9.]{1,64}$', description: 'DICOM UID (PS3.5 9.1)' } as const;
const nodeId = { type: 'string', pattern: '^n-[a-z2-7]{16}$', description: 'Node id' } as const;
const date = { type: 'string', pattern: '^[0-9]{8}$', description: 'DICOM DA: YYYYMMDD' } as const;
const personId = text(256, 'Resident id (GB 11643), or type:issuer:value. In the body only: addresses end up in logs.');
const purpose = { type: 'string', enum: PURPOSES, default: 'TREAT', description: 'HL7 v3 ActReason' } as const;

/** POST /history */
export const HISTORY_BODY = {
  type: 'object',
  additionalProperties: false,
  required: ['personId'],
  properties: { personId, purpose },
} as const;

/** POST /consents/list */
export const CONSENT_LIST_BODY = { type: 'object', additionalProperties: false, required: ['personId'], properties: { personId } } as const;

/** POST /consents */
export const CONSENT_BODY = {
  type: 'object',
  additionalProperties: false,
  required: ['personId', 'grantee', 'validForMs', 'clerk'],
  properties: {
    personId,
    grantee: {
      type: 'object',
      additionalProperties: false,
      required: ['kind'],
      properties: { kind: { type: 'string', enum: ['this-hospital', 'hospital', 'any-treating'] }, nodeId },
    },
    purposes: { type: 'array', minItems: 1, maxItems: 8, items: { type: 'string', enum: PURPOSES }, default: ['TREAT'] },
    modalities: { type: 'array', minItems: 1, maxItems: 32, items: { type: 'string', pattern: '^[A-Z0-9_ ]{1,16}$' } },
    studyDateFrom: date,
    studyDateTo: date,
    studyInstanceUids: { type: 'array', minItems: 1, maxItems: 256, items: uid },
    holders: { type: 'array', minItems: 1, maxItems: 256, items: nodeId },
    validForMs: { type: 'integer', minimum: 1000, maximum: 3_200_000_000_000 },
    clerk: text(128, 'Who records it, by the name used in this hospital'),
    formHash: { type: 'string', pattern: '^[0-9a-f]{64}$', description: 'SHA-256 of the signed form' },
  },
} as const;

/** POST /consents/revoke: one consent, or all of a person. */
export const CONSENT_REVOKE_BODY = {
  type: 'object',
  additionalProperties: false,
  minProperties: 1,
  maxProperties: 1,
  properties: { consentId: text(128, 'One consent'), personId },
} as const;

/** POST /transfers */
export const TRANSFER_BODY = {
  type: 'object',
  additionalProperties: false,
  required: ['personId', 'studyInstanceUid'],
  properties: {
    personId,
    studyInstanceUid: uid,
    holderNode: nodeId,
    patientId: text(64, 'Local PatientID to file the copy under'),
    purpose,
  },
} as const;

/** POST /import */
export const IMPORT_BODY = {
  type: 'object',
  additionalProperties: false,
  required: ['folder'],
  properties: {
    folder: text(4096, 'Absolute path on the machine of the node'),
    authority: {
      type: 'string',
      pattern: '^[!-\\[\\]-~]([ -\\[\\]-~]{0,62}[!-\\[\\]-~])?$',
      description:
        'Hospital whose patient ids the folder has, in ASCII. Without it, and without ownIds, they are this import’s own and join no patient.',
    },
    ownIds: { type: 'boolean', default: false, description: 'The folder is this hospital’s own archive: its patient ids are ours' },
  },
} as const;

/** /transfers/{id}/… */
export const TRANSFER_PARAMS = {
  type: 'object',
  required: ['id'],
  properties: { id: { type: 'string', pattern: '^[0-9a-zA-Z-]{1,64}$' } },
} as const;
