import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { systemClock } from '@meridian/shared/platform/clock';
import { part10Prefix } from '../dicom/part10.ts';
import { diskFolder } from '../media/folder-reader.ts';
import { importFolder } from '../media/import-folder.ts';
import type { Store } from '../store/store.ts';
import { CT_IMAGE_STORAGE, EXPLICIT_LE, makeInstance } from '../store/testing/data-sets.ts';
import { usingStore } from '../store/testing/stores.ts';
import type { PortalParts } from './parts.ts';
import { OTHER, RESIDENT_ID, SELF, SHARED_STUDY, UNSHARED_STUDY, withPortal } from './testing/open-test-portal.ts';

const post = (url: string, body: object): Promise<Response> =>
  fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
const importingInto =
  (store: Store): PortalParts['importFolder'] =>
  (folder, options) =>
    importFolder(
      { folder, assigningAuthority: 'RENJI', foreignIds: false, associationId: 'import-1', ...options },
      { ingest: store.ingest, reader: diskFolder, clock: systemClock },
    );
const linesOf = async (response: Response): Promise<{ type: string; progress?: unknown; result?: never; problem?: never }[]> =>
  (await response.text())
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

test('a person is asked for in the body, and a wrong id is refused with its reason', async () => {
  await usingStore({}, (store) =>
    withPortal(store, {}, async ({ api }) => {
      const history = await post(`${api}/history`, { personId: RESIDENT_ID });
      expect(history.headers.get('cache-control')).toBe('no-store');
      expect(await history.json()).toMatchObject({ person: '110105********002X', coverage: { notAsked: 1 } });

      const wrong = await post(`${api}/history`, { personId: '110105194912310021' });
      expect(wrong.status).toBe(400);
      expect(wrong.headers.get('content-type')).toContain('application/problem+json');
      const problem = await wrong.text();
      expect(JSON.parse(problem)).toMatchObject({ type: 'urn:meridian:reason:PERSON_ID_CHECK_DIGIT', reason: 'PERSON_ID_CHECK_DIGIT' });
      expect(problem).not.toContain('110105194912310021');
      expect(await (await post(`${api}/history`, { personId: RESIDENT_ID, purpose: 'BTG' })).json()).toMatchObject({
        reason: 'REQUEST_INVALID',
      });
    }),
  );
});

test('consents are recorded for this hospital, listed as they stand, and stopped', async () => {
  await usingStore({}, (store) =>
    withPortal(store, {}, async ({ api }) => {
      const recorded = await post(`${api}/consents`, {
        personId: RESIDENT_ID,
        grantee: { kind: 'this-hospital' },
        modalities: ['CT'],
        validForMs: 60_000,
        clerk: 'Zhang',
      });
      expect(recorded.status).toBe(201);
      expect(await recorded.json()).toMatchObject({
        state: 'active',
        grantee: { kind: 'hospital', nodeId: SELF, name: 'Renji' },
        purposes: ['TREAT'],
        modalities: ['CT'],
      });
      await post(`${api}/consents`, { personId: RESIDENT_ID, grantee: { kind: 'any-treating' }, validForMs: 60_000, clerk: 'Zhang' });

      expect(await (await post(`${api}/consents/revoke`, { consentId: 'c-0' })).json()).toEqual({ revoked: 1 });
      const text = await (await post(`${api}/consents/list`, { personId: RESIDENT_ID })).text();
      expect(
        JSON.parse(text)
          .consents.map((one: { consentId: string; state: string }) => [one.consentId, one.state])
          .sort(),
      ).toEqual([
        ['c-0', 'revoked'],
        ['c-1', 'active'],
      ]);
      expect(text).not.toContain('secret-pseudonym');
      expect((await post(`${api}/consents/revoke`, { consentId: 'c-9' })).status).toBe(404);
      expect(
        (await post(`${api}/consents`, { personId: RESIDENT_ID, grantee: { kind: 'hospital' }, validForMs: 60_000, clerk: 'Z' })).status,
      ).toBe(400);
    }),
  );
});

test('a copy is followed line by line, a refused one says why, a cancelled one ends', async () => {
  await usingStore({}, (store) =>
    withPortal(store, {}, async ({ api }) => {
      const start = async (studyInstanceUid: string): Promise<{ id: string; holderName?: string }> =>
        (await post(`${api}/transfers`, { personId: RESIDENT_ID, studyInstanceUid, holderNode: OTHER })).json() as Promise<{ id: string }>;
      const copied = await start(SHARED_STUDY);
      expect(copied.holderName).toBe('Huashan');
      const lines = await linesOf(await fetch(`${api}/transfers/${copied.id}/events`));
      expect(lines.length).toBeGreaterThan(1);
      expect(lines.at(-1)).toMatchObject({
        type: 'result',
        result: { state: 'done', progress: { instancesVerified: 3 }, digestMismatches: 0 },
      });

      const refused = await start(UNSHARED_STUDY);
      expect((await linesOf(await fetch(`${api}/transfers/${refused.id}/events`))).at(-1)).toMatchObject({
        type: 'result',
        result: { state: 'failed', failure: { reason: 'NO_CONSENT' } },
      });

      const slow = await start('1.2.3');
      expect((await start('1.2.3')).id).toBe(slow.id);
      // A reader that goes away does not stop the copy; cancelling does.
      const reader = new AbortController();
      const followed = await fetch(`${api}/transfers/${slow.id}/events`, { signal: reader.signal });
      await followed.body?.getReader().read();
      reader.abort();
      const list = (await (await fetch(`${api}/transfers`)).json()) as { transfers: { id: string; state: string }[] };
      expect(list.transfers.find((view) => view.id === slow.id)?.state).toBe('running');
      expect(await (await post(`${api}/transfers/${slow.id}/cancel`, {})).json()).toMatchObject({ state: 'cancelled' });
      expect((await fetch(`${api}/transfers/nobody/events`)).status).toBe(404);
      expect(JSON.stringify(list)).not.toContain(RESIDENT_ID);
    }),
  );
});

test('a folder is imported: what is no image is counted, what is broken is named, a second time finds all known', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'meridian-import-'));
  try {
    const file = (sop: string, options: object = {}): Buffer =>
      Buffer.concat([
        part10Prefix({ sopClassUid: CT_IMAGE_STORAGE, sopInstanceUid: sop, transferSyntaxUid: EXPLICIT_LE }),
        makeInstance({ sop, ...options }),
      ]);
    await mkdir(join(folder, 'a', 'b'), { recursive: true });
    await writeFile(join(folder, 'a', 'one'), file('1.2.3.1.1'));
    await writeFile(join(folder, 'a', 'b', 'two.dcm'), file('1.2.3.1.2'));
    await writeFile(join(folder, 'a', 'b', 'cut.dcm'), file('1.2.3.1.3').subarray(0, 500));
    await writeFile(join(folder, 'README.txt'), 'Images of a CD');
    await writeFile(join(folder, 'empty'), '');
    await writeFile(
      join(folder, 'DICOMDIR'),
      Buffer.concat([
        part10Prefix({ sopClassUid: '1.2.840.10008.1.3.10', sopInstanceUid: '1.9', transferSyntaxUid: EXPLICIT_LE }),
        makeInstance({}),
      ]),
    );
    await symlink('/etc', join(folder, 'link'));
    await usingStore({}, (store) =>
      withPortal(store, { importFolder: importingInto(store) }, async ({ api }) => {
        const run = async (): Promise<object | undefined> => (await linesOf(await post(`${api}/import`, { folder }))).at(-1)?.result;
        const first = await run();
        expect(first).toMatchObject({
          files: 6,
          stored: 2,
          duplicates: 0,
          quarantined: 0,
          refusedTotal: 1,
          refused: [{ file: 'a/b/cut.dcm' }],
          skipped: { NOT_DICOM: 2, DICOMDIR: 1, 'SYMBOLIC-LINK': 1 },
          cancelled: false,
        });
        await writeFile(join(folder, 'a', 'other'), file('1.2.3.1.1', { fill: 9 }));
        expect(await run()).toMatchObject({ stored: 0, duplicates: 2, quarantined: 1, refusedTotal: 1 });
        expect(await store.usage()).toMatchObject({ instances: 2, quarantined: 1 });

        expect(await (await post(`${api}/import`, { folder: 'a/b' })).json()).toMatchObject({ reason: 'FOLDER_NOT_ABSOLUTE' });
        expect((await linesOf(await post(`${api}/import`, { folder: join(folder, 'nowhere') }))).at(-1)).toMatchObject({
          type: 'problem',
          problem: { reason: 'FOLDER_ABSENT' },
        });
      }),
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test('the doctor speaks the language of the asker, gravest first', async () => {
  await usingStore({}, (store) =>
    withPortal(store, {}, async ({ api }) => {
      const ask = async (
        language: string,
      ): Promise<{ verdict: string; state: string; checks: { id: string; state: string; todo?: string }[] }> =>
        (await fetch(`${api}/doctor`, { headers: { 'accept-language': language } })).json() as never;
      const english = await ask('en');
      expect(english).toMatchObject({
        state: 'problem',
        checks: [{ id: 'index', state: 'problem' }, { id: 'quarantine', state: 'warning' }, ...english.checks.slice(2)],
      });
      expect(english.verdict).toBe('Wrong: 1. Needing attention: 1. What was stored is not affected.');
      expect((await ask('zh-CN')).verdict).toContain('1 项异常');
      expect(english.checks[0]?.todo).toContain('firewall');
    }),
  );
});

test('a node that has not joined serves its own images and says what else it needs', async () => {
  await usingStore({}, (store) =>
    withPortal(store, { transfers: undefined, consent: undefined, nodeId: undefined, indexState: undefined } as never, async ({ api }) => {
      expect(await (await fetch(`${api}/node`)).json()).toMatchObject({ joined: false, hospitalName: 'Renji', storage: { studies: 0 } });
      const answer = await post(`${api}/transfers`, { personId: RESIDENT_ID, studyInstanceUid: '1.2' });
      expect(answer.status).toBe(409);
      expect(await answer.json()).toMatchObject({ reason: 'NODE_NOT_JOINED', detail: expect.stringContaining('meridian join') });
    }),
  );
});

test('the page is served under its hash names, and its absence says how to build it', async () => {
  const webFolder = await mkdtemp(join(tmpdir(), 'meridian-web-'));
  try {
    await usingStore({}, async (store) => {
      await withPortal(store, { webFolder }, async ({ http }) =>
        expect(await (await fetch(`${http.address}/`)).text()).toContain('npm run build:web'),
      );
      await mkdir(join(webFolder, 'assets'));
      await writeFile(join(webFolder, 'index.html'), '<!doctype html><title>page</title>');
      await writeFile(join(webFolder, 'assets', 'index-abc.js'), 'export {}');
      await withPortal(store, { webFolder }, async ({ http, api }) => {
        const page = await fetch(`${http.address}/`);
        expect(await page.text()).toContain('<title>page</title>');
        expect(page.headers.get('content-security-policy')).toContain("script-src 'self'");
        const script = await fetch(`${http.address}/assets/index-abc.js`);
        expect([script.headers.get('content-type'), script.headers.get('cache-control')]).toEqual([
          'text/javascript; charset=utf-8',
          'public, max-age=31536000, immutable',
        ]);
        expect((await fetch(`${http.address}/assets/..%2f..%2fpackage.json`)).status).toBe(404);
        const described = (await (await fetch(`${api}/openapi.json`)).json()) as { openapi: string; paths: object };
        expect(described.openapi).toBe('3.1.0');
        expect(Object.keys(described.paths)).toContain('/transfers/{id}/events');
      });
    });
  } finally {
    await rm(webFolder, { recursive: true, force: true });
  }
});
