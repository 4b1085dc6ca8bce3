import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { openAuditLog, type AuditLog, type AuditRecord } from './audit-log.ts';
import { asMeshError } from './errors.ts';
import { systemClock } from './platform/clock.ts';
import { systemRandom } from './platform/random.ts';

async function inFolder(run: (folder: string, reopen: () => Promise<AuditLog>) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'meridian-audit-'));
  try {
    await run(folder, () => openAuditLog({ folder, clock: systemClock, random: systemRandom }));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function all(log: AuditLog): Promise<AuditRecord[]> {
  const records: AuditRecord[] = [];
  for await (const record of log.entries()) records.push(record);
  return records;
}

test('events stand in order and chained, over restarts and a torn last line', async () => {
  await inFolder(async (folder, reopen) => {
    const log = await reopen();
    await Promise.all(Array.from({ length: 50 }, (_, place) => log.append({ type: 'QUERY', detail: { place } })));
    await log.close();
    expect(asMeshError(await log.append({ type: 'QUERY' }).catch((thrown: unknown) => thrown)).reason).toBe('AUDIT_UNWRITABLE');
    await appendFile(join(folder, 'audit.jsonl'), '{"v":1,"seq":51,"torn');
    const again = await reopen();
    await again.append({ type: 'GRANT', jti: 'j' });
    const records = await all(again);
    await again.close();
    expect(records.map(({ seq }) => seq)).toEqual(Array.from({ length: 51 }, (_, place) => place + 1));
    expect(records[50]?.jti).toBe('j');
  });
});

test('a record that is altered or missing is found', async () => {
  await inFolder(async (folder, reopen) => {
    const path = join(folder, 'audit.jsonl');
    const log = await reopen();
    for (const reason of ['one', 'two', 'three']) await log.append({ type: 'DENY', reason });
    const text = await readFile(path, 'utf8');
    for (const damaged of [
      text.replace('"two"', '"TWO"'),
      text.split('\n').toSpliced(1, 1).join('\n'),
      text.split('\n').toSpliced(0, 1).join('\n'),
    ]) {
      await writeFile(path, damaged);
      expect(asMeshError(await all(log).catch((thrown: unknown) => thrown)).reason).toBe('AUDIT_CHAIN_BROKEN');
    }
    await log.close();
  });
});

test('an event that is too large is refused alone: those beside it are written', async () => {
  await inFolder(async (_folder, reopen) => {
    const log = await reopen();
    const appended = await Promise.allSettled([
      log.append({ type: 'REVOKE', detail: { consent: 'one' } }),
      log.append({ type: 'RECALL', detail: { keyId: 'x'.repeat(20_000) } }),
      log.append({ type: 'REVOKE', detail: { consent: '同意'.repeat(3_000) } }),
      log.append({ type: 'REVOKE', detail: { consent: 'two' } }),
    ]);
    expect(appended.map((one) => (one.status === 'fulfilled' ? 'written' : asMeshError(one.reason).reason))).toEqual([
      'written',
      'AUDIT_EVENT_TOO_LARGE',
      'AUDIT_EVENT_TOO_LARGE',
      'written',
    ]);
    expect((await all(log)).map(({ detail }) => detail?.['consent'])).toEqual(['one', 'two']);
    await log.close();
  });
});
