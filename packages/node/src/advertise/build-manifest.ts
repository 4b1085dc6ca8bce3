import { MANIFEST_LIMITS, encodeInstanceList, instanceListDigest } from '@meridian/shared/manifest';
import type { PatientKey } from '@meridian/shared/generated/meridian/v1/common';
import {
  ManifestStatus,
  type InstanceEntry,
  type SeriesSummary,
  type StudyManifest,
} from '@meridian/shared/generated/meridian/v1/manifest';
import type { NodeId, StudyInstanceUid } from '@meridian/shared/identifiers';
import type { Store } from '../store/store.ts';

/** A code string has 16 characters of one byte (PS3.5 6.2); more in each of thousands of series would not fit a manifest. */
const CODE_STRING_BYTES = 16;

/** What a manifest says beside what the archive holds. */
export interface ManifestFacts {
  readonly studyInstanceUid: StudyInstanceUid;
  readonly custodianNode: NodeId;
  readonly version: number;
  /** Whether the change that is announced says so; only then, and only where nothing has come since, the manifest does. */
  readonly isComplete: boolean;
  /** Version of the archive that the change is about; 0 where it is about none. */
  readonly ofVersion: number;
  readonly patientKeys: readonly PatientKey[];
  readonly issuedAtEpochMs: number;
}

/**
 * The manifest of a study as the archive holds it now, with the encoded instance list that it binds.
 * @returns undefined where the archive holds no instance of it.
 */
export async function buildManifest(
  store: Pick<Store, 'database'>,
  facts: ManifestFacts,
): Promise<{ manifest: StudyManifest; list: Buffer } | undefined> {
  // One transaction: the list and the sums must be of the same moment.
  const held = await store.database.read.transaction().execute(async (transaction) => {
    const study = await transaction
      .selectFrom('study')
      .select(['pk', 'version', 'arriving', 'study_date', 'study_time', 'timezone_offset'])
      .where('study_instance_uid', '=', facts.studyInstanceUid)
      .executeTakeFirst();
    if (study === undefined) return undefined;
    const series = await transaction
      .selectFrom('series')
      .select(['pk', 'series_instance_uid', 'modality', 'body_part_examined', 'series_number', 'laterality'])
      .where('study_pk', '=', study.pk)
      .execute();
    const instances = await transaction
      .selectFrom('instance')
      .select([
        'series_pk',
        'sop_instance_uid',
        'sop_class_uid',
        'transfer_syntax_uid',
        'bytes',
        'sha256',
        'pixel_sha256',
        'chunk_sha256',
        'instance_number',
      ])
      .where('study_pk', '=', study.pk)
      .execute();
    return { study, series, instances };
  });
  if (held === undefined || held.instances.length === 0) return undefined;
  const { study, series, instances } = held;
  const uidOf = new Map(series.map((row) => [row.pk, row.series_instance_uid]));
  const entries = instances.map((row): InstanceEntry => ({
    seriesInstanceUid: uidOf.get(row.series_pk) ?? '',
    sopInstanceUid: row.sop_instance_uid,
    sopClassUid: row.sop_class_uid,
    transferSyntaxUid: row.transfer_syntax_uid,
    bytes: BigInt(row.bytes),
    sha256: Buffer.from(row.sha256),
    pixelSha256: Buffer.from(row.pixel_sha256 ?? []),
    instanceNumber: int32(row.instance_number),
    chunkSha256: Buffer.from(row.chunk_sha256 ?? []),
  }));
  const counts = new Map<number, number>();
  for (const { series_pk: pk } of instances) counts.set(pk, (counts.get(pk) ?? 0) + 1);
  const summaries = series
    .filter(({ pk }) => counts.has(pk))
    .map((row): SeriesSummary => ({
      seriesInstanceUid: row.series_instance_uid,
      modality: cut(row.modality, CODE_STRING_BYTES),
      bodyPartExamined: cut(row.body_part_examined, CODE_STRING_BYTES),
      instanceCount: counts.get(row.pk) ?? 0,
      seriesNumber: Math.max(0, int32(row.series_number)),
      laterality: cut(row.laterality, CODE_STRING_BYTES),
    }));
  // An instance that came after the version was closed is in the list already, and more may follow.
  const isComplete = facts.isComplete && study.arriving === 0 && (facts.ofVersion === 0 || facts.ofVersion === study.version);
  const list = encodeInstanceList({ instances: entries });
  const manifest: StudyManifest = {
    studyInstanceUid: facts.studyInstanceUid,
    custodianNode: facts.custodianNode,
    version: BigInt(facts.version),
    status: isComplete ? ManifestStatus.MANIFEST_STATUS_COMPLETE : ManifestStatus.MANIFEST_STATUS_INCOMPLETE,
    patientKeys: facts.patientKeys.slice(0, MANIFEST_LIMITS.patientKeys),
    studyDate: cut(study.study_date, MANIFEST_LIMITS.textLength),
    studyTime: cut(study.study_time, MANIFEST_LIMITS.textLength),
    timezoneOffset: cut(study.timezone_offset, MANIFEST_LIMITS.textLength),
    series: summaries.sort((a, b) => (a.seriesInstanceUid < b.seriesInstanceUid ? -1 : 1)),
    instanceCount: entries.length,
    totalBytes: entries.reduce((sum, entry) => sum + entry.bytes, 0n),
    instanceListSha256: instanceListDigest(list),
    issuedAtEpochMs: BigInt(facts.issuedAtEpochMs),
    isCopy: false,
  };
  return { manifest, list };
}

/** Texts from images may be of any length; the contract's are not. Counts bytes, and cuts between characters. */
function cut(text: string, maxBytes: number): string {
  return text.slice(0, new TextEncoder().encodeInto(text, new Uint8Array(maxBytes)).read);
}

/** IS holds what a file said; the contract's field is 32 bits. */
function int32(value: number | null): number {
  return value !== null && Number.isInteger(value) && Math.abs(value) < 2 ** 31 ? value : 0;
}
