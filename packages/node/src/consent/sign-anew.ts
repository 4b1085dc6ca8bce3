import { readConsent, type ConsentStatement } from '@meridian/shared/consent';
import type { NodeId } from '@meridian/shared/identifiers';
import type { ConsentDatabase } from './consent-tables.ts';

/**
 * Consents of this node that still hold and that a former key of it signed: to be signed anew, for after a join with new
 * keys the former one opens nothing. What closes access needs no new signature: it is kept wherever it is known.
 */
export async function signedByFormerKey(
  database: ConsentDatabase,
  own: { readonly nodeId: NodeId; readonly keyId: string; readonly nowEpochMs: number },
): Promise<ConsentStatement[]> {
  const rows = await database.read
    .selectFrom('consent_statement')
    .select(['compact', 'consent_id', 'status'])
    .where('writer', '=', own.nodeId)
    .orderBy('seq')
    .execute();
  const newest = new Map(rows.filter(({ status }) => status === 'active').map((row) => [row.consent_id, row.compact]));
  const former = [...newest.values()]
    .filter((compact) => keyIdOfJws(compact) !== own.keyId)
    .map(readConsent)
    .filter(({ validUntilEpochMs }) => validUntilEpochMs > own.nowEpochMs);
  if (former.length === 0) return [];
  const revoked = await database.read.selectFrom('consent_statement').select('consent_id').where('status', '=', 'revoked').execute();
  const ended = new Set(revoked.map(({ consent_id }) => consent_id));
  return former.filter(({ consentId }) => !ended.has(consentId));
}

function keyIdOfJws(compact: string): string | undefined {
  const header = JSON.parse(Buffer.from(compact.split('.', 1)[0] ?? '', 'base64url').toString('utf8')) as { kid?: string };
  return header.kid;
}
