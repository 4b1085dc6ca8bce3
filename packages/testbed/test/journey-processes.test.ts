import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { generateStudy, studyUidOf } from '../src/data/studies.ts';
import { CT_AT_A, DX_AT_C, WANG } from '../src/demo/cast.ts';
import { sendAll } from '../src/modality.ts';
import { type Finished, runCommand, type Served, serve, type ServedNode, serveNode, untilReady } from '../src/processes.ts';

const FREE_PORTS = {
  MERIDIAN_DIMSE_PORT: '0',
  MERIDIAN_HTTP_PORT: '0',
  MERIDIAN_PEER_PORT: '0',
  MERIDIAN_QUIET_TIME_MS: '1000',
  MERIDIAN_RELEASED_QUIET_TIME_MS: '200',
  MERIDIAN_MINIMUM_FREE_DISK: '0.001',
  MERIDIAN_LOG_LEVEL: 'warn',
  LANG: 'C.UTF-8',
};
const CT = { ...CT_AT_A, slices: 12, size: 128 };
const STUDY = studyUidOf(CT);

let root = '';
let index: Served | undefined;
const nodes = new Map<'a' | 'c', ServedNode>();
const env = (key: 'a' | 'c'): Record<string, string> => ({
  ...FREE_PORTS,
  MERIDIAN_ASSIGNING_AUTHORITY: key === 'a' ? 'YUNLING' : 'BINHAI',
});
const meridian = (key: 'a' | 'c', ...args: string[]): Promise<Finished> =>
  runCommand('meridian', [...args, '--data', join(root, key)], { env: env(key) });
const meridianIndex = (...args: string[]): Promise<Finished> => runCommand('meridian-index', [...args, '--data', join(root, 'index')]);

/** The one JSON object that --json promises as the last line. */
function lastLine(finished: Finished): Record<string, unknown> {
  return JSON.parse(finished.stdout.trim().split('\n').at(-1) ?? '') as Record<string, unknown>;
}

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'meridian-processes-'));
});
afterAll(async () => {
  for (const node of nodes.values()) await node.stop();
  await index?.stop();
  rmSync(root, { recursive: true, force: true });
}, 60_000);

test('the operator makes an index and hospitals join it by the link, once', async () => {
  expect(await meridianIndex('init', '--name', 'Test federation', '--join-port', '0', '--grpc-port', '0')).toMatchObject({ code: 0 });
  index = serve('meridian-index', ['serve', '--data', join(root, 'index')]);
  const added = await untilReady(index, async () => {
    const tried = await meridianIndex('hospital', 'add', 'Yunling County Hospital', '--json');
    return tried.code === 0 ? lastLine(tried) : undefined;
  });
  const link = String(added['joinLink']);
  const joined = await meridian('a', 'join', link);
  expect(joined).toMatchObject({ code: 0 });
  expect(joined.stdout).toContain('Yunling County Hospital');

  const reused = await meridian('c', 'join', link, '--json');
  expect(reused.code).toBe(1);
  expect(lastLine(reused)).toMatchObject({ ok: false, reason: 'JOIN_CODE_USED' });

  const second = lastLine(await meridianIndex('hospital', 'add', 'Binhai University Hospital', '--json'));
  expect(await meridian('c', 'join', String(second['joinLink']))).toMatchObject({ code: 0 });
  for (const key of ['a', 'c'] as const) nodes.set(key, await serveNode({ folder: join(root, key), env: env(key) }));
  const status = await meridianIndex('status', '--json');
  expect(status.code).toBe(0);
}, 120_000);

test('a study sent to one hospital is found, refused, consented, fetched and served at the other', async () => {
  const [a, c] = [nodes.get('a'), nodes.get('c')];
  await sendAll({ host: '127.0.0.1', port: a?.ports['dimse'] ?? 0, callingAeTitle: 'CT1', calledAeTitle: 'MERIDIAN' }, [
    ...generateStudy(CT),
  ]);
  await sendAll({ host: '127.0.0.1', port: c?.ports['dimse'] ?? 0, callingAeTitle: 'DX1', calledAeTitle: 'MERIDIAN' }, [
    ...generateStudy({ ...DX_AT_C, size: 64 }),
  ]);

  let found: Record<string, unknown> = {};
  for (let tries = 0; tries < 100; tries += 1) {
    found = lastLine(await meridian('c', 'history', WANG.residentId, '--json'));
    if (JSON.stringify(found).includes(STUDY)) break;
    await new Promise((wait) => setTimeout(wait, 200));
  }
  expect(found).toMatchObject({ ok: true, coverage: { asked: 2, answered: 2, notAsked: 0 } });
  expect(JSON.stringify(found)).toContain(STUDY);

  const refused = await meridian('c', 'fetch', WANG.residentId, STUDY, '--json');
  expect(refused.code).toBe(1);
  expect(lastLine(refused)).toMatchObject({ ok: false, reason: 'NO_CONSENT' });

  expect(await meridian('c', 'consent', 'record', WANG.residentId, '--this-hospital', '--days', '7', '--clerk', 'Chen')).toMatchObject({
    code: 0,
  });
  const fetched = await meridian('c', 'fetch', WANG.residentId, STUDY, '--json');
  expect(fetched).toMatchObject({ code: 0 });
  const metadata = (await (
    await fetch(`${c?.apiUrl}/dicomweb/studies/${STUDY}/metadata`, { headers: { accept: 'application/dicom+json' } })
  ).json()) as readonly Record<string, { Value?: readonly unknown[] }>[];
  expect(metadata).toHaveLength(12);
  expect(metadata[0]?.['00100020']?.Value).toEqual(['C-5582']);

  expect(await meridian('c', 'consent', 'revoke', WANG.residentId)).toMatchObject({ code: 0 });
  const afterwards = await meridian('c', 'fetch', WANG.residentId, STUDY, '--json');
  expect(afterwards.code).toBe(1);
  expect(lastLine(afterwards)).toMatchObject({ ok: false, reason: 'CONSENT_REVOKED' });
}, 180_000);

test('nothing that a node or the index wrote can be read by another account', () => {
  const open: string[] = [];
  let files = 0;
  for (const folder of ['a', 'c', 'index']) {
    for (const name of ['.', ...readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })]) {
      files += 1;
      if ((statSync(join(root, folder, name)).mode & 0o077) !== 0) open.push(join(folder, name));
    }
  }
  expect(open).toEqual([]);
  const written = readdirSync(join(root, 'a'), { recursive: true, encoding: 'utf8' });
  for (const name of ['archive.sqlite', 'consent.sqlite', 'transfers.sqlite']) expect(written).toContain(name);
  expect(written.filter((name) => name.startsWith('blobs/')).length).toBeGreaterThan(0);
  expect(files).toBeGreaterThan(20);
});

test('wrong input gets a plain sentence, an exit code and no stack', async () => {
  const wrongDigit = await meridian(
    'c',
    'history',
    `${WANG.residentId.slice(0, 17)}${WANG.residentId.endsWith('1') ? '2' : '1'}`,
    '--json',
  );
  expect(wrongDigit.code).not.toBe(0);
  expect(lastLine(wrongDigit)).toMatchObject({ ok: false, reason: 'PERSON_ID_CHECK_DIGIT' });
  expect(wrongDigit.stderr).not.toMatch(/\n\s+at /);
  const unknown = await meridian('c', 'history', 'passport:GBR:123456789', '--json');
  expect(lastLine(unknown)).toMatchObject({ studies: [] });
  const second = await runCommand('meridian', ['serve', '--data', join(root, 'c')], { env: env('c') });
  expect(second.code).not.toBe(0);
  expect(second.stderr).toMatch(/already/i);
  expect(second.stderr).not.toMatch(/\n\s+at /);
}, 90_000);

test('with the index away a hospital still shows its own studies and says who could not be asked', async () => {
  await index?.stop();
  const local = await meridian('c', 'history', WANG.residentId, '--json');
  expect(local.code).toBe(4);
  expect(lastLine(local)).toMatchObject({ coverage: { asked: 2, answered: 1, notAsked: 1, indexReachable: false } });
  const doctor = await meridian('c', 'doctor');
  expect(doctor.stdout).toMatch(/index/i);
  expect(readFileSync(join(root, 'c/run/node.json'), 'utf8')).toContain('apiUrl');
}, 120_000);
