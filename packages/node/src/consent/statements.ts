import type { Kysely } from 'kysely';
import { readConsent, type ConsentStatement } from '@meridian/shared/consent';
import type { PatientKey } from '@meridian/shared/generated/meridian/v1/common';
import type { ConsentDatabase, ConsentSchema } from './consent-tables.ts';

/** A patient key as statements write it. */
export interface StatedPatientKey {
  /** base64url, 32 bytes. */
  readonly key: string;
  readonly epoch: string;
}

/** Patient keys as statements write them. */
export function statedKeys(keys: readonly PatientKey[]): StatedPatientKey[] {
  return keys.map(({ key, epoch }) => ({ key: Buffer.from(key).toString('base64url'), epoch }));
}

/** Keeps a verified statement. @returns whether it was new. */
export async function insertStatement(
  database: Kysely<ConsentSchema>,
  statement: ConsentStatement,
  receivedEpochMs: number,
): Promise<boolean> {
  const { hash, compact, writer, seq, consentId, status } = statement;
  const result = await database
    .insertInto('consent_statement')
    .values({ hash, compact, writer, seq, consent_id: consentId, status, received_epoch_ms: receivedEpochMs })
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  if ((result.numInsertedOrUpdatedRows ?? 0n) === 0n) return false;
  const rows = statement.patientKeys.map(({ key, epoch }) => ({ patient_key: key, epoch, hash }));
  await database
    .insertInto('consent_patient')
    .values(rows)
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  return true;
}

/** Every statement of a patient, and every one under the same consent ids, in the order in which they came. */
export async function statementsOf(
  database: ConsentDatabase,
  keys: readonly StatedPatientKey[],
  consentIds: readonly string[] = [],
): Promise<ConsentStatement[]> {
  const byHash = new Map<string, { compact: string; received_epoch_ms: number }>();
  if (keys.length > 0) {
    const rows = await database.read
      .selectFrom('consent_patient')
      .innerJoin('consent_statement', 'consent_statement.hash', 'consent_patient.hash')
      .select(['consent_statement.hash', 'compact', 'received_epoch_ms', 'patient_key', 'epoch', 'consent_id'])
      .where(
        'patient_key',
        'in',
        keys.map(({ key }) => key),
      )
      .execute();
    for (const row of rows) if (keys.some(({ key, epoch }) => key === row.patient_key && epoch === row.epoch)) byHash.set(row.hash, row);
  }
  const ids = new Set(consentIds);
  for (const { compact } of byHash.values()) ids.add(readConsent(compact).consentId);
  if (ids.size > 0) {
    const rows = await database.read
      .selectFrom('consent_statement')
      .select(['hash', 'compact', 'received_epoch_ms'])
      .where('consent_id', 'in', [...ids])
      .execute();
    for (const row of rows) byHash.set(row.hash, row);
  }
  return [...byHash.values()].sort((a, b) => a.received_epoch_ms - b.received_epoch_ms).map(({ compact }) => readConsent(compact));
}
