import { MeshError } from '@meridian/shared/errors';
import { parseSeriesInstanceUid, parseSopInstanceUid, parseStudyInstanceUid } from '@meridian/shared/identifiers';
import type { Coercion } from '../dicom/coerce.ts';
import type { InstanceRow, StudyRow } from '../store/rows.ts';
import type { DicomwebParts } from './parts.ts';

/** UIDs of an address, as the client wrote them. */
export interface ResourceParams {
  readonly study: string;
  readonly series?: string;
  readonly instance?: string;
}

/** Instances that an address names, with their study and what they are served under. */
export interface HeldInstances {
  readonly study: StudyRow;
  readonly coercion: Coercion | undefined;
  /** At least one. */
  readonly instances: readonly InstanceRow[];
}

/** One instance, as {@link HeldInstances}. */
export interface HeldInstance extends HeldInstances {
  readonly instance: InstanceRow;
}

const LOCK_SENTENCES: Readonly<Record<NonNullable<StudyRow['lockReason']>, string>> = {
  CONSENT_REVOKED: 'The consent under which this copy was fetched has been withdrawn. It may not be opened any more.',
  CONSENT_REFUSED: 'The patient refuses that this hospital reads images of others. This copy may not be opened any more.',
  STUDY_RECALLED: 'The hospital that made this study has withdrawn it. This copy is locked; ask that hospital.',
  CONSENT_EXPIRED:
    'The consent under which this copy was fetched has run out. Ask the patient for a new one and fetch the study again: what is here already is not sent twice.',
};

/**
 * The study of an address, if it may be read.
 * @throws MeshError INVALID_ARGUMENT / UID_INVALID; NOT_FOUND / STUDY_UNKNOWN; PERMISSION_DENIED / COPY_LOCKED
 */
export async function heldStudy(parts: DicomwebParts, study: string): Promise<StudyRow> {
  const row = await parts.store.studies.study(parseStudyInstanceUid(study));
  if (row === undefined)
    throw new MeshError(
      'NOT_FOUND',
      'STUDY_UNKNOWN',
      "This node holds no study of this UID. Ask for the patient's history to see who does.",
    );
  if (row.locked) throw new MeshError('PERMISSION_DENIED', 'COPY_LOCKED', LOCK_SENTENCES[row.lockReason ?? 'CONSENT_REVOKED']);
  return row;
}

/** The instances of a study, series or instance address; errors as {@link heldStudy}, and NOT_FOUND / INSTANCES_UNKNOWN. */
export async function heldInstances(parts: DicomwebParts, params: ResourceParams): Promise<HeldInstances> {
  const series = params.series === undefined ? undefined : parseSeriesInstanceUid(params.series);
  const instance = params.instance === undefined ? undefined : parseSopInstanceUid(params.instance);
  const study = await heldStudy(parts, params.study);
  const { studies } = parts.store;
  const instances =
    series !== undefined && instance !== undefined
      ? [await studies.instance(study.studyInstanceUid, series, instance)].filter((row) => row !== undefined)
      : await studies.instancesOf(study.studyInstanceUid, series);
  if (instances.length === 0)
    throw new MeshError('NOT_FOUND', 'INSTANCES_UNKNOWN', 'This node holds the study, but no such series or instance of it.');
  return { study, coercion: parts.coercionFor(study), instances };
}

/** The one instance of an address; errors as {@link heldInstances}. */
export async function heldInstance(
  parts: DicomwebParts,
  params: ResourceParams & { readonly series: string; readonly instance: string },
): Promise<HeldInstance> {
  const held = await heldInstances(parts, params);
  return { ...held, instance: held.instances[0] as InstanceRow };
}
