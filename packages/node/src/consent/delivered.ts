import type { ConsentStatement } from '@meridian/shared/consent';
import { MeshError } from '@meridian/shared/errors';
import { sql } from 'kysely';
import type { ConsentDatabase } from './consent-tables.ts';

/** Withdrawals of one writer for consents that are unknown here. One that comes before its consent counts, so they are kept. */
export const MAX_UNKNOWN_WITHDRAWALS = 10_000;

/**
 * Whether a statement that another node delivers is to be kept. One that opens, of a person and a consent unknown here, is
 * passed over, and nothing is lost by it: a grant carries the consent that it rests on, and the index tells the holders.
 * @param limit of {@link MAX_UNKNOWN_WITHDRAWALS}.
 * @throws MeshError RESOURCE_EXHAUSTED / TOO_MANY_STATEMENTS where this writer has filled what is kept of it; the index still tells it
 */
export async function isToBeKept(
  database: ConsentDatabase,
  { consentId, patientKeys, status, writer }: ConsentStatement,
  limit = MAX_UNKNOWN_WITHDRAWALS,
): Promise<boolean> {
  const ofConsent = await database.read
    .selectFrom('consent_statement')
    .select('hash')
    .where('consent_id', '=', consentId)
    .limit(1)
    .executeTakeFirst();
  if (ofConsent !== undefined) return true;
  const ofPerson = await database.read
    .selectFrom('consent_patient')
    .select('hash')
    .where(
      'patient_key',
      'in',
      patientKeys.map(({ key }) => key),
    )
    .limit(1)
    .executeTakeFirst();
  if (ofPerson !== undefined) return true;
  if (status === 'active') return false;
  const { rows } = await sql<{
    kept: number;
  }>`SELECT count(*) AS kept FROM consent_statement s WHERE s.writer = ${writer} AND s.status <> 'active'
      AND NOT EXISTS (SELECT 1 FROM consent_statement o WHERE o.consent_id = s.consent_id AND o.status = 'active')`.execute(database.read);
  if ((rows[0]?.kept ?? 0) < limit) return true;
  throw new MeshError(
    'RESOURCE_EXHAUSTED',
    'TOO_MANY_STATEMENTS',
    'This hospital has been sent many withdrawals of consents that it does not know, by one writer. Hand this one to the index.',
  );
}
