import { evaluateConsent, readConsent, type ConsentDecision, type ConsentStatement, type Purpose } from '@meridian/shared/consent';
import { MeshError } from '@meridian/shared/errors';
import { PurposeOfUse } from '@meridian/shared/generated/meridian/v1/common';
import type { NodeId } from '@meridian/shared/identifiers';
import type { IndexConnection } from '../tables.ts';

/** A study as the decision sees it. */
export interface StudyScope {
  readonly studyInstanceUid: string;
  readonly studyDate: string;
  readonly modalities: readonly string[];
  readonly holderNode: NodeId;
  /** Hex, of the study itself: only statements that name one of these count for it. */
  readonly patientKeys: readonly string[];
}

/** Statements by patient key (hex). */
export type StatementsByKey = ReadonlyMap<string, readonly ConsentStatement[]>;

/** Every statement that names one of the keys; their signatures were checked when they came in. */
export async function statementsOf(connection: IndexConnection, patientKeys: readonly Buffer[]): Promise<StatementsByKey> {
  if (patientKeys.length === 0) return new Map();
  const rows = await connection
    .selectFrom('consent_patient')
    .innerJoin('consent', 'consent.hash', 'consent_patient.consent_hash')
    .select(['consent_patient.patient_key', 'consent.compact'])
    .where('consent_patient.patient_key', 'in', [...patientKeys])
    .orderBy('consent.received_at')
    .execute();
  const byKey = new Map<string, ConsentStatement[]>();
  for (const { patient_key, compact } of rows) {
    const key = patient_key.toString('hex');
    byKey.set(key, [...(byKey.get(key) ?? []), readConsent(compact)]);
  }
  return byKey;
}

/**
 * What the one evaluator says of a study. A request may name several patient keys, so statements are taken by the keys of
 * the study, never by those of the request: another person's consent opens nothing.
 */
export function decide(input: {
  readonly statements: StatementsByKey;
  readonly study: StudyScope;
  readonly askingNode: NodeId;
  readonly purpose: Purpose;
  readonly atEpochMs: number;
}): ConsentDecision {
  const { study } = input;
  return evaluateConsent({
    statements: study.patientKeys.flatMap((key) => input.statements.get(key) ?? []),
    request: { askingNode: input.askingNode, holderNode: study.holderNode, purpose: input.purpose, study, atEpochMs: input.atEpochMs },
  });
}

/** @throws MeshError INVALID_ARGUMENT / PURPOSE_UNKNOWN */
export function purposeOf(purpose: PurposeOfUse): Purpose {
  switch (purpose) {
    case PurposeOfUse.PURPOSE_OF_USE_TREAT:
      return 'TREAT';
    case PurposeOfUse.PURPOSE_OF_USE_ETREAT:
      return 'ETREAT';
    case PurposeOfUse.PURPOSE_OF_USE_BTG:
      return 'BTG';
    case PurposeOfUse.PURPOSE_OF_USE_PATRQT:
      return 'PATRQT';
    case PurposeOfUse.PURPOSE_OF_USE_HOPERAT:
      return 'HOPERAT';
    default:
      throw new MeshError('INVALID_ARGUMENT', 'PURPOSE_UNKNOWN', 'A purpose of use is needed: TREAT, ETREAT, BTG, PATRQT or HOPERAT.');
  }
}
