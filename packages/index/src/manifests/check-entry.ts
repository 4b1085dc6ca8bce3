import { MeshError } from '@meridian/shared/errors';
import { ManifestStatus, StudyManifest, type FeedEntry } from '@meridian/shared/generated/meridian/v1/manifest';
import { StudyRecall } from '@meridian/shared/generated/meridian/v1/push';
import type { SignedObject } from '@meridian/shared/generated/meridian/v1/common';
import { openManifest } from '@meridian/shared/manifest';
import { signingKeysOf } from '@meridian/shared/trust-list';
import type { Caller } from '../registry/caller.ts';
import type { ManifestEntry } from './store-group-job.ts';

/**
 * A feed entry whose manifest was signed by the calling node and speaks of that node alone.
 * @throws MeshError UNAUTHENTICATED / SIGNATURE_INVALID, INVALID_ARGUMENT / MANIFEST_MALFORMED, PERMISSION_DENIED / FOREIGN_CUSTODIAN
 */
export function checkEntry(entry: FeedEntry, caller: Caller, nowEpochMs: number): ManifestEntry {
  const signed = entry.manifest;
  // By the index's clock, not by the time that the manifest names: a key that was replaced signs nothing new.
  const { manifest, digest } = openManifest(signed, signingKeysOf(caller.entry, nowEpochMs));
  if (manifest.custodianNode !== caller.nodeId) {
    throw new MeshError('PERMISSION_DENIED', 'FOREIGN_CUSTODIAN', 'A node may advertise its own studies only.');
  }
  const { payload, signature, keyId, algorithm } = signed as SignedObject;
  const studyDate = /^\d{8}$/.test(manifest.studyDate) ? manifest.studyDate : '';
  return {
    seq: Number(entry.seq),
    studyInstanceUid: manifest.studyInstanceUid,
    version: Number(manifest.version),
    status: manifest.status,
    patientKeys: uniqueKeys(manifest),
    studyDate,
    sortKey: studyDate === '' ? '' : `${studyDate}${/^\d{2,6}/.exec(manifest.studyTime)?.[0].padEnd(6, '0') ?? '000000'}`,
    modalities: [
      ...new Set(manifest.series.map(({ modality }) => modality).filter((modality) => modality !== '' && !modality.includes(','))),
    ]
      .sort()
      .join(','),
    instanceCount: manifest.instanceCount,
    totalBytes: Number(manifest.totalBytes),
    payload,
    signature,
    keyId,
    algorithm,
    digest,
    recall: isWithdrawn(manifest) ? recallOf(manifest, signed as SignedObject) : undefined,
  };
}

function uniqueKeys(manifest: StudyManifest): Buffer[] {
  return [...new Map(manifest.patientKeys.map(({ key }) => [key.toString('hex'), key])).values()];
}

function isWithdrawn({ status }: StudyManifest): boolean {
  return status === ManifestStatus.MANIFEST_STATUS_REJECTED || status === ManifestStatus.MANIFEST_STATUS_DELETED;
}

function recallOf(manifest: StudyManifest, signed: SignedObject): Buffer {
  return Buffer.from(
    StudyRecall.encode({ studyInstanceUid: manifest.studyInstanceUid, custodianNode: manifest.custodianNode, manifest: signed }).finish(),
  );
}
