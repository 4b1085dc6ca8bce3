import { asMeshError, MeshError } from '@meridian/shared/errors';
import type { PatientKey } from '@meridian/shared/generated/meridian/v1/common';
import { PurposeOfUse } from '@meridian/shared/generated/meridian/v1/common';
import { ManifestStatus, type StudyManifest } from '@meridian/shared/generated/meridian/v1/manifest';
import { ConsentOutlook, type HistoryEntry, type NodeCoverage } from '@meridian/shared/generated/meridian/v1/query';
import type { Purpose } from '@meridian/shared/consent';
import type { NodeId } from '@meridian/shared/identifiers';
import { openManifest } from '@meridian/shared/manifest';
import { signingKeysOf } from '@meridian/shared/trust-list';
import { HISTORY_DEADLINE_MS, HISTORY_PAGE_SIZE, MAX_HISTORY_PAGES } from './limits.ts';
import type { JoinedParts } from './ports.ts';

/** A study as one holder signed for it. */
export interface RemoteStudy {
  readonly manifest: StudyManifest;
  readonly holderNode: NodeId;
  readonly holderName: string;
  readonly receivedAtEpochMs: number;
  readonly allowed: boolean;
  /** Why a grant would be refused now; empty where it would not. */
  readonly consentReason: string;
}

/** What the index knows of a person. */
export interface RemoteAnswer {
  readonly studies: readonly RemoteStudy[];
  readonly coverage: readonly NodeCoverage[];
  /** Members with an entry whose signature does not hold here: not everything that they announced is among the studies. */
  readonly unverified: ReadonlySet<string>;
  readonly answeredAtEpochMs: number;
}

/** The purpose as the wire names it. */
export function purposeOfUse(purpose: Purpose): PurposeOfUse {
  return PurposeOfUse[`PURPOSE_OF_USE_${purpose}`];
}

/**
 * Every study that the index knows under these keys, each manifest checked by its holder's signature.
 * @throws MeshError UNAVAILABLE / INDEX_UNREACHABLE, DEADLINE_EXCEEDED / INDEX_TIMEOUT and what the index refuses.
 */
export async function remoteStudies(
  parts: JoinedParts,
  query: { patientKeys: readonly PatientKey[]; purpose: Purpose; subject: string; signal?: AbortSignal | undefined },
): Promise<RemoteAnswer> {
  const { channel } = parts.mesh.federation;
  const studies: RemoteStudy[] = [];
  const unverified = new Set<string>();
  let pageToken = '';
  for (let page = 0; page < MAX_HISTORY_PAGES; page += 1) {
    const answer = await channel.call(
      'query',
      'patientHistory',
      {
        patientKeys: [...query.patientKeys],
        purposeOfUse: purposeOfUse(query.purpose),
        subject: query.subject,
        pageToken,
        pageSize: HISTORY_PAGE_SIZE,
      },
      { deadlineMs: HISTORY_DEADLINE_MS, signal: query.signal },
    );
    for (const entry of answer.entries) {
      const study = openEntry(parts, entry, unverified);
      if (study !== undefined) studies.push(study);
    }
    pageToken = answer.nextPageToken;
    if (pageToken === '') return { studies, unverified, coverage: answer.coverage, answeredAtEpochMs: Number(answer.answeredAtEpochMs) };
  }
  throw new MeshError(
    'RESOURCE_EXHAUSTED',
    'HISTORY_TOO_LONG',
    `This person has more than ${HISTORY_PAGE_SIZE * MAX_HISTORY_PAGES} studies. The operator of the index must look at this record.`,
  );
}

/** @returns undefined for a manifest that is withdrawn, or that its holder did not sign: the index is not believed alone. */
function openEntry(parts: JoinedParts, entry: HistoryEntry, unverified: Set<string>): RemoteStudy | undefined {
  const holder = parts.mesh.federation.entryOf(entry.custodianNode as NodeId);
  try {
    if (holder === undefined) throw new MeshError('FAILED_PRECONDITION', 'PEER_NOT_LISTED', 'the holder is not on the trust list');
    // A key that was replaced vouches for what the index had taken before.
    const { manifest } = openManifest(entry.manifest, signingKeysOf(holder, Number(entry.receivedAtEpochMs)));
    if (manifest.custodianNode !== entry.custodianNode)
      throw new MeshError('DATA_LOSS', 'MANIFEST_FOREIGN', 'the manifest names another holder');
    if (manifest.status === ManifestStatus.MANIFEST_STATUS_DELETED || manifest.status === ManifestStatus.MANIFEST_STATUS_REJECTED)
      return undefined;
    return {
      manifest,
      holderNode: holder.nodeId as NodeId,
      holderName: holder.name,
      receivedAtEpochMs: Number(entry.receivedAtEpochMs),
      allowed: entry.consent === ConsentOutlook.CONSENT_OUTLOOK_ALLOWED,
      consentReason: entry.consentReason,
    };
  } catch (thrown) {
    unverified.add(entry.custodianNode);
    parts.log.warn({ event: 'retrieve.manifest-refused', nodeId: entry.custodianNode, reason: asMeshError(thrown).reason });
    return undefined;
  }
}
