import { MeshError } from './errors.ts';
import type { SignedObject } from './generated/meridian/v1/common.ts';
import { InstanceList, ManifestStatus, StudyManifest } from './generated/meridian/v1/manifest.ts';
import { parseSeriesInstanceUid, parseSopInstanceUid, parseStudyInstanceUid, sha256 } from './identifiers.ts';
import { openSigned, signObject, type SigningKey } from './signed-object.ts';

/** Type under which manifests are signed. */
export const MANIFEST_TYPE = 'manifest';

/** What a manifest and its instance list may hold at most. */
export const MANIFEST_LIMITS = {
  payloadBytes: 512 * 1024,
  series: 4096,
  patientKeys: 8,
  patientKeyBytes: 32,
  textLength: 64,
  instances: 200_000,
  instanceListBytes: 256 * 1024 * 1024,
} as const;

/** A manifest with the name of its content. */
export interface OpenManifest {
  readonly manifest: StudyManifest;
  /** SHA-256 over the payload. */
  readonly digest: Buffer;
}

/** Content address of a manifest: SHA-256 over its payload bytes. */
export function manifestDigest(payload: Uint8Array): Buffer {
  return sha256(payload);
}

/** A manifest as its node signs it: none that {@link openManifest} would refuse. @throws MeshError INVALID_ARGUMENT / MANIFEST_MALFORMED */
export function signManifest(manifest: StudyManifest, key: SigningKey): SignedObject {
  checkManifest(manifest);
  const payload = StudyManifest.encode(manifest).finish();
  checkSize(payload);
  return signObject({ type: MANIFEST_TYPE, payload, key });
}

/**
 * A manifest after the check of its signature and of its limits.
 * @param publicKeys raw Ed25519 keys of the custodian node.
 * @throws MeshError UNAUTHENTICATED / SIGNATURE_INVALID, INVALID_ARGUMENT / MANIFEST_MALFORMED
 */
export function openManifest(signed: SignedObject | undefined, publicKeys: readonly Uint8Array[]): OpenManifest {
  if (signed !== undefined) checkSize(signed.payload);
  const payload = openSigned(MANIFEST_TYPE, signed, publicKeys);
  return { manifest: decodeManifest(payload), digest: manifestDigest(payload) };
}

/**
 * A manifest from payload bytes whose signature was checked before (for example those of a row that was checked when it
 * came in).
 * @throws MeshError INVALID_ARGUMENT / MANIFEST_MALFORMED
 */
export function decodeManifest(payload: Uint8Array): StudyManifest {
  let manifest: StudyManifest;
  try {
    manifest = StudyManifest.decode(payload);
  } catch (cause) {
    throw malformed('its bytes are no StudyManifest', cause);
  }
  checkManifest(manifest);
  return manifest;
}

/** SHA-256 over an encoded InstanceList: what the manifest's `instanceListSha256` holds. */
export function instanceListDigest(listBytes: Uint8Array): Buffer {
  return sha256(listBytes);
}

/** The instance list as bytes, in the order that the manifest binds: by series UID, then SOP Instance UID. */
export function encodeInstanceList(list: InstanceList): Buffer {
  const instances = [...list.instances].sort(byUids);
  return Buffer.from(InstanceList.encode({ ...list, instances }).finish());
}

/**
 * The instance list that a manifest binds.
 * @throws MeshError DATA_LOSS / INSTANCE_LIST_MISMATCH when these are other bytes than the manifest binds,
 *   INVALID_ARGUMENT / INSTANCE_LIST_MALFORMED when they are, and say nonsense.
 */
export function openInstanceList(listBytes: Uint8Array, manifest: StudyManifest): InstanceList {
  if (listBytes.length > MANIFEST_LIMITS.instanceListBytes)
    throw listMalformed(`it is larger than ${MANIFEST_LIMITS.instanceListBytes} bytes`);
  if (!instanceListDigest(listBytes).equals(manifest.instanceListSha256)) {
    throw new MeshError(
      'DATA_LOSS',
      'INSTANCE_LIST_MISMATCH',
      'The instance list is not the one that the holder signed. Ask the holder again.',
    );
  }
  let list: InstanceList;
  try {
    list = InstanceList.decode(listBytes);
  } catch (cause) {
    throw listMalformed('its bytes are no InstanceList', cause);
  }
  checkInstanceList(list, manifest);
  return list;
}

function checkInstanceList(list: InstanceList, manifest: StudyManifest): void {
  if (list.instances.length > MANIFEST_LIMITS.instances) throw listMalformed(`it names more than ${MANIFEST_LIMITS.instances} instances`);
  if (list.instances.length !== manifest.instanceCount) throw listMalformed('it names another number of instances than the manifest');
  let totalBytes = 0n;
  for (const [place, entry] of list.instances.entries()) {
    const before = list.instances[place - 1];
    if (before !== undefined && byUids(before, entry) >= 0) throw listMalformed('it is out of order, or names an instance twice');
    parseSeriesInstanceUid(entry.seriesInstanceUid);
    parseSopInstanceUid(entry.sopInstanceUid);
    if (entry.sha256.length !== 32) throw listMalformed('an instance has no digest');
    totalBytes += entry.bytes;
  }
  if (totalBytes !== manifest.totalBytes) throw listMalformed('its bytes do not add up to those of the manifest');
}

function checkSize(payload: Uint8Array): void {
  if (payload.length > MANIFEST_LIMITS.payloadBytes) throw malformed(`it is larger than ${MANIFEST_LIMITS.payloadBytes} bytes`);
}

function checkManifest(manifest: StudyManifest): void {
  parseStudyInstanceUid(manifest.studyInstanceUid);
  if (manifest.version < 1n || manifest.version > BigInt(Number.MAX_SAFE_INTEGER)) throw malformed('its version is not a number from 1 on');
  const statuses: readonly number[] = [
    ManifestStatus.MANIFEST_STATUS_COMPLETE,
    ManifestStatus.MANIFEST_STATUS_INCOMPLETE,
    ManifestStatus.MANIFEST_STATUS_REJECTED,
    ManifestStatus.MANIFEST_STATUS_DELETED,
  ];
  if (!statuses.includes(manifest.status)) throw malformed('its status is none of those known');
  if (manifest.patientKeys.length > MANIFEST_LIMITS.patientKeys)
    throw malformed(`it names more than ${MANIFEST_LIMITS.patientKeys} patient keys`);
  for (const { key, epoch } of manifest.patientKeys) {
    if (key.length !== MANIFEST_LIMITS.patientKeyBytes || !isShort(epoch) || epoch === '')
      throw malformed('a patient key is not 32 bytes with an epoch');
  }
  if (manifest.totalBytes > BigInt(Number.MAX_SAFE_INTEGER)) throw malformed('it claims more bytes than can be');
  if (manifest.instanceListSha256.length !== 32) throw malformed('it binds no instance list');
  if (![manifest.studyDate, manifest.studyTime, manifest.timezoneOffset].every(isShort)) throw malformed('a date or time is too long');
  if (manifest.series.length > MANIFEST_LIMITS.series) throw malformed(`it names more than ${MANIFEST_LIMITS.series} series`);
  for (const series of manifest.series) {
    parseSeriesInstanceUid(series.seriesInstanceUid);
    if (![series.modality, series.bodyPartExamined, series.laterality].every(isShort))
      throw malformed('a series has a text that is too long');
  }
}

/** By series UID, then SOP Instance UID, compared by code unit. */
function byUids(
  a: { readonly seriesInstanceUid: string; readonly sopInstanceUid: string },
  b: { readonly seriesInstanceUid: string; readonly sopInstanceUid: string },
): number {
  return compare(a.seriesInstanceUid, b.seriesInstanceUid) || compare(a.sopInstanceUid, b.sopInstanceUid);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function isShort(text: string): boolean {
  return text.length <= MANIFEST_LIMITS.textLength;
}

function malformed(why: string, cause?: unknown): MeshError {
  return new MeshError('INVALID_ARGUMENT', 'MANIFEST_MALFORMED', `The manifest cannot be taken: ${why}.`, { cause });
}

function listMalformed(why: string, cause?: unknown): MeshError {
  return new MeshError('INVALID_ARGUMENT', 'INSTANCE_LIST_MALFORMED', `The instance list cannot be taken: ${why}.`, { cause });
}
