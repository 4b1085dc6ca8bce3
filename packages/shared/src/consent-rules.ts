import type { NodeId } from './identifiers.ts';

/** HL7 v3 ActReason codes that the mesh knows. */
export const PURPOSES = ['TREAT', 'ETREAT', 'BTG', 'PATRQT', 'HOPERAT'] as const;
/** One HL7 v3 ActReason code. */
export type Purpose = (typeof PURPOSES)[number];

/** Who may do what with which studies. A list that is absent does not restrict. */
export interface ConsentProvision {
  readonly grantee: { readonly kind: 'hospital'; readonly nodeId: NodeId } | { readonly kind: 'any-treating' };
  readonly purposes: readonly Purpose[];
  /** DICOM Modality codes, "CT". */
  readonly modalities?: readonly string[];
  /** First and last Study Date, both included, YYYYMMDD. */
  readonly studyDateFrom?: string;
  readonly studyDateTo?: string;
  readonly studyInstanceUids?: readonly string[];
  /** Nodes that may release. */
  readonly holders?: readonly NodeId[];
}

/** One signed statement of a patient's will, as it was read from its JWS. */
export interface ConsentStatement {
  /** Hex SHA-256 of the compact JWS. */
  readonly hash: string;
  readonly compact: string;
  /** Node that recorded and signed it. */
  readonly writer: NodeId;
  /** Counts up per writer, never reused. */
  readonly seq: number;
  readonly consentId: string;
  readonly patientKeys: readonly { readonly key: string; readonly epoch: string }[];
  readonly status: 'active' | 'revoked' | 'refused';
  readonly provision: ConsentProvision;
  readonly issuedAtEpochMs: number;
  readonly validFromEpochMs: number;
  readonly validUntilEpochMs: number;
  readonly basis: 'operator-recorded';
  readonly clerk: string;
  /** Hex SHA-256 of the signed form, which stays at the recording node. */
  readonly formHash?: string;
  /** Hashes of the statements that the writer had seen. */
  readonly causes: readonly string[];
}

/** What somebody wants to do, at an instant. */
export interface ConsentRequest {
  readonly askingNode: NodeId;
  readonly holderNode: NodeId;
  readonly purpose: Purpose;
  readonly study: {
    readonly studyInstanceUid: string;
    /** YYYYMMDD; empty where the study has none. */
    readonly studyDate: string;
    /** Modalities of all its series. */
    readonly modalities: readonly string[];
  };
  readonly atEpochMs: number;
}

/** Why consent does not carry a request. */
export type ConsentDenial = 'NO_CONSENT' | 'CONSENT_REVOKED' | 'CONSENT_EXPIRED' | 'CONSENT_OUT_OF_SCOPE' | 'CONSENT_REFUSED';

/** The evaluator's answer, with the statement that decided. */
export type ConsentDecision =
  | { readonly allow: true; readonly basis: ConsentStatement }
  | { readonly allow: false; readonly reason: ConsentDenial; readonly statement?: ConsentStatement };

/**
 * The one decision about consent: enforces at the index and at the holder, explains and simulates.
 * - A revocation or refusal is final for its consent id.
 * - Concurrent versions of one consent must all cover the request: the narrower wins.
 * - Another consent's refusal that covers the request wins, unless the consent was given by somebody who had seen it.
 * @param input.statements verified statements of one patient, in any order, repeated ones allowed.
 */
export function evaluateConsent(input: {
  readonly statements: readonly ConsentStatement[];
  readonly request: ConsentRequest;
}): ConsentDecision {
  const { request } = input;
  const known = new Map(input.statements.map((statement) => [statement.hash, statement]));
  const statements = [...known.values()].sort(newestFirst);
  const precedes = causality(known);
  const refusals = statements.filter(
    (refusal) =>
      refusal.status === 'refused' &&
      inForce(refusal, request.atEpochMs) &&
      concerns(refusal.provision, request) &&
      !isWithdrawn(refusal, statements, precedes),
  );

  const denials: { reason: ConsentDenial; statement: ConsentStatement }[] = [];
  for (const [consentId, own] of groupById(statements)) {
    const heads = headsOf(own, precedes);
    if (heads.length === 0) {
      const ended = own.find((statement) => statement.status === 'revoked' && covers(statement.provision, request));
      if (ended !== undefined) denials.push({ reason: 'CONSENT_REVOKED', statement: ended });
      continue;
    }
    const verdict = verdictOf(own, heads, request);
    if (verdict.reason !== undefined) {
      denials.push({ reason: verdict.reason, statement: verdict.statement });
      continue;
    }
    const refusal = refusals.find((candidate) => candidate.consentId !== consentId && !heads.every((head) => precedes(candidate, head)));
    if (refusal === undefined) return { allow: true, basis: verdict.statement };
  }
  const refusal = refusals[0];
  if (refusal !== undefined) return { allow: false, reason: 'CONSENT_REFUSED', statement: refusal };
  for (const reason of DENIALS_BY_WEIGHT) {
    const denial = denials.find((candidate) => candidate.reason === reason);
    if (denial !== undefined) return { allow: false, ...denial };
  }
  return { allow: false, reason: 'NO_CONSENT' };
}

/** True where an active statement's provision carries the whole request: every modality, a known date inside the range. */
export function covers(provision: ConsentProvision, request: ConsentRequest): boolean {
  const { study } = request;
  const { modalities, studyDateFrom, studyDateTo } = provision;
  if (!addresses(provision, request)) return false;
  if (modalities !== undefined && (study.modalities.length === 0 || !study.modalities.every((modality) => modalities.includes(modality))))
    return false;
  if (studyDateFrom !== undefined && (study.studyDate === '' || study.studyDate < studyDateFrom)) return false;
  return studyDateTo === undefined || (study.studyDate !== '' && study.studyDate <= studyDateTo);
}

/** True where a refusal's provision touches the request: one modality is enough, and so is a date that nobody knows. */
function concerns(provision: ConsentProvision, request: ConsentRequest): boolean {
  const { study } = request;
  const { modalities, studyDateFrom, studyDateTo } = provision;
  if (!addresses(provision, request)) return false;
  if (modalities !== undefined && study.modalities.length > 0 && !study.modalities.some((modality) => modalities.includes(modality)))
    return false;
  if (study.studyDate === '') return true;
  return !(studyDateFrom !== undefined && study.studyDate < studyDateFrom) && !(studyDateTo !== undefined && study.studyDate > studyDateTo);
}

function addresses(provision: ConsentProvision, request: ConsentRequest): boolean {
  if (provision.grantee.kind === 'hospital' && provision.grantee.nodeId !== request.askingNode) return false;
  if (!provision.purposes.includes(request.purpose)) return false;
  if (provision.holders !== undefined && !provision.holders.includes(request.holderNode)) return false;
  return provision.studyInstanceUids === undefined || provision.studyInstanceUids.includes(request.study.studyInstanceUid);
}

const DENIALS_BY_WEIGHT: readonly ConsentDenial[] = ['CONSENT_REFUSED', 'CONSENT_REVOKED', 'CONSENT_EXPIRED', 'CONSENT_OUT_OF_SCOPE'];

function verdictOf(
  own: readonly ConsentStatement[],
  heads: readonly ConsentStatement[],
  request: ConsentRequest,
): { reason?: ConsentDenial; statement: ConsentStatement } {
  const newest = heads[0] as ConsentStatement;
  const uncovered = heads.find((head) => !covers(head.provision, request));
  if (uncovered !== undefined) return { reason: 'CONSENT_OUT_OF_SCOPE', statement: uncovered };
  const refused = own.find((statement) => statement.status === 'refused');
  if (refused !== undefined) return { reason: 'CONSENT_REFUSED', statement: refused };
  const revoked = own.find((statement) => statement.status === 'revoked');
  if (revoked !== undefined) return { reason: 'CONSENT_REVOKED', statement: revoked };
  const early = heads.find((head) => request.atEpochMs < head.validFromEpochMs);
  if (early !== undefined) return { reason: 'CONSENT_OUT_OF_SCOPE', statement: early };
  const late = heads.find((head) => request.atEpochMs >= head.validUntilEpochMs);
  if (late !== undefined) return { reason: 'CONSENT_EXPIRED', statement: late };
  return { statement: newest };
}

/** Active statements of one consent that no other of them supersedes. */
function headsOf(own: readonly ConsentStatement[], precedes: Precedes): ConsentStatement[] {
  const active = own.filter((statement) => statement.status === 'active');
  const heads = active.filter((statement) => !active.some((other) => precedes(statement, other)));
  return heads.length > 0 ? heads : active; // forged causes that run in a circle supersede nothing
}

/** A refusal ends by a revocation under its own id, signed by somebody who had seen it. */
function isWithdrawn(refusal: ConsentStatement, statements: readonly ConsentStatement[], precedes: Precedes): boolean {
  return statements.some((other) => other.status === 'revoked' && other.consentId === refusal.consentId && precedes(refusal, other));
}

function inForce(statement: ConsentStatement, atEpochMs: number): boolean {
  return statement.validFromEpochMs <= atEpochMs && atEpochMs < statement.validUntilEpochMs;
}

type Precedes = (earlier: ConsentStatement, later: ConsentStatement) => boolean;

/** "Had seen": the same writer's earlier numbers, and what a statement names as its causes, and theirs. Clocks play no part. */
function causality(known: ReadonlyMap<string, ConsentStatement>): Precedes {
  const byWriter = new Map<string, ConsentStatement[]>();
  for (const statement of known.values()) byWriter.set(statement.writer, [...(byWriter.get(statement.writer) ?? []), statement]);
  const seenBefore = new Map<string, ReadonlySet<string>>();
  const ancestors = (of: ConsentStatement): ReadonlySet<string> => {
    const cached = seenBefore.get(of.hash);
    if (cached !== undefined) return cached;
    const found = new Set<string>();
    const open = [of];
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      const { seq, causes, writer } = next;
      const ownEarlier = (byWriter.get(writer) ?? []).filter((other) => other.seq < seq).map((other) => other.hash);
      for (const hash of [...causes, ...ownEarlier]) {
        if (found.has(hash)) continue;
        found.add(hash);
        const cause = known.get(hash);
        if (cause !== undefined) open.push(cause);
      }
    }
    seenBefore.set(of.hash, found);
    return found;
  };
  return (earlier, later) => earlier.hash !== later.hash && ancestors(later).has(earlier.hash);
}

function groupById(statements: readonly ConsentStatement[]): Map<string, ConsentStatement[]> {
  const groups = new Map<string, ConsentStatement[]>();
  for (const statement of statements) {
    const group = groups.get(statement.consentId);
    if (group === undefined) groups.set(statement.consentId, [statement]);
    else group.push(statement);
  }
  return groups;
}

function newestFirst(a: ConsentStatement, b: ConsentStatement): number {
  return b.issuedAtEpochMs - a.issuedAtEpochMs || b.seq - a.seq || (a.hash < b.hash ? -1 : 1);
}
