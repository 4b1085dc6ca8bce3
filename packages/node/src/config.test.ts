import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { loadNodeConfig } from './config.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'meridian-config-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test('defaults listen on loopback only', () => {
  const config = loadNodeConfig({ folder, env: {} });
  expect([config.dimse.host, config.http.host, config.peer.host]).toEqual(['127.0.0.1', '127.0.0.1', '127.0.0.1']);
  expect(config.dimse.aeTitle).toBe('MERIDIAN');
});

test('the environment wins over the file, the file over the default', () => {
  writeFileSync(
    join(folder, 'meridian.json'),
    JSON.stringify({
      aeTitle: 'FROMFILE',
      dimsePort: 4242,
      allow: [{ aeTitle: 'CT1', assigningAuthority: 'RENJI', nationalIdIn: 'patient-id' }],
    }),
  );
  const config = loadNodeConfig({ folder, env: { MERIDIAN_AE_TITLE: 'FROMENV' } });
  expect(config.dimse).toMatchObject({
    aeTitle: 'FROMENV',
    port: 4242,
    allow: [{ aeTitle: 'CT1', assigningAuthority: 'RENJI', nationalIdIn: 'patient-id' }],
  });
});

test.each([
  [
    { MERIDIAN_AE_TITLE: 'A_TITLE_THAT_IS_TOO_LONG' },
    undefined,
    /MERIDIAN_AE_TITLE must be 1-16 characters \(PS3\.5 AE\), got "A_TITLE_THAT_IS_TOO_LONG"\. Example: MERIDIAN/,
  ],
  [{ MERIDIAN_HTTP_PORT: '70000' }, undefined, /MERIDIAN_HTTP_PORT must be a port/],
  [
    { MERIDIAN_ASSIGNING_AUTHORITY: '仁济医院' },
    undefined,
    /MERIDIAN_ASSIGNING_AUTHORITY must be 1-64 ASCII characters .*, got "仁济医院"\. Example: RENJI/,
  ],
  [
    {},
    '{"allow": [{"aeTitle": "CT1", "assigningAuthority": "仁济"}]}',
    /allow\[0\]\.assigningAuthority must be 1-64 ASCII characters .*Example:/,
  ],
  [{}, '{', /is not valid JSON/],
  [{}, '{"aeTitel": "X"}', /a key "aeTitel" that no node knows/],
  [{}, '{"allow": [{"aeTitle": "CT1"}]}', /allow\[0\]\.assigningAuthority/],
  [{}, '{"allow": [{"assigningAuthority": "X"}]}', /must name an aeTitle, an address or both/],
])('a wrong key is refused by its name with an example: %j %s', (env, file, message) => {
  if (file !== undefined) writeFileSync(join(folder, 'meridian.json'), file);
  expect(() => loadNodeConfig({ folder, env })).toThrow(message);
});
