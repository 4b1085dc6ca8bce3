import { MAX_CONSENT_LENGTH, PURPOSES, evaluateConsent, openConsent, readConsent, type ConsentStatement, type Purpose } from './consent.ts';
import { MeshError } from './errors.ts';
import { NodeStatus } from './generated/meridian/v1/trust.ts';
import { parseNodeId, type NodeId } from './identifiers.ts';
import { claimReader, parseJsonObject, parseJws, signJws, verifyJws } from './jws.ts';
import { keyIdOf, type SigningKey } from './signed-object.ts';
import { signingKeysOf, type TrustView } from './trust-list.ts';

/** Explicit type of a grant's JWS header (RFC 8725 3.11). */
export const GRANT_JWS_TYPE = 'meridian-grant+jwt';
/** Longest compact grant, in characters: the embedded consent is encoded a second time. */
export const MAX_GRANT_LENGTH = 2 * MAX_CONSENT_LENGTH;
/** Longest life of a grant, milliseconds. */
export const GRANT_LIFETIME_MS = 300_000;
/** How far two clocks may differ, milliseconds. */
export const CLOCK_TOLERANCE_MS = 30_000;
/** Most studies of one grant. */
export const MAX_GRANT_STUDIES = 16;

/** Claims of a transfer grant; times are NumericDate seconds (RFC 7519). */
export interface GrantClaims {
  readonly iss: string;
  /** Clinician's pseudonym. */
  readonly sub: string;
  readonly role: string;
  /** The one holder node. */
  readonly aud: NodeId;
  /** The requesting node. */
  readonly azp: NodeId;
  /** Proof of possession: the asker's libp2p PeerId (RFC 7800). */
  readonly cnf: { readonly peerId: string };
  readonly studies: readonly string[];
  readonly pou: Purpose;
  /** The consent on which the grant rests, carried whole. */
  readonly cst: { readonly hash: string; readonly seq: number; readonly statement: string };
  /** Cap on the bytes sent under this grant, all streams together. */
  readonly bytes: number;
  readonly iat: number;
  readonly nbf: number;
  readonly exp: number;
  readonly jti: string;
}

/** Why a holder refuses a grant; each check has its own. */
export type GrantDenial =
  | 'GRANT_MALFORMED'
  | 'GRANT_ALG'
  | 'TRUST_LIST_EXPIRED'
  | 'GRANT_ISSUER'
  | 'GRANT_AUDIENCE'
  | 'CLOCK_SKEW'
  | 'GRANT_EXPIRED'
  | 'GRANT_NOT_YET_VALID'
  | 'GRANT_PEER'
  | 'CONSENT_SIGNATURE'
  | 'CONSENT_STALE'
  | 'CONSENT_SCOPE'
  | 'DENIED_BY_HOLDER'
  | 'GRANT_REPLAYED';

/** The holder's decision; `claims` of a refused grant only where its signature held, for the audit. */
export type GrantCheck =
  | { readonly allow: true; readonly grant: GrantClaims; readonly consent: ConsentStatement }
  | { readonly allow: false; readonly reason: GrantDenial; readonly detail?: string; readonly grant?: GrantClaims };

/** What the holder knows for itself; nothing here asks the network. */
export interface GrantCheckInput {
  readonly compact: string;
  /** Epoch milliseconds. */
  readonly now: number;
  /** Raw Ed25519 keys that may sign grants: those of the trust list's head. */
  readonly indexKeys: readonly Uint8Array[];
  readonly self: NodeId;
  /** PeerId of the connection on which the grant was presented, proven by its handshake. */
  readonly livePeerId: string;
  readonly trust: TrustView;
  /** The study that is asked for now; left out, the grant is judged for all its studies. */
  readonly studyInstanceUid?: string;
  /** Every statement known here of the consent's patient, or under its id. */
  readonly knownConsents: (statement: ConsentStatement) => readonly ConsentStatement[];
  /** The hospital's own deny list. */
  readonly denied: (asked: { jti: string; peerId: string; nodeId: NodeId; consentId: string; consentHash: string }) => boolean;
  /** PeerId that presented this jti before, if any. */
  readonly seenJti: (jti: string) => string | undefined;
  readonly studyOf: (studyInstanceUid: string) => HeldStudy | undefined;
}

/** What scope is judged by: the holder's own knowledge of the study, not the asker's. */
export interface HeldStudy {
  readonly modalities: readonly string[];
  /** YYYYMMDD or empty. */
  readonly studyDate: string;
  readonly patientKeys: readonly { readonly key: string; readonly epoch: string }[];
}

/** Signs a grant (index only). @returns the compact JWS (EdDSA). */
export function signGrant(claims: GrantClaims, key: SigningKey): string {
  return signJws(GRANT_JWS_TYPE, { ...claims }, key);
}

/** Claims of a grant, read without any check: for the asker, who trusts the channel on which it came. @throws MeshError INVALID_ARGUMENT / GRANT_MALFORMED */
export function readGrant(compact: string): GrantClaims {
  const jws = parseJws(compact, { typ: GRANT_JWS_TYPE, maxBytes: MAX_GRANT_LENGTH });
  if ('fault' in jws) throw malformed(jws.fault);
  return claimsOf(jws.payload);
}

/**
 * The holder's own check of a grant, offline, in the fixed order of the trust model. Never throws on hostile input.
 * A grant from the index alone is not enough: the consent inside is signed by the node that recorded it.
 */
export function checkGrant(input: GrantCheckInput): GrantCheck {
  const jws = parseJws(input.compact, { typ: GRANT_JWS_TYPE, maxBytes: MAX_GRANT_LENGTH });
  if ('fault' in jws) return deny(jws.fault === 'alg' || jws.fault === 'typ' ? 'GRANT_ALG' : 'GRANT_MALFORMED', jws.fault);
  if (input.trust.expiresAtEpochMs <= input.now) return deny('TRUST_LIST_EXPIRED');
  if (!input.indexKeys.some((key) => keyIdOf(key) === jws.keyId && verifyJws(jws, key))) return deny('GRANT_ISSUER');
  let grant: GrantClaims;
  try {
    grant = claimsOf(jws.payload);
  } catch (error) {
    return deny('GRANT_MALFORMED', (error as Error).message);
  }
  const consent = checkBearer(input, grant) ?? checkConsent(input, grant);
  if ('allow' in consent) return { ...consent, grant };
  const asked = { jti: grant.jti, peerId: input.livePeerId, nodeId: grant.azp, consentId: consent.consentId, consentHash: consent.hash };
  if (input.denied(asked)) return { ...deny('DENIED_BY_HOLDER'), grant };
  const firstPeer = input.seenJti(grant.jti);
  // The clock tolerance is for the first presentation: a grant seen before is over at its expiry.
  if (firstPeer !== undefined && (firstPeer !== input.livePeerId || input.now >= grant.exp * 1000))
    return { ...deny('GRANT_REPLAYED'), grant };
  return { allow: true, grant, consent };
}

/** Audience, time and possession. */
function checkBearer(input: GrantCheckInput, grant: GrantClaims): Denied | undefined {
  const { now, trust } = input;
  if (grant.aud !== input.self) return deny('GRANT_AUDIENCE');
  if (grant.iat * 1000 > now + CLOCK_TOLERANCE_MS)
    return deny('CLOCK_SKEW', `issued ${Math.round(grant.iat - now / 1000)} s ahead of this clock`);
  if (now >= grant.exp * 1000 + CLOCK_TOLERANCE_MS) return deny('GRANT_EXPIRED');
  if (grant.nbf * 1000 > now + CLOCK_TOLERANCE_MS) return deny('GRANT_NOT_YET_VALID');
  const peer = trust.byPeerId(input.livePeerId);
  if (
    grant.cnf.peerId !== input.livePeerId ||
    peer === undefined ||
    peer.nodeId !== grant.azp ||
    peer.status !== NodeStatus.NODE_STATUS_ACTIVE
  )
    return deny('GRANT_PEER');
  return undefined;
}

/** Signature, freshness and scope of the consent inside. */
function checkConsent(input: GrantCheckInput, grant: GrantClaims): Denied | ConsentStatement {
  const consent = consentOf(input, grant);
  if (consent === undefined) return deny('CONSENT_SIGNATURE');
  const known = input.knownConsents(consent);
  const sameId = known.filter((statement) => statement.consentId === consent.consentId);
  const newer = sameId.find(
    (statement) => statement.status !== 'active' || (statement.writer === consent.writer && statement.seq > consent.seq),
  );
  if (newer !== undefined) return deny('CONSENT_STALE', newer.status === 'active' ? 'newer version' : newer.status);

  if (input.studyInstanceUid !== undefined && !grant.studies.includes(input.studyInstanceUid))
    return deny('CONSENT_SCOPE', 'study not in the grant');
  const statements = [consent, ...sameId, ...known.filter((statement) => statement.status !== 'active')];
  for (const studyInstanceUid of input.studyInstanceUid === undefined ? grant.studies : [input.studyInstanceUid]) {
    const study = input.studyOf(studyInstanceUid);
    if (study === undefined) return deny('CONSENT_SCOPE', 'study not held here');
    if (!consent.patientKeys.some((a) => study.patientKeys.some((b) => a.key === b.key && a.epoch === b.epoch)))
      return deny('CONSENT_SCOPE', 'another patient');
    const decision = evaluateConsent({
      statements,
      request: {
        askingNode: grant.azp,
        holderNode: input.self,
        purpose: grant.pou,
        study: { studyInstanceUid, studyDate: study.studyDate, modalities: study.modalities },
        atEpochMs: input.now,
      },
    });
    if (decision.allow) continue;
    if (decision.reason === 'CONSENT_REFUSED') return deny('CONSENT_STALE', 'refused');
    if (decision.reason === 'CONSENT_REVOKED') return deny('CONSENT_STALE', 'revoked');
    return deny('CONSENT_SCOPE', decision.reason);
  }
  return consent;
}

function consentOf(input: GrantCheckInput, grant: GrantClaims): ConsentStatement | undefined {
  try {
    const { writer } = readConsent(grant.cst.statement);
    const entry = input.trust.entries.get(writer);
    if (entry === undefined || entry.status !== NodeStatus.NODE_STATUS_ACTIVE) return undefined;
    const consent = openConsent(grant.cst.statement, signingKeysOf(entry, input.now));
    return consent.status === 'active' && consent.hash === grant.cst.hash && consent.seq === grant.cst.seq ? consent : undefined;
  } catch (error) {
    if (error instanceof MeshError) return undefined;
    throw error;
  }
}

type Denied = Extract<GrantCheck, { allow: false }>;

function deny(reason: GrantDenial, detail?: string): Denied {
  return { allow: false, reason, ...(detail === undefined ? {} : { detail }) };
}

const malformed = (claim: string): MeshError =>
  new MeshError('INVALID_ARGUMENT', 'GRANT_MALFORMED', `This is not a grant that Meridian understands (${claim}).`);
const read = claimReader(malformed);

function claimsOf(payload: Buffer): GrantClaims {
  const claims = parseJsonObject(payload);
  if (claims === undefined) throw malformed('payload');
  const cnf = read.object(claims['cnf'], 'cnf');
  const cst = read.object(claims['cst'], 'cst');
  const pou = PURPOSES.find((purpose) => purpose === claims['pou']);
  if (pou === undefined) throw malformed('pou');
  const grant: GrantClaims = {
    iss: read.text(claims['iss'], 'iss'),
    sub: read.text(claims['sub'], 'sub'),
    role: read.text(claims['role'], 'role', 64),
    aud: parseNodeId(read.text(claims['aud'], 'aud', 64)),
    azp: parseNodeId(read.text(claims['azp'], 'azp', 64)),
    cnf: { peerId: read.text(cnf['peerId'], 'cnf.peerId', 128) },
    studies: read.list(claims['studies'], 'studies', { least: 1, most: MAX_GRANT_STUDIES }),
    pou,
    cst: {
      hash: read.text(cst['hash'], 'cst.hash', 64),
      seq: read.wholeNumber(cst['seq'], 'cst.seq', 1),
      statement: read.text(cst['statement'], 'cst.statement', MAX_CONSENT_LENGTH),
    },
    bytes: read.wholeNumber(claims['bytes'], 'bytes', 1),
    iat: read.epochMs(claims['iat'], 'iat') / 1000,
    nbf: read.epochMs(claims['nbf'], 'nbf') / 1000,
    exp: read.epochMs(claims['exp'], 'exp') / 1000,
    jti: read.text(claims['jti'], 'jti', 64),
  };
  if (grant.exp <= grant.iat || (grant.exp - grant.iat) * 1000 > GRANT_LIFETIME_MS) throw malformed('exp');
  return grant;
}
