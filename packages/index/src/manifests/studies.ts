import type { SelectQueryBuilder } from 'kysely';
import type { SignedObject } from '@meridian/shared/generated/meridian/v1/common';
import { ManifestStatus } from '@meridian/shared/generated/meridian/v1/manifest';
import type { NodeId } from '@meridian/shared/identifiers';
import { MANIFEST_TYPE } from '@meridian/shared/manifest';
import type { IndexConnection, IndexTables } from '../tables.ts';

/** Columns of a study's row that queries and grants need. */
export const MANIFEST_COLUMNS = [
  'patient_key',
  'study_instance_uid',
  'custodian_node',
  'study_date',
  'sort_key',
  'modalities',
  'total_bytes',
  'payload',
  'signature',
  'key_id',
  'algorithm',
  'received_at',
] as const;

/** A study's row as {@link MANIFEST_COLUMNS} selects it. */
export type StudyRow = Pick<IndexTables['study'], (typeof MANIFEST_COLUMNS)[number]>;

/** Studies that may be shown and granted: neither rejected nor deleted by their holder. */
export function visibleStudies(connection: IndexConnection): SelectQueryBuilder<IndexTables, 'study', object> {
  return connection
    .selectFrom('study')
    .where('status', 'in', [ManifestStatus.MANIFEST_STATUS_COMPLETE, ManifestStatus.MANIFEST_STATUS_INCOMPLETE]);
}

/**
 * Every patient key (hex) of studies at their holders, whichever of them a request named: a person who is known under two
 * ids may have refused under the other one.
 * @returns keys by {@link studyAt}
 */
export async function patientKeysOfStudies(
  connection: IndexConnection,
  studies: readonly Pick<StudyRow, 'study_instance_uid' | 'custodian_node'>[],
): Promise<ReadonlyMap<string, readonly string[]>> {
  const keys = new Map<string, string[]>(studies.map((study) => [studyAt(study), []]));
  if (studies.length === 0) return keys;
  const uids = new Set(studies.map(({ study_instance_uid }) => study_instance_uid));
  const rows = await connection
    .selectFrom('study')
    .select(['study_instance_uid', 'custodian_node', 'patient_key'])
    .where('study_instance_uid', 'in', [...uids])
    .execute();
  for (const row of rows) keys.get(studyAt(row))?.push(row.patient_key.toString('hex'));
  return keys;
}

/** Names a study at one holder. */
export function studyAt(study: Pick<StudyRow, 'study_instance_uid' | 'custodian_node'>): string {
  return `${study.study_instance_uid} ${study.custodian_node}`;
}

/** The manifest as its node signed it. */
export function signedManifestOf(row: StudyRow): SignedObject {
  return {
    type: MANIFEST_TYPE,
    payload: row.payload,
    signature: row.signature,
    keyId: row.key_id,
    algorithm: row.algorithm as SignedObject['algorithm'],
  };
}

/** What a decision about consent needs of a study. @param patientKeys hex. */
export function scopeOf(
  row: StudyRow,
  patientKeys: readonly string[],
): { studyInstanceUid: string; studyDate: string; modalities: string[]; holderNode: NodeId; patientKeys: readonly string[] } {
  return {
    studyInstanceUid: row.study_instance_uid,
    studyDate: row.study_date,
    modalities: row.modalities === '' ? [] : row.modalities.split(','),
    holderNode: row.custodian_node as NodeId,
    patientKeys,
  };
}
