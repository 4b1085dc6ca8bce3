import { createHash } from 'node:crypto';
import { PURPOSES, type ConsentProvision, type ConsentStatement, type Purpose } from './consent-rules.ts';
import { MeshError } from './errors.ts';
import type { NodeId } from './identifiers.ts';
import { claimReader, parseJsonObject, parseJws, signJws, verifyJws, type ParsedJws } from './jws.ts';
import { keyIdOf, type SigningKey } from './signed-object.ts';

export * from './consent-rules.ts';

/** Explicit type of a consent statement's JWS header (RFC 8725 3.11). */
export const CONSENT_JWS_TYPE = 'meridian-consent+jwt';
/** Longest compact JWS of a consent statement, in characters. */
export const MAX_CONSENT_LENGTH = 16 * 1024;

/** What a writer states; hash and compact form follow from signing. */
export type ConsentClaims = Omit<ConsentStatement, 'hash' | 'compact'>;

/**
 * Signs a consent statement.
 * @returns the compact JWS (EdDSA).
 * @throws MeshError INVALID_ARGUMENT / CONSENT_MALFORMED where nobody would accept the claims
 */
export function signConsent(claims: ConsentClaims, key: SigningKey): string {
  const compact = signJws(CONSENT_JWS_TYPE, toWire(claims), key);
  readConsent(compact);
  return compact;
}

/**
 * Reads a statement without checking its signature: to learn the writer whose keys must have signed it.
 * @throws MeshError INVALID_ARGUMENT / CONSENT_MALFORMED
 */
export function readConsent(compact: string): ConsentStatement {
  return fromWire(compact, parse(compact));
}

/**
 * Reads a statement after its signature was checked.
 * @param publicKeys raw Ed25519 keys of the writer, as the trust list has them.
 * @throws MeshError INVALID_ARGUMENT / CONSENT_MALFORMED, UNAUTHENTICATED / CONSENT_SIGNATURE
 */
export function openConsent(compact: string, publicKeys: readonly Uint8Array[]): ConsentStatement {
  const jws = parse(compact);
  if (!publicKeys.some((publicKey) => keyIdOf(publicKey) === jws.keyId && verifyJws(jws, publicKey))) {
    throw new MeshError(
      'UNAUTHENTICATED',
      'CONSENT_SIGNATURE',
      'This consent statement was not signed by the node that it names as its writer.',
    );
  }
  return fromWire(compact, jws);
}

/** Hex SHA-256 of a compact JWS. */
export function consentHashOf(compact: string): string {
  return createHash('sha256').update(compact, 'utf8').digest('hex');
}

function parse(compact: string): ParsedJws {
  const jws = parseJws(compact, { typ: CONSENT_JWS_TYPE, maxBytes: MAX_CONSENT_LENGTH });
  if ('fault' in jws) throw malformed(jws.fault === 'size' ? 'length' : `header ${jws.fault}`);
  return jws;
}

function toWire(claims: ConsentClaims): Record<string, unknown> {
  return {
    v: 1,
    iss: claims.writer,
    seq: claims.seq,
    jti: claims.consentId,
    patient: claims.patientKeys,
    status: claims.status,
    provision: claims.provision,
    iat: claims.issuedAtEpochMs / 1000,
    nbf: claims.validFromEpochMs / 1000,
    exp: claims.validUntilEpochMs / 1000,
    basis: claims.basis,
    clerk: claims.clerk,
    form: claims.formHash,
    causes: claims.causes,
  };
}

const malformed = (claim: string): MeshError =>
  new MeshError('INVALID_ARGUMENT', 'CONSENT_MALFORMED', `This is not a consent statement that Meridian understands (${claim}).`);
const read = claimReader(malformed);

function fromWire(compact: string, jws: ParsedJws): ConsentStatement {
  const claims = parseJsonObject(jws.payload);
  if (claims === undefined) throw malformed('payload');
  if (claims['v'] !== 1) throw malformed('v');
  const statement: ConsentStatement = {
    hash: consentHashOf(compact),
    compact,
    writer: nodeIdOf(claims['iss'], 'iss'),
    seq: read.wholeNumber(claims['seq'], 'seq', 1),
    consentId: read.text(claims['jti'], 'jti', 64),
    patientKeys: patientKeysOf(claims['patient']),
    status: oneOf(claims['status'], ['active', 'revoked', 'refused'], 'status'),
    provision: provisionOf(claims['provision']),
    issuedAtEpochMs: read.epochMs(claims['iat'], 'iat'),
    validFromEpochMs: read.epochMs(claims['nbf'], 'nbf'),
    validUntilEpochMs: read.epochMs(claims['exp'], 'exp'),
    basis: oneOf(claims['basis'], ['operator-recorded'], 'basis'),
    clerk: read.text(claims['clerk'], 'clerk', 128),
    ...(claims['form'] === undefined ? {} : { formHash: matching(claims['form'], HEX_SHA256, 'form') }),
    causes: read.list(claims['causes'], 'causes', { least: 0, most: 64 }).map((cause) => matching(cause, HEX_SHA256, 'causes')),
  };
  if (statement.validUntilEpochMs <= statement.validFromEpochMs) throw malformed('exp before nbf');
  return statement;
}

const HEX_SHA256 = /^[0-9a-f]{64}$/;
const NODE_ID = /^n-[a-z2-7]{16}$/;
const UID = /^[0-9.]{1,64}$/;

function patientKeysOf(value: unknown): { key: string; epoch: string }[] {
  if (!Array.isArray(value) || value.length < 1 || value.length > 8) throw malformed('patient');
  return value.map((item) => {
    const pair = read.object(item, 'patient', ['key', 'epoch']);
    return { key: matching(pair['key'], /^[A-Za-z0-9_-]{43}$/, 'patient.key'), epoch: read.text(pair['epoch'], 'patient.epoch', 64) };
  });
}

/** A member that is not known here could restrict, so it refuses the whole statement. */
function provisionOf(value: unknown): ConsentProvision {
  const provision = read.object(value, 'provision', [
    'grantee',
    'purposes',
    'modalities',
    'studyDateFrom',
    'studyDateTo',
    'studyInstanceUids',
    'holders',
  ]);
  const list = (name: string, pattern: RegExp): string[] | undefined =>
    provision[name] === undefined
      ? undefined
      : read.list(provision[name], `provision.${name}`, { least: 1, most: 64 }).map((item) => matching(item, pattern, `provision.${name}`));
  const date = (name: string): string | undefined =>
    provision[name] === undefined ? undefined : matching(provision[name], /^[0-9]{8}$/, `provision.${name}`);
  return defined({
    grantee: granteeOf(provision['grantee']),
    purposes: read
      .list(provision['purposes'], 'provision.purposes', { least: 1, most: PURPOSES.length })
      .map((purpose) => oneOf<Purpose>(purpose, PURPOSES, 'provision.purposes')),
    modalities: list('modalities', /^[A-Z0-9_ ]{1,16}$/),
    studyDateFrom: date('studyDateFrom'),
    studyDateTo: date('studyDateTo'),
    studyInstanceUids: list('studyInstanceUids', UID),
    holders: list('holders', NODE_ID) as NodeId[] | undefined,
  });
}

function granteeOf(value: unknown): ConsentProvision['grantee'] {
  const kind = read.object(value, 'provision.grantee')['kind'];
  if (kind === 'any-treating') {
    read.object(value, 'provision.grantee', ['kind']);
    return { kind };
  }
  const grantee = read.object(value, 'provision.grantee', ['kind', 'nodeId']);
  return { kind: oneOf(kind, ['hospital'], 'provision.grantee.kind'), nodeId: nodeIdOf(grantee['nodeId'], 'provision.grantee.nodeId') };
}

function oneOf<T extends string>(value: unknown, allowed: readonly T[], claim: string): T {
  const found = allowed.find((item) => item === value);
  if (found === undefined) throw malformed(claim);
  return found;
}

function nodeIdOf(value: unknown, claim: string): NodeId {
  return matching(value, NODE_ID, claim) as NodeId;
}

function matching(value: unknown, pattern: RegExp, claim: string): string {
  if (typeof value !== 'string' || !pattern.test(value)) throw malformed(claim);
  return value;
}

type Defined<T> = { [K in keyof T]: Exclude<T[K], undefined> };

function defined<T extends object>(record: T): Defined<T> {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as Defined<T>;
}
