import type { ConsentStatement, Purpose } from '@meridian/shared/consent';
import { MeshError } from '@meridian/shared/errors';
import type { PatientKey, SignedObject } from '@meridian/shared/generated/meridian/v1/common';
import { readGrant } from '@meridian/shared/grant';
import type { NodeId, TypedPersonId } from '@meridian/shared/identifiers';
import { decodeManifest } from '@meridian/shared/manifest';
import { signingKeysOf } from '@meridian/shared/trust-list';
import { refusal } from '../transfer/close-reason.ts';
import { fetchStudy as transferStudy, type FetchProgress, type FetchResult } from '../transfer/fetch.ts';
import { basisOf } from './copy-locks.ts';
import type { JoinedParts, Mismatch } from './ports.ts';
import { purposeOfUse, remoteStudies } from './remote-studies.ts';
import { onlyContent } from './same-content.ts';

/** Until people have accounts everybody who may reach the listener is a viewer. */
const ROLE = 'viewer';

/** A study to bring here. */
export interface FetchOrder {
  readonly personId: TypedPersonId;
  readonly studyInstanceUid: string;
  /** Any holder unless given, as long as all hold the same. */
  readonly holderNode?: string;
  /** The local patient it is for; the one that carries the person id unless given. */
  readonly patientId?: string;
  /** Pseudonym of the person who asks. */
  readonly subject: string;
  readonly purpose: Purpose;
}

/** What came, and whether it fits the local patient. */
export interface FetchedStudyView extends FetchResult {
  readonly studyInstanceUid: string;
  readonly holderNode: NodeId;
  /** The local patient under whose id it is served. */
  readonly linkedTo: { readonly patientPk: number; readonly patientId: string };
  /** Shown before the study is opened. */
  readonly mismatch: readonly Mismatch[];
}

/** What a running fetch rests on, once it is known. */
export interface FetchBasis {
  readonly consent: ConsentStatement;
}

/**
 * Consent, grant, transfer, link. Holders are tried in turn; what is here already is not asked for.
 * @param run.onBasis told the consent on which each try rests, before anything is asked of a holder.
 * @throws MeshError NOT_FOUND / STUDY_UNKNOWN, PERMISSION_DENIED / NO_CONSENT…, UNAVAILABLE / INDEX_UNREACHABLE | PEER_…,
 *   FAILED_PRECONDITION / STUDY_HELD_HERE | HOLDERS_DIFFER | COPY_OF_ANOTHER_HOLDER, and those of the transfer.
 */
export async function fetchFromHolders(
  parts: JoinedParts,
  order: FetchOrder,
  run: {
    readonly signal: AbortSignal;
    readonly onProgress: (progress: FetchProgress) => void;
    readonly onBasis: (basis: FetchBasis) => void;
  },
): Promise<FetchedStudyView> {
  const { federation } = parts.mesh;
  const held = await parts.store.studies.study(order.studyInstanceUid);
  if (held !== undefined && held.copyOf === undefined)
    throw new MeshError('FAILED_PRECONDITION', 'STUDY_HELD_HERE', 'This study is this hospital’s own: there is nothing to fetch.');
  const patientKeys = await federation.patientKeys([order.personId], run.signal);
  let failure: MeshError | undefined;
  for (const holderNode of await holdersOf(parts, { order, patientKeys, copyOf: held?.copyOf?.holderNode }, run.signal)) {
    run.signal.throwIfAborted();
    try {
      return await fetchFrom(parts, { order, holderNode, patientKeys }, run);
    } catch (thrown) {
      if (!(thrown instanceof MeshError) || run.signal.aborted || !isAnotherHolderWorth(thrown)) throw thrown;
      // A refusal is an answer, not a fault of this node.
      parts.log[thrown.code === 'PERMISSION_DENIED' ? 'info' : 'warn']({
        event: 'retrieve.holder-failed',
        nodeId: holderNode,
        study: order.studyInstanceUid,
        reason: thrown.reason,
      });
      // A refusal says more than an unreachable hospital.
      if (failure === undefined || failure.code === 'UNAVAILABLE') failure = thrown;
    }
  }
  throw (
    failure ??
    new MeshError('NOT_FOUND', 'STUDY_UNKNOWN', 'No hospital says that it holds this study of this person. Ask for the history again.')
  );
}

/** A fault of one holder, or of the way to it. */
function isAnotherHolderWorth(error: MeshError): boolean {
  return (
    error.reason !== 'INDEX_UNREACHABLE' &&
    [
      'UNAVAILABLE',
      'DEADLINE_EXCEEDED',
      'PERMISSION_DENIED',
      'RESOURCE_EXHAUSTED',
      'DATA_LOSS',
      'NOT_FOUND',
      'FAILED_PRECONDITION',
    ].includes(error.code)
  );
}

async function holdersOf(
  parts: JoinedParts,
  asked: { readonly order: FetchOrder; readonly patientKeys: readonly PatientKey[]; readonly copyOf: string | undefined },
  signal: AbortSignal,
): Promise<NodeId[]> {
  const { order, patientKeys, copyOf } = asked;
  if (order.holderNode !== undefined) return [order.holderNode as NodeId];
  const { studies } = await remoteStudies(parts, { patientKeys, purpose: order.purpose, subject: order.subject, signal });
  const elsewhere = studies.filter(
    (study) => study.manifest.studyInstanceUid === order.studyInstanceUid && study.holderNode !== parts.mesh.federation.nodeId,
  );
  return onlyContent(elsewhere, copyOf)
    .sort((a, b) => Number(b.allowed) - Number(a.allowed))
    .map((study) => study.holderNode);
}

interface OneHolder {
  readonly order: FetchOrder;
  readonly holderNode: NodeId;
  readonly patientKeys: readonly PatientKey[];
}

async function fetchFrom(parts: JoinedParts, from: OneHolder, run: Parameters<typeof fetchFromHolders>[2]): Promise<FetchedStudyView> {
  const { order, holderNode } = from;
  const entry = parts.mesh.federation.entryOf(holderNode);
  if (entry === undefined)
    throw new MeshError(
      'FAILED_PRECONDITION',
      'PEER_NOT_LISTED',
      'That hospital is not an active member on the current trust list. Ask the operator of the network.',
    );
  const { grant, manifest } = await askGrant(parts, from, run.signal);
  // Kept, so that a later withdrawal finds what rests on it.
  const consent = await parts.mesh.consent.receive(readGrant(grant).cst.statement);
  // First the basis, then the look: a withdrawal that comes in between ends the run by its signal.
  run.onBasis({ consent });
  await refuseIfWithdrawn(parts, consent);
  // Only now: a fetch that is refused makes no patient.
  const patient = await parts.patients.localPatientFor(order.personId, order.patientId === undefined ? {} : { patientId: order.patientId });
  const result = await transferStudy({
    peerHost: parts.mesh.peerHost,
    store: parts.store,
    audit: parts.audit,
    clock: parts.clock,
    log: parts.log,
    grant,
    renewGrant: (signal) => renewGrant(parts, from, { ...run, signal }),
    manifest,
    holderKeys: signingKeysOf(entry, parts.clock.now()),
    holderNode,
    studyInstanceUid: order.studyInstanceUid,
    localPatientPk: patient.pk,
    consentHash: consent.hash,
    signal: run.signal,
    onProgress: run.onProgress,
  });
  const stored = await parts.store.studies.study(order.studyInstanceUid);
  const mismatch = stored === undefined ? [] : parts.patients.compareDemographics(patient, stored.patient);
  return {
    ...result,
    studyInstanceUid: order.studyInstanceUid,
    holderNode,
    linkedTo: { patientPk: patient.pk, patientId: patient.patientId },
    mismatch,
  };
}

/** A grant in place of the one that runs out. The consent that it rests on is what the fetch and the copy rest on from now on. */
async function renewGrant(parts: JoinedParts, from: OneHolder, run: Parameters<typeof fetchFromHolders>[2]): Promise<string> {
  const { grant } = await askGrant(parts, from, run.signal);
  const consent = await parts.mesh.consent.receive(readGrant(grant).cst.statement);
  run.onBasis({ consent });
  await refuseIfWithdrawn(parts, consent);
  await parts.store.fetched.rest(from.order.studyInstanceUid, basisOf(consent));
  return grant;
}

async function askGrant(
  parts: JoinedParts,
  { order, holderNode, patientKeys }: OneHolder,
  signal: AbortSignal,
): Promise<{ grant: string; manifest: SignedObject }> {
  try {
    const answer = await parts.mesh.federation.channel.call(
      'grants',
      'issueGrant',
      {
        patientKeys: [...patientKeys],
        holderNode,
        studyInstanceUids: [order.studyInstanceUid],
        purposeOfUse: purposeOfUse(order.purpose),
        subject: order.subject,
        role: ROLE,
      },
      { signal },
    );
    const manifest = answer.manifests.find(({ payload }) => decodeManifest(payload).studyInstanceUid === order.studyInstanceUid);
    if (answer.grant === undefined || manifest === undefined)
      throw new MeshError('INTERNAL', 'GRANT_INCOMPLETE', 'The index answered without a grant. Its operator must look at it.');
    return { grant: answer.grant.compact, manifest };
  } catch (thrown) {
    if (!(thrown instanceof MeshError) || thrown.code !== 'PERMISSION_DENIED') throw thrown;
    await parts.audit.append({
      type: 'DENY',
      study: order.studyInstanceUid,
      peer: holderNode,
      subject: order.subject,
      reason: thrown.reason,
      detail: { purpose: order.purpose },
    });
    throw refusal(thrown.reason);
  }
}

/** What is known here of a withdrawal counts, even where the index has not heard of it. */
async function refuseIfWithdrawn(parts: JoinedParts, consent: ConsentStatement): Promise<void> {
  const known = await parts.mesh.consent.related(consent.hash);
  const withdrawn = known.find((statement) => statement.consentId === consent.consentId && statement.status !== 'active');
  if (withdrawn !== undefined) throw refusal(withdrawn.status === 'revoked' ? 'CONSENT_REVOKED' : 'CONSENT_REFUSED');
}
