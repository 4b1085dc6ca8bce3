import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { expect, test } from '@jest/globals';
import { MeshError } from '@meridian/shared/errors';
import { systemClock } from '@meridian/shared/platform/clock';
import { systemRandom } from '@meridian/shared/platform/random';
import { part10Prefix } from '../dicom/part10.ts';
import { diskFolder } from '../media/folder-reader.ts';
import { importFolder } from '../media/import-folder.ts';
import { idsOfImport } from '../media/import-ids.ts';
import type { PortalParts } from '../portal/parts.ts';
import { RESIDENT_ID, SHARED_STUDY, UNSHARED_STUDY, withPortal } from '../portal/testing/open-test-portal.ts';
import { CT_IMAGE_STORAGE, EXPLICIT_LE, makeInstance } from '../store/testing/data-sets.ts';
import { usingStore } from '../store/testing/stores.ts';
import { runCommandLine, type CommandLine } from './program.ts';

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  /** The last line as JSON. */
  readonly json: Record<string, unknown>;
}

async function run(argv: readonly string[], change: Partial<CommandLine> = {}): Promise<Ran> {
  const [out, err] = [new PassThrough(), new PassThrough()];
  const text = { out: '', err: '' };
  out.on('data', (chunk: Buffer) => (text.out += chunk.toString()));
  err.on('data', (chunk: Buffer) => (text.err += chunk.toString()));
  const code = await runCommandLine(argv, {
    version: '0.1.0',
    env: {},
    // Only `write` and `isTTY` are used.
    out: out as unknown as NodeJS.WriteStream,
    err: err as unknown as NodeJS.WriteStream,
    signal: new AbortController().signal,
    openNode: () => Promise.reject(new Error('not used')),
    join: () => Promise.reject(new Error('not used')),
    ...change,
  });
  const last = text.out.trim().split('\n').at(-1) ?? '';
  return { code, ...text, json: last.startsWith('{') ? (JSON.parse(last) as Record<string, unknown>) : {} };
}

async function withData(work: (data: string) => Promise<void>): Promise<void> {
  const data = await mkdtemp(join(tmpdir(), 'meridian-cli-'));
  try {
    await work(data);
  } finally {
    await rm(data, { recursive: true, force: true });
  }
}

test('without a running node a command says so plainly and exits 3; the doctor looks at the machine alone', async () => {
  await withData(async (data) => {
    const status = await run(['status', '--data', data, '--json']);
    expect(status.code).toBe(3);
    expect(status.err).toContain(`meridian serve --data ${data}`);
    expect(status.json).toMatchObject({ ok: false, command: 'status', exitCode: 3, reason: 'NODE_NOT_RUNNING' });

    // A file that a killed node left behind names a process that is gone.
    await mkdir(join(data, 'run'));
    await writeFile(join(data, 'run', 'node.json'), JSON.stringify({ pid: 2 ** 30, apiUrl: 'http://127.0.0.1:1/api/v1' }));
    expect((await run(['history', RESIDENT_ID, '--data', data])).code).toBe(3);
    await writeFile(join(data, 'run', 'node.json'), JSON.stringify({ pid: process.pid, apiUrl: 'http://127.0.0.1:1/api/v1' }));
    expect((await run(['status', '--data', data, '--json'])).json).toMatchObject({ reason: 'NODE_NOT_ANSWERING', exitCode: 3 });

    const doctor = await run(['doctor', '--data', data, '--lang', 'zh-CN']);
    expect(doctor.code).toBe(1);
    expect(doctor.out).toContain('节点未运行');
    expect((await run(['status', '--data', data], { env: { LANG: 'zh_CN.UTF-8' } })).err).toContain('没有应答');
  });
});

test('wrong usage exits 2 and is told in one line, in JSON too', async () => {
  expect(await run(['histroy'])).toMatchObject({ code: 2, err: expect.stringContaining('history') });
  expect((await run(['fetch', '--json'])).json).toMatchObject({ ok: false, exitCode: 2, reason: 'USAGE' });
  await withData(async (data) => {
    expect(await run(['consent', 'record', RESIDENT_ID, '--data', data])).toMatchObject({
      code: 2,
      err: expect.stringContaining('--this-hospital'),
    });
    expect(await run(['consent', 'record', RESIDENT_ID, '--any-treating', '--days', '0', '--data', data])).toMatchObject({ code: 2 });
  });
  const help = await run(['--help']);
  expect(help.code).toBe(0);
  for (const command of ['join', 'serve', 'status', 'import', 'history', 'consent', 'fetch', 'quarantine', 'doctor'])
    expect(help.out).toMatch(new RegExp(`^  ${command}\\b`, 'm'));
});

test('history, consent, fetch and import talk to the node that runs', async () => {
  await withData((data) =>
    usingStore({}, (store) => {
      const importing: PortalParts['importFolder'] = (folder, options) =>
        importFolder(
          {
            folder,
            ...idsOfImport(options, { assigningAuthority: 'RENJI', random: systemRandom }),
            associationId: 'import-1',
            signal: options.signal,
            onProgress: options.onProgress,
          },
          { ingest: store.ingest, reader: diskFolder, clock: systemClock },
        );
      return withPortal(store, { importFolder: importing }, async ({ api }) => {
        await mkdir(join(data, 'run'));
        await writeFile(join(data, 'run', 'node.json'), JSON.stringify({ pid: process.pid, apiUrl: api }));
        const meridian = (...argv: string[]): Promise<Ran> => run([...argv, '--data', data]);

        expect((await meridian('status')).out).toContain('Renji');
        const history = await meridian('history', RESIDENT_ID);
        // One hospital could not be asked: the answer is there, and it is a part.
        expect(history.code).toBe(4);
        expect(history.out).toContain('1 found so far. 1 of 3 hospitals could not be asked: Yunling.');
        expect(history.out + history.err).not.toContain(RESIDENT_ID);
        expect(await meridian('history', '110105194912310021')).toMatchObject({
          code: 2,
          err: expect.stringContaining('PERSON_ID_CHECK_DIGIT'),
        });

        const recorded = await meridian(
          'consent',
          'record',
          RESIDENT_ID,
          '--this-hospital',
          '--modality',
          'CT',
          'MR',
          '--days',
          '7',
          '--clerk',
          'Zhang',
          '--json',
        );
        expect(recorded.json).toMatchObject({
          ok: true,
          command: 'consent record',
          consent: { modalities: ['CT', 'MR'], state: 'active' },
        });
        expect((await meridian('consent', 'list', RESIDENT_ID)).out).toContain('CT MR');
        expect((await meridian('consent', 'revoke', RESIDENT_ID, '--json')).json).toMatchObject({ ok: true, revoked: 1 });

        expect(await meridian('fetch', RESIDENT_ID, SHARED_STUDY)).toMatchObject({
          code: 0,
          out: expect.stringContaining('Copied 3 images'),
        });
        const refused = await meridian('fetch', RESIDENT_ID, UNSHARED_STUDY, '--json');
        expect(refused).toMatchObject({ code: 1, json: { ok: false, code: 'PERMISSION_DENIED', reason: 'NO_CONSENT' } });

        const stop = new AbortController();
        const slow = run(['fetch', RESIDENT_ID, '1.2.3', '--data', data, '--json'], { signal: stop.signal });
        await waitFor(async () => JSON.stringify(await (await fetch(`${api}/transfers`)).json()).includes('"running"'));
        stop.abort();
        expect(await slow).toMatchObject({ code: 1, json: { reason: 'TRANSFER_CANCELLED' } });

        await mkdir(join(data, 'cd'));
        await writeFile(join(data, 'cd', 'autorun.inf'), 'x');
        expect(await meridian('import', join(data, 'cd'), '--json')).toMatchObject({
          code: 0,
          json: { stored: 0, skipped: { NOT_DICOM: 1 } },
        });
        // A disc of another hospital joins nobody here, unless somebody says whose ids it has.
        await writeFile(
          join(data, 'cd', 'one.dcm'),
          Buffer.concat([
            part10Prefix({ sopClassUid: CT_IMAGE_STORAGE, sopInstanceUid: '1.2.3.1.1', transferSyntaxUid: EXPLICIT_LE }),
            makeInstance({ issuer: 'RENJI' }),
          ]),
        );
        const disc = await meridian('import', join(data, 'cd'));
        expect(disc.out).toMatch(/own \(import\/[a-z2-7]{8}\): they join no patient of this hospital/);
        expect((await store.studies.study('1.2.3'))?.patient.assigningAuthority).toMatch(/^import\/[a-z2-7]{8}\/RENJI$/);
        await writeFile(
          join(data, 'cd', 'one.dcm'),
          Buffer.concat([
            part10Prefix({ sopClassUid: CT_IMAGE_STORAGE, sopInstanceUid: '7.1.1', transferSyntaxUid: EXPLICIT_LE }),
            makeInstance({ study: '7', series: '7.1', sop: '7.1.1' }),
          ]),
        );
        expect((await meridian('import', join(data, 'cd'), '--own-ids')).out).toContain('this hospital’s own (RENJI)');
        expect((await store.studies.study('7'))?.patient.assigningAuthority).toBe('RENJI');
        await writeFile(
          join(data, 'cd', 'one.dcm'),
          Buffer.concat([
            part10Prefix({ sopClassUid: CT_IMAGE_STORAGE, sopInstanceUid: '8.1.1', transferSyntaxUid: EXPLICIT_LE }),
            makeInstance({ study: '8', series: '8.1', sop: '8.1.1' }),
          ]),
        );
        expect((await meridian('import', join(data, 'cd'), '--authority', 'HUASHAN', '--lang', 'zh-CN')).out).toContain(
          '按 HUASHAN 的患者号处理',
        );
        expect((await store.studies.study('8'))?.patient.assigningAuthority).toBe('HUASHAN');
        expect(await meridian('import', join(data, 'cd'), '--authority', '华山')).toMatchObject({
          code: 2,
          err: expect.stringContaining('REQUEST_INVALID'),
        });
        expect(await meridian('import', join(data, 'cd'), '--authority', 'X', '--own-ids')).toMatchObject({
          code: 2,
          err: expect.stringContaining('USAGE_IMPORT'),
        });
        expect(await meridian('quarantine')).toMatchObject({ code: 0, out: 'Nothing is kept aside.\n' });
        expect(await meridian('doctor')).toMatchObject({ code: 1, out: expect.stringContaining('The index cannot be reached') });
      });
    }),
  );
});

test('serve writes down where it answers, stops on a signal and cleans up; join tells who it became', async () => {
  await withData(async (data) => {
    const stop = new AbortController();
    let closed = false;
    const openNode = async (): Promise<{ apiUrl: string; pageUrl: string; dimsePort: number; close(): Promise<void> }> => ({
      apiUrl: 'http://127.0.0.1:9/api/v1',
      pageUrl: 'http://127.0.0.1:9',
      dimsePort: 11112,
      close: async () => void (closed = true),
    });
    const served = run(['serve', '--data', data], { signal: stop.signal, openNode });
    await waitFor(async () => (await run(['status', '--data', data, '--json'])).json['reason'] === 'NODE_NOT_ANSWERING');
    stop.abort();
    expect(await served).toMatchObject({ code: 0, err: expect.stringContaining('Page: http://127.0.0.1:9') });
    expect(closed).toBe(true);
    expect((await run(['status', '--data', data, '--json'])).json).toMatchObject({ reason: 'NODE_NOT_RUNNING' });

    const busy = () => Promise.reject(new MeshError('FAILED_PRECONDITION', 'NODE_ALREADY_RUNNING', 'Another node uses this folder.'));
    expect((await run(['serve', '--data', data, '--json'], { openNode: busy })).json).toMatchObject({
      exitCode: 1,
      reason: 'NODE_ALREADY_RUNNING',
    });
    const joined = await run(['join', 'https://127.0.0.1:1#CODE.00', '--data', data, '--json'], {
      join: async () => ({ nodeId: 'n-aaaaaaaaaaaaaaaa', hospitalName: '仁济医院' }),
    });
    expect(joined.json).toMatchObject({ ok: true, nodeId: 'n-aaaaaaaaaaaaaaaa', hospitalName: '仁济医院' });
    expect((await run(['serve', '--data', data], { env: { MERIDIAN_AE_TITLE: 'FAR_TOO_LONG_AE_TITLE' } })).code).toBe(2);
  });
});

async function waitFor(condition: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + 10_000;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error('waited 10 s in vain');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
