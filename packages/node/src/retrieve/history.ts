import type { Purpose } from '@meridian/shared/consent';
import { MeshError } from '@meridian/shared/errors';
import { maskPersonId, type TypedPersonId } from '@meridian/shared/identifiers';
import type { StudyRow } from '../store/rows.ts';
import { coverageAlone, coverageOf, coverageWithoutIndex, type Coverage } from './coverage.ts';
import type { JoinedParts, Mismatch, RetrieveParts } from './ports.ts';
import { remoteStudies, type RemoteStudy } from './remote-studies.ts';
import { byContent, likeHolder } from './same-content.ts';

/** Who asks for a person's history, and what for. */
export interface HistoryRequest {
  readonly personId: TypedPersonId;
  readonly purpose: Purpose;
  /** Pseudonym of the person who asks. */
  readonly subject: string;
}

/** A hospital that has a study. */
export interface HistoryHolder {
  readonly nodeId: string;
  readonly name: string;
  readonly self: boolean;
  readonly version: number;
  /** When its newest version became known here or at the index. */
  readonly receivedAt: number;
}

/** One study in the list, wherever it is. Texts are '' where unknown. */
export interface HistoryStudy {
  readonly studyInstanceUid: string;
  readonly studyDate: string;
  readonly studyTime: string;
  readonly modalities: readonly string[];
  readonly bodyParts: readonly string[];
  /** Known of what is held here alone. */
  readonly description?: string;
  readonly instanceCount: number;
  readonly bytes: number;
  readonly holders: readonly HistoryHolder[];
  readonly held: 'local' | 'copy' | 'partial' | 'no';
  /** Another hospital holds other images under this Study Instance UID: a row of its own, unless this hospital made the study. */
  readonly differs?: boolean;
  /** A copy that is kept and may not be opened: its consent was withdrawn or has run out. */
  readonly locked?: boolean;
  readonly consent: 'allowed' | 'refused' | 'own';
  readonly consentReason?: string;
  readonly mismatch?: readonly Mismatch[];
  readonly progress?: {
    readonly expected: number;
    readonly verified: number;
    readonly bytesExpected: number;
    readonly bytesVerified: number;
  };
}

/** A person's studies in all hospitals, newest first, and who could not be asked. */
export interface HistoryView {
  /** Masked. */
  readonly person: string;
  readonly studies: readonly HistoryStudy[];
  readonly coverage: Coverage;
}

/**
 * A person's studies here and elsewhere. While the index cannot be reached it is what is held here, and the coverage says so.
 * @throws MeshError RESOURCE_EXHAUSTED / AUDIT_UNWRITABLE: a query that cannot be logged is not answered.
 */
export async function patientHistory(parts: RetrieveParts, request: HistoryRequest): Promise<HistoryView> {
  const local = await parts.store.studies.studiesOfPerson(request.personId);
  const remote = parts.mesh === undefined ? undefined : await askIndex(parts as JoinedParts, request);
  const nowEpochMs = parts.clock.now();
  const coverage =
    parts.mesh === undefined
      ? coverageAlone(parts.hospitalName, nowEpochMs)
      : remote === undefined
        ? coverageWithoutIndex(parts.mesh.federation, nowEpochMs)
        : coverageOf(parts.mesh.federation, remote, remote.answeredAtEpochMs);
  const studies = await merge(parts, local, remote?.studies ?? []);
  await parts.audit.append({
    type: 'QUERY',
    subject: request.subject,
    detail: { purpose: request.purpose, studies: studies.length, asked: coverage.asked, answered: coverage.answered },
  });
  return { person: maskPersonId(request.personId), studies, coverage };
}

async function askIndex(parts: JoinedParts, request: HistoryRequest): Promise<Awaited<ReturnType<typeof remoteStudies>> | undefined> {
  try {
    const patientKeys = await parts.mesh.federation.patientKeys([request.personId]);
    return await remoteStudies(parts, { patientKeys, purpose: request.purpose, subject: request.subject });
  } catch (thrown) {
    if (!(thrown instanceof MeshError) || (thrown.code !== 'UNAVAILABLE' && thrown.code !== 'DEADLINE_EXCEEDED')) throw thrown;
    parts.log.warn({ event: 'retrieve.index-away', reason: thrown.reason });
    return undefined;
  }
}

async function merge(parts: RetrieveParts, local: readonly StudyRow[], remote: readonly RemoteStudy[]): Promise<HistoryStudy[]> {
  const self = parts.mesh?.federation.nodeId;
  const elsewhere = new Map<string, RemoteStudy[]>();
  for (const study of remote) {
    const uid = study.manifest.studyInstanceUid;
    elsewhere.set(uid, [...(elsewhere.get(uid) ?? []), study]);
  }
  const localUids = new Set(local.map((row) => row.studyInstanceUid));
  const here = await Promise.all(local.map((row) => rowsOfLocal(parts, row, elsewhere.get(row.studyInstanceUid) ?? [])));
  // What this hospital advertised is better known from its own store.
  const away = [...elsewhere.entries()]
    .filter(([uid]) => !localUids.has(uid))
    .map(([, studies]) => rowsOfRemote(studies.filter((study) => study.holderNode !== self)));
  return [...here, ...away].flat().sort(newestFirst);
}

/** One row for each content: what two hospitals hold under one UID is merged only where it is the same. */
function rowsOfRemote(studies: readonly RemoteStudy[]): HistoryStudy[] {
  const groups = byContent(studies);
  return groups.map((group) => ({ ...ofRemote(group), ...(groups.length > 1 ? { differs: true } : {}) }));
}

async function rowsOfLocal(parts: RetrieveParts, row: StudyRow, known: readonly RemoteStudy[]): Promise<HistoryStudy[]> {
  const self = parts.mesh?.federation.nodeId;
  const elsewhere = known.filter((study) => study.holderNode !== self);
  if (row.copyOf !== undefined) {
    const { holderNode } = row.copyOf;
    const same = likeHolder(elsewhere, holderNode);
    const others = elsewhere.filter((study) => !same.includes(study));
    const copy = await ofLocal(parts, row, same);
    return others.length === 0
      ? [copy]
      : [{ ...copy, differs: true }, ...rowsOfRemote(others).map((other) => ({ ...other, differs: true }))];
  }
  // An own study is never fetched: others are named beside it, and that they differ is said.
  const like = likeHolder(known, self ?? '');
  const differs = like.length > 0 && elsewhere.some((study) => !like.includes(study));
  return [{ ...(await ofLocal(parts, row, elsewhere)), ...(differs ? { differs } : {}) }];
}

async function ofLocal(parts: RetrieveParts, row: StudyRow, elsewhere: readonly RemoteStudy[]): Promise<HistoryStudy> {
  const isCopy = row.copyOf !== undefined;
  const mismatch = row.linkedPatient === undefined ? [] : parts.patients.compareDemographics(row.linkedPatient, row.patient);
  const progress = isCopy && !row.complete ? await parts.store.fetched.progress(row.studyInstanceUid) : undefined;
  const self: HistoryHolder = {
    nodeId: parts.mesh?.federation.nodeId ?? '',
    name: parts.hospitalName,
    self: true,
    version: row.copyOf?.manifestVersion ?? row.version,
    receivedAt: row.lastReceivedAt,
  };
  const remote = elsewhere.length === 0 ? undefined : ofRemote(elsewhere);
  return {
    studyInstanceUid: row.studyInstanceUid,
    studyDate: row.studyDate,
    studyTime: row.studyTime,
    modalities: row.modalities,
    bodyParts: remote?.bodyParts ?? [],
    ...(row.studyDescription === '' ? {} : { description: row.studyDescription }),
    // Of a copy that is still arriving the whole is told, not the part.
    instanceCount: isCopy && remote !== undefined ? Math.max(remote.instanceCount, row.instanceCount) : row.instanceCount,
    bytes: isCopy && remote !== undefined ? Math.max(remote.bytes, row.bytes) : row.bytes,
    holders: [self, ...(remote?.holders ?? [])],
    held: isCopy ? (row.complete ? 'copy' : 'partial') : 'local',
    ...(row.locked ? { locked: true } : {}),
    ...consentOfLocal(row, isCopy, remote),
    ...(mismatch.length === 0 ? {} : { mismatch }),
    ...(progress === undefined ? {} : { progress }),
  };
}

function consentOfLocal(row: StudyRow, isCopy: boolean, remote: HistoryStudy | undefined): Pick<HistoryStudy, 'consent' | 'consentReason'> {
  if (!isCopy) return { consent: 'own' };
  if (remote?.consent === 'refused')
    return { consent: 'refused', ...(remote.consentReason === undefined ? {} : { consentReason: remote.consentReason }) };
  // A new consent does not open the copy by itself; it lets it be fetched again.
  return row.locked && remote === undefined
    ? { consent: 'refused', consentReason: row.lockReason ?? 'CONSENT_REVOKED' }
    : { consent: 'allowed' };
}

/** @param studies the same study at one or more hospitals; the first that may be fetched speaks for it, else the newest. */
function ofRemote(studies: readonly RemoteStudy[]): HistoryStudy {
  const ordered = [...studies].sort((a, b) => Number(b.allowed) - Number(a.allowed) || b.receivedAtEpochMs - a.receivedAtEpochMs);
  const best = ordered[0]!;
  const { manifest } = best;
  return {
    studyInstanceUid: manifest.studyInstanceUid,
    studyDate: manifest.studyDate,
    studyTime: manifest.studyTime,
    modalities: [...new Set(manifest.series.map((series) => series.modality))].filter((modality) => modality !== ''),
    bodyParts: [...new Set(manifest.series.map((series) => series.bodyPartExamined))].filter((part) => part !== ''),
    instanceCount: manifest.instanceCount,
    bytes: Number(manifest.totalBytes),
    holders: ordered.map((study) => ({
      nodeId: study.holderNode,
      name: study.holderName,
      self: false,
      version: Number(study.manifest.version),
      receivedAt: study.receivedAtEpochMs,
    })),
    held: 'no',
    consent: best.allowed ? 'allowed' : 'refused',
    ...(best.allowed || best.consentReason === '' ? {} : { consentReason: best.consentReason }),
  };
}

function newestFirst(a: HistoryStudy, b: HistoryStudy): number {
  const [left, right] = [a, b].map((study) => `${study.studyDate.padEnd(8, '0')}${study.studyTime}`) as [string, string];
  return left === right ? (a.studyInstanceUid < b.studyInstanceUid ? -1 : 1) : left < right ? 1 : -1;
}
