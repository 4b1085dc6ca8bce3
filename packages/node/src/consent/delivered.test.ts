import { expect, test } from '@jest/globals';
import type { ConsentStatement } from '@meridian/shared/consent';
import { openSqlite } from '@meridian/shared/database';
import type { NodeId } from '@meridian/shared/identifiers';
import { consentMigrations, type ConsentSchema } from './consent-tables.ts';
import { isToBeKept } from './delivered.ts';
import { insertStatement } from './statements.ts';

const statement = (number: number, change: Partial<ConsentStatement>): ConsentStatement =>
  ({
    hash: `h${number}`,
    compact: '',
    writer: 'n-a' as NodeId,
    seq: number,
    consentId: `c${number}`,
    patientKeys: [{ key: `p${number}`, epoch: '1' }],
    status: 'active',
    ...change,
  }) as ConsentStatement;

test('what others deliver of strangers is kept where it closes, up to a bound for each writer, and passed over where it opens', async () => {
  const database = await openSqlite<ConsentSchema>({ file: ':memory:', migrations: consentMigrations });
  try {
    const keep = async (one: ConsentStatement): Promise<boolean> =>
      (await isToBeKept(database, one, 2)) && insertStatement(database.write, one, 1);
    expect(await keep(statement(1, {}))).toBe(false);
    await insertStatement(database.write, statement(2, {}), 1);
    // Of a consent or a person that is known, everything counts.
    expect(await keep(statement(3, { consentId: 'c2' }))).toBe(true);
    expect(await keep(statement(4, { patientKeys: [{ key: 'p2', epoch: '2' }] }))).toBe(true);
    expect(await keep(statement(5, { consentId: 'c2', status: 'revoked' }))).toBe(true);
    // A withdrawal may come before its consent.
    expect(await keep(statement(6, { status: 'revoked' }))).toBe(true);
    expect(await keep(statement(7, { status: 'refused' }))).toBe(true);
    await expect(keep(statement(8, { status: 'revoked' }))).rejects.toMatchObject({
      code: 'RESOURCE_EXHAUSTED',
      reason: 'TOO_MANY_STATEMENTS',
    });
    expect(await keep(statement(9, { status: 'revoked', writer: 'n-b' as NodeId }))).toBe(true);
    expect(await keep(statement(10, { status: 'revoked', consentId: 'c2' }))).toBe(true);
  } finally {
    await database.close();
  }
});
