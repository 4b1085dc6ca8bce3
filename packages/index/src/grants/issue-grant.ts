import type { AuditLog } from '@meridian/shared/audit-log';
import type { ConsentDecision, ConsentStatement } from '@meridian/shared/consent';
import { covers, type Purpose } from '@meridian/shared/consent';
import { MeshError } from '@meridian/shared/errors';
import {
  GrantServiceService,
  type GrantServiceServer,
  type IssueGrantRequest,
  type IssueGrantResponse,
} from '@meridian/shared/generated/meridian/v1/grant';
import { NodeStatus } from '@meridian/shared/generated/meridian/v1/trust';
import { GRANT_LIFETIME_MS, MAX_GRANT_STUDIES, signGrant, type GrantClaims } from '@meridian/shared/grant';
import { unaryHandler } from '@meridian/shared/grpc';
import { parseNodeId, parseStudyInstanceUid, type NodeId } from '@meridian/shared/identifiers';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import type { Random } from '@meridian/shared/platform/random';
import type { SigningKey } from '@meridian/shared/signed-object';
import { INDEX_URI } from '@meridian/shared/x509';
import { patientKeysOfRequest } from '../consent/consent-service.ts';
import { decide, purposeOf, statementsOf, type StudyScope } from '../consent/decide.ts';
import {
  MANIFEST_COLUMNS,
  patientKeysOfStudies,
  scopeOf,
  signedManifestOf,
  studyAt,
  visibleStudies,
  type StudyRow,
} from '../manifests/studies.ts';
import type { Caller, CallerGate } from '../registry/caller.ts';
import type { TrustKeeper } from '../registry/trust-keeper.ts';
import type { IndexDatabase } from '../tables.ts';

/** Parts of the grant service. */
export interface GrantParts {
  readonly database: IndexDatabase;
  readonly keeper: TrustKeeper;
  readonly gate: CallerGate;
  readonly key: SigningKey;
  readonly audit: AuditLog;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

interface Asked {
  readonly askingNode: NodeId;
  readonly holderNode: NodeId;
  readonly studies: readonly string[];
  readonly purpose: Purpose;
  readonly subject: string;
  readonly role: string;
}

const MAX_TEXT_LENGTH = 128;
/** What a resumed transfer and its framing may send beyond the studies themselves. */
const BYTES_SLACK = 16 * 1024 * 1024;

/** The grant RPC. */
export function grantService(parts: GrantParts): { definition: typeof GrantServiceService; implementation: GrantServiceServer } {
  return {
    definition: GrantServiceService,
    implementation: {
      issueGrant: unaryHandler({
        log: parts.log,
        authenticate: parts.gate.authenticate,
        handle: (request, { caller }) => issueGrant(parts, request, caller),
      }),
    },
  };
}

/**
 * A permission for the calling node to fetch named studies from one holder within five minutes, resting on one consent
 * statement that it carries along.
 * @throws MeshError PERMISSION_DENIED / NO_CONSENT | CONSENT_REVOKED | CONSENT_EXPIRED | CONSENT_OUT_OF_SCOPE |
 *   CONSENT_REFUSED, FAILED_PRECONDITION / HOLDER_NOT_ACTIVE | CONSENTS_DIFFER, NOT_FOUND / STUDY_UNKNOWN,
 *   INVALID_ARGUMENT / TOO_MANY_STUDIES | OWN_STUDY | SUBJECT_INVALID, RESOURCE_EXHAUSTED / AUDIT_UNWRITABLE
 */
async function issueGrant(parts: GrantParts, request: IssueGrantRequest, caller: Caller): Promise<IssueGrantResponse> {
  const asked = checkRequest(parts, request, caller);
  const rows = await studiesAsked(parts.database, asked, patientKeysOfRequest(request.patientKeys));
  const nowEpochMs = parts.clock.now();
  const consent = await consentFor(parts, asked, rows, nowEpochMs);
  const issuedAt = Math.floor(nowEpochMs / 1000);
  const claims: GrantClaims = {
    iss: INDEX_URI,
    sub: asked.subject,
    role: asked.role,
    aud: asked.holderNode,
    azp: asked.askingNode,
    cnf: { peerId: caller.entry.peerId },
    studies: asked.studies,
    pou: asked.purpose,
    cst: { hash: consent.hash, seq: consent.seq, statement: consent.compact },
    bytes: rows.reduce((total, row) => total + row.total_bytes, 0) + BYTES_SLACK,
    iat: issuedAt,
    nbf: issuedAt,
    exp: Math.min(issuedAt + GRANT_LIFETIME_MS / 1000, Math.floor(consent.validUntilEpochMs / 1000)),
    jti: parts.random.bytes(16).toString('base64url'),
  };
  await recordGrant(parts, claims, consent);
  await parts.audit.append({
    type: 'GRANT',
    jti: claims.jti,
    peer: asked.askingNode,
    subject: asked.subject,
    bytes: claims.bytes,
    detail: {
      holder: asked.holderNode,
      studies: asked.studies.join(' '),
      consentHash: consent.hash,
      basis: consent.basis,
      purpose: asked.purpose,
    },
  });
  return {
    grant: { compact: signGrant(claims, parts.key) },
    expiresAtEpochMs: BigInt(claims.exp * 1000),
    manifests: rows.map(signedManifestOf),
  };
}

function checkRequest(parts: GrantParts, request: IssueGrantRequest, caller: Caller): Asked {
  const holderNode = parseNodeId(request.holderNode);
  const studies = [...new Set(request.studyInstanceUids.map(parseStudyInstanceUid))];
  if (studies.length === 0 || request.studyInstanceUids.length > MAX_GRANT_STUDIES) {
    throw new MeshError(
      'INVALID_ARGUMENT',
      'TOO_MANY_STUDIES',
      `A grant names 1 to ${MAX_GRANT_STUDIES} studies. Ask for the rest in further grants.`,
    );
  }
  if (holderNode === caller.nodeId)
    throw new MeshError('INVALID_ARGUMENT', 'OWN_STUDY', 'These studies are held by the asking hospital itself: no grant is needed.');
  if (![request.subject, request.role].every((text) => text.length >= 1 && text.length <= MAX_TEXT_LENGTH)) {
    throw new MeshError(
      'INVALID_ARGUMENT',
      'SUBJECT_INVALID',
      `A grant names the pseudonym and the role of the person who asks, each 1 to ${MAX_TEXT_LENGTH} characters.`,
    );
  }
  if (parts.keeper.view().entries.get(holderNode)?.status !== NodeStatus.NODE_STATUS_ACTIVE) {
    throw new MeshError(
      'FAILED_PRECONDITION',
      'HOLDER_NOT_ACTIVE',
      'The holder of these studies is no active member of the federation now.',
    );
  }
  return {
    askingNode: caller.nodeId,
    holderNode,
    studies,
    purpose: purposeOf(request.purposeOfUse),
    subject: request.subject,
    role: request.role,
  };
}

async function studiesAsked(
  database: IndexDatabase,
  asked: Asked,
  patientKeys: readonly Buffer[],
): Promise<(StudyRow & { patientKeys: string[] })[]> {
  const rows = await visibleStudies(database.read)
    .select(MANIFEST_COLUMNS)
    .where('patient_key', 'in', [...patientKeys])
    .where('study_instance_uid', 'in', [...asked.studies])
    .where('custodian_node', '=', asked.holderNode)
    .execute();
  const allKeys = await patientKeysOfStudies(database.read, rows);
  return asked.studies.map((studyInstanceUid) => {
    const row = rows.find((one) => one.study_instance_uid === studyInstanceUid);
    if (row === undefined)
      throw new MeshError(
        'NOT_FOUND',
        'STUDY_UNKNOWN',
        'The index knows no such study of this person at this holder. Ask for the history again: it may have moved or been withdrawn.',
      );
    return { ...row, patientKeys: [...(allKeys.get(studyAt(row)) ?? [])] };
  });
}

/** The one statement on which all studies rest; a refusal is audited before it is answered. */
async function consentFor(
  parts: GrantParts,
  asked: Asked,
  rows: readonly (StudyRow & { patientKeys: string[] })[],
  atEpochMs: number,
): Promise<ConsentStatement> {
  const statements = await statementsOf(
    parts.database.read,
    [...new Set(rows.flatMap((row) => row.patientKeys))].map((key) => Buffer.from(key, 'hex')),
  );
  const scopes = rows.map((row) => scopeOf(row, row.patientKeys));
  const bases: ConsentStatement[] = [];
  for (const study of scopes) {
    const decision = decide({ statements, study, askingNode: asked.askingNode, purpose: asked.purpose, atEpochMs });
    if (!decision.allow) throw await refusal(parts, asked, study, decision);
    bases.push(decision.basis);
  }
  const shared = bases.find((basis) =>
    scopes.every((study) =>
      covers(basis.provision, { askingNode: asked.askingNode, holderNode: asked.holderNode, purpose: asked.purpose, study, atEpochMs }),
    ),
  );
  if (shared === undefined)
    throw new MeshError(
      'FAILED_PRECONDITION',
      'CONSENTS_DIFFER',
      'These studies rest on different consents. Ask for a grant for each of them.',
    );
  return shared;
}

async function refusal(
  parts: GrantParts,
  asked: Asked,
  study: StudyScope,
  decision: Extract<ConsentDecision, { allow: false }>,
): Promise<MeshError> {
  await parts.audit.append({
    type: 'DENY',
    study: study.studyInstanceUid,
    peer: asked.askingNode,
    subject: asked.subject,
    reason: decision.reason,
    detail: {
      holder: asked.holderNode,
      purpose: asked.purpose,
      ...(decision.statement === undefined ? {} : { consentHash: decision.statement.hash }),
    },
  });
  return new MeshError('PERMISSION_DENIED', decision.reason, REFUSALS[decision.reason], {
    details: { studyInstanceUid: study.studyInstanceUid },
  });
}

const REFUSALS: Readonly<Record<Extract<ConsentDecision, { allow: false }>['reason'], string>> = {
  NO_CONSENT: 'The patient has consented to nothing that covers this study. Ask the patient, and record the consent.',
  CONSENT_REVOKED: 'The patient has withdrawn the consent. Only a new consent opens this study again.',
  CONSENT_EXPIRED: "The patient's consent has run out, or is not in force yet. Ask the patient again.",
  CONSENT_OUT_OF_SCOPE: 'The patient has consented to something else: another hospital, purpose, kind or time of study.',
  CONSENT_REFUSED: 'The patient has refused that this study be shared.',
};

/** Who was granted what must hear of a revocation or recall, so it is durable before the grant leaves. */
async function recordGrant(parts: GrantParts, claims: GrantClaims, consent: ConsentStatement): Promise<void> {
  await parts.database.write.transaction().execute(async (transaction) => {
    await transaction
      .insertInto('grant_issued')
      .values({
        jti: claims.jti,
        asking_node: claims.azp,
        holder_node: claims.aud,
        study_instance_uids: JSON.stringify(claims.studies),
        consent_hash: consent.hash,
        issued_at: claims.iat * 1000,
        expires_at: claims.exp * 1000,
      })
      .execute();
    await transaction
      .insertInto('consent_use')
      .values({ consent_id: consent.consentId, node_id: claims.azp })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
    for (const study_instance_uid of claims.studies) {
      await transaction
        .insertInto('study_recipient')
        .values({ study_instance_uid, custodian_node: claims.aud, node_id: claims.azp })
        .onConflict((conflict) => conflict.doNothing())
        .execute();
    }
  });
}
