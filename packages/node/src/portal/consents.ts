import type { FastifyInstance } from 'fastify';
import { MeshError } from '@meridian/shared/errors';
import { parsePersonId } from '@meridian/shared/identifiers';
import type { ConsentProvision, ConsentStatement } from '@meridian/shared/consent';
import type { ConsentPort, PortalParts } from './parts.ts';
import { CONSENT } from './policies.ts';
import { CONSENT_BODY, CONSENT_LIST_BODY, CONSENT_REVOKE_BODY } from './schemas.ts';
import type { ConsentView, Purpose } from './views.ts';

interface ConsentBody extends Omit<ConsentProvision, 'grantee' | 'purposes' | 'holders'> {
  readonly personId: string;
  readonly grantee: { readonly kind: 'this-hospital' | 'hospital' | 'any-treating'; readonly nodeId?: string };
  readonly purposes: readonly Purpose[];
  readonly holders?: readonly string[];
  readonly validForMs: number;
  readonly clerk: string;
  readonly formHash?: string;
}

/** Routes of the consent panel: record, revoke, list. */
export function consentRoutes(app: FastifyInstance, parts: PortalParts): void {
  app.post('/consents', { config: CONSENT, schema: { body: CONSENT_BODY } }, async (request, reply) => {
    const body = request.body as ConsentBody;
    const personId = parsePersonId(body.personId);
    const statement = await consentOf(parts).record({
      personId,
      provision: provisionOf(body, parts.nodeId),
      validForMs: body.validForMs,
      clerk: body.clerk,
      ...(body.formHash === undefined ? {} : { formHash: body.formHash }),
    });
    await delivered(parts);
    return reply.code(201).send(viewOf(statement, parts));
  });
  app.post('/consents/revoke', { config: CONSENT, schema: { body: CONSENT_REVOKE_BODY } }, async (request) => {
    const body = request.body as { consentId: string } | { personId: string };
    const target = 'consentId' in body ? { consentId: body.consentId } : { personId: parsePersonId(body.personId) };
    const revoked = await consentOf(parts).revoke(target);
    await delivered(parts);
    return { revoked: Array.isArray(revoked) ? revoked.length : 1 };
  });
  app.post('/consents/list', { config: CONSENT, schema: { body: CONSENT_LIST_BODY } }, async (request) => {
    const { personId } = request.body as { personId: string };
    const statements = await consentOf(parts).list(parsePersonId(personId));
    return { consents: newestOfEach(statements).map((statement) => viewOf(statement, parts)) };
  });
}

/** How long an answer waits for the index to hear of a statement: so that a history asked right after shows it. */
const DELIVERY_MS = 2000;

/** The statement is durable here already; an index that is away only means that it hears later. */
async function delivered({ consent, clock }: PortalParts): Promise<void> {
  const enough = new AbortController();
  const late = clock.sleep(DELIVERY_MS, enough.signal).catch(() => undefined);
  await Promise.race([consent?.settle?.(), late]);
  enough.abort();
}

function consentOf(parts: PortalParts): ConsentPort {
  if (parts.consent === undefined) throw notJoined();
  return parts.consent;
}

/** What needs the mesh is refused on a node that has not joined. */
export function notJoined(): MeshError {
  return new MeshError(
    'FAILED_PRECONDITION',
    'NODE_NOT_JOINED',
    'This node has not joined a mesh yet: it keeps its own images only. Run `meridian join <link>` with the link of your operator, then `meridian serve`.',
  );
}

function provisionOf(body: ConsentBody, self: string | undefined): ConsentProvision {
  const { personId: _personId, validForMs: _validForMs, clerk: _clerk, formHash: _formHash, grantee, ...scope } = body;
  if (grantee.kind === 'any-treating') return { ...scope, grantee: { kind: 'any-treating' } } as ConsentProvision;
  const nodeId = grantee.kind === 'this-hospital' ? self : grantee.nodeId;
  if (nodeId === undefined) {
    throw new MeshError(
      'INVALID_ARGUMENT',
      'CONSENT_GRANTEE_MISSING',
      'Say which hospital may see the images: a hospital needs its node id (n-…).',
    );
  }
  return { ...scope, grantee: { kind: 'hospital', nodeId } } as ConsentProvision;
}

/** One statement a consent id: the highest sequence wins; at the same sequence a withdrawal or refusal wins. */
function newestOfEach(statements: readonly ConsentStatement[]): ConsentStatement[] {
  const newest = new Map<string, ConsentStatement>();
  for (const statement of statements) {
    const known = newest.get(statement.consentId);
    if (
      known === undefined ||
      Number(statement.seq) > Number(known.seq) ||
      (statement.seq === known.seq && statement.status !== 'active')
    ) {
      newest.set(statement.consentId, statement);
    }
  }
  return [...newest.values()].sort((a, b) => b.issuedAtEpochMs - a.issuedAtEpochMs);
}

function viewOf(statement: ConsentStatement, parts: PortalParts): ConsentView {
  const names = new Map(parts.hospitals().map((hospital) => [hospital.nodeId as string, hospital.name]));
  const named = (nodeId: string): { nodeId: string; name: string } => ({ nodeId, name: names.get(nodeId) ?? nodeId });
  const { grantee, holders, purposes, ...scope } = statement.provision;
  return {
    consentId: statement.consentId,
    state: stateOf(statement, parts.clock.now()),
    grantee: grantee.kind === 'hospital' ? { kind: 'hospital', ...named(grantee.nodeId) } : { kind: 'any-treating' },
    purposes,
    ...scope,
    ...(holders === undefined ? {} : { holders: holders.map(named) }),
    recordedBy: { ...named(statement.writer), clerk: statement.clerk },
    recordedAtEpochMs: statement.issuedAtEpochMs,
    validFromEpochMs: statement.validFromEpochMs,
    validUntilEpochMs: statement.validUntilEpochMs,
  };
}

function stateOf(statement: ConsentStatement, now: number): ConsentView['state'] {
  if (statement.status !== 'active') return statement.status;
  if (now >= statement.validUntilEpochMs) return 'expired';
  return now < statement.validFromEpochMs ? 'not-yet' : 'active';
}
