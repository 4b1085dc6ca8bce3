import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { sql } from 'kysely';
import { openSqlite, type Database, type Migrations } from './database.ts';

interface Schema {
  item: { id: number; text: string | null; bytes: Buffer | null };
}

const migrations: Migrations = {
  '001-create-items': async (database) => {
    await sql`CREATE TABLE item (id INTEGER PRIMARY KEY, text TEXT, bytes BLOB)`.execute(database);
  },
};
const job = new URL('./database.test-jobs.ts', import.meta.url);

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'meridian-database-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

async function using(file: string, work: (database: Database<Schema>) => Promise<void>): Promise<void> {
  const database = await openSqlite<Schema>({ file, migrations, job });
  try {
    await work(database);
  } finally {
    await database.close();
  }
}

describe.each(['file', 'memory'])('in %s', (kind) => {
  const file = (): string => (kind === 'memory' ? ':memory:' : path.join(folder, 'a.sqlite'));

  test('writes are read back, with bytes, large integers and transactions whole', () =>
    using(file(), async (database) => {
      const big = 2n ** 62n + 1n;
      await database.write
        .insertInto('item')
        .values({ id: 1, text: '王小明', bytes: Buffer.from('pooled') })
        .execute();
      await sql`INSERT INTO item (id, text) VALUES (${big}, 'big')`.execute(database.write);
      const rows = await database.read.selectFrom('item').selectAll().orderBy('id').execute();
      expect(rows[0]).toEqual({ id: 1, text: '王小明', bytes: Buffer.from('pooled') });
      expect(Buffer.isBuffer(rows[0]?.bytes)).toBe(true);
      expect(rows[1]?.id).toBe(big);

      const failed = database.write.transaction().execute(async (transaction) => {
        await transaction.insertInto('item').values({ id: 2, text: 'gone', bytes: null }).execute();
        throw new Error('changed my mind');
      });
      await expect(failed).rejects.toThrow('changed my mind');
      expect(await database.read.selectFrom('item').select('id').where('id', '=', 2).execute()).toEqual([]);
    }));

  test('transactions, single writes and jobs take turns', () =>
    using(file(), async (database) => {
      await Promise.all([
        ...Array.from({ length: 10 }, (_, n) =>
          database.write.transaction().execute(async (transaction) => {
            await transaction
              .insertInto('item')
              .values({ id: 100 + n, text: null, bytes: null })
              .execute();
            await transaction
              .updateTable('item')
              .set({ text: `t${n}` })
              .where('id', '=', 100 + n)
              .execute();
          }),
        ),
        ...Array.from({ length: 10 }, (_, n) => database.run<number>('addItem', { id: 200 + n, text: `j${n}` })),
        database.write.insertInto('item').values({ id: 300, text: 's', bytes: null }).execute(),
      ]);
      expect(await database.read.selectFrom('item').select('id').where('text', 'is not', null).execute()).toHaveLength(21);
    }));

  test('a job that throws leaves nothing, and its MeshError arrives', () =>
    using(file(), async (database) => {
      await expect(database.run('addThenFail', 1)).rejects.toMatchObject({
        code: 'DATA_LOSS',
        reason: 'TEST_FAILED',
        message: 'On purpose.',
      });
      await expect(database.run('absent', 1)).rejects.toMatchObject({ code: 'INTERNAL' });
      expect(await database.read.selectFrom('item').selectAll().execute()).toEqual([]);
      await expect(
        database.write
          .insertInto('item')
          .values([
            { id: 1, text: null, bytes: null },
            { id: 1, text: null, bytes: null },
          ])
          .execute(),
      ).rejects.toMatchObject({ reason: 'CONSTRAINT_VIOLATED' });
    }));
});

test('durability settings hold on the writer, and readers cannot write', () =>
  using(path.join(folder, 'a.sqlite'), async (database) => {
    const setting = async (name: string): Promise<unknown> =>
      Object.values((await sql.raw(`PRAGMA ${name}`).execute(database.write)).rows[0] as object)[0];
    expect([await setting('journal_mode'), await setting('synchronous'), await setting('foreign_keys')]).toEqual(['wal', 2, 1]);
    await expect(database.read.insertInto('item').values({ id: 1, text: null, bytes: null }).execute()).rejects.toMatchObject({
      code: 'INTERNAL',
    });
    const rows = await Promise.all(
      Array.from({ length: 20 }, () =>
        database.read.transaction().execute((transaction) => transaction.selectFrom('item').selectAll().execute()),
      ),
    );
    expect(rows.flat()).toEqual([]);
  }));

test('a newer schema and a database without room are refused in words', async () => {
  const file = path.join(folder, 'a.sqlite');
  await using(file, async () => undefined);
  await expect(openSqlite({ file, migrations: {} })).rejects.toMatchObject({ code: 'FAILED_PRECONDITION', reason: 'SCHEMA_NEWER' });
  await using(file, async (database) => {
    await sql`PRAGMA max_page_count = 8`.execute(database.write);
    await expect(
      database.write
        .insertInto('item')
        .values({ id: 1, text: null, bytes: Buffer.alloc(100_000) })
        .execute(),
    ).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED', reason: 'DISK_FULL' });
    await database.write.insertInto('item').values({ id: 2, text: 'still works', bytes: null }).execute();
  });
});

test('one process per file: a second is refused with the pid, one that was killed does not block', async () => {
  const file = path.join(folder, 'a.sqlite');
  await using(file, async () => {
    await expect(openSqlite({ file, migrations })).rejects.toMatchObject({
      reason: 'NODE_ALREADY_RUNNING',
      message: expect.stringContaining(`pid ${process.pid}`),
    });
  });
  const source = `import { openSqlite } from ${JSON.stringify(new URL('./database.ts', import.meta.url).href)};
    await openSqlite({ file: ${JSON.stringify(file)}, migrations: { '001-create-items': async () => {} } }); console.log('open'); setInterval(() => {}, 1000);`;
  const holder = spawn(process.execPath, ['--no-warnings', '--input-type=module-typescript', '-e', source], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    await new Promise((resolve) => holder.stdout.once('data', resolve));
    await expect(openSqlite({ file, migrations })).rejects.toMatchObject({
      reason: 'NODE_ALREADY_RUNNING',
      message: expect.stringContaining(`pid ${holder.pid}`),
    });
    const gone = new Promise((resolve) => holder.once('exit', resolve));
    holder.kill('SIGKILL');
    await gone;
    await (await openSqlite({ file, migrations })).close();
  } finally {
    holder.kill('SIGKILL');
  }
});
