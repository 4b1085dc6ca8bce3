import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, test } from '@jest/globals';
import { repositoryFolder } from '@meridian/shared/testing/needs';

interface Report {
  readonly summary: {
    readonly totalCruised: number;
    readonly violations: readonly { readonly rule: { readonly name: string }; readonly from: string; readonly to: string }[];
  };
}

/** Runs the project's own rules over a small tree of files. */
function cruise(files: Readonly<Record<string, string>>): Report {
  const folder = mkdtempSync(join(tmpdir(), 'meridian-ladder-'));
  try {
    copyFileSync(join(repositoryFolder, 'tsconfig.base.json'), join(folder, 'tsconfig.base.json'));
    symlinkSync(join(repositoryFolder, 'node_modules'), join(folder, 'node_modules'));
    for (const [path, source] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, path)), { recursive: true });
      writeFileSync(join(folder, path), source);
    }
    const done = spawnSync(
      join(repositoryFolder, 'node_modules/.bin/depcruise'),
      ['packages', '--config', join(repositoryFolder, '.dependency-cruiser.cjs'), '--output-type', 'json'],
      {
        cwd: folder,
        encoding: 'utf8',
        maxBuffer: 1 << 26,
      },
    );
    return JSON.parse(done.stdout) as Report;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test('a room that looks up the ladder, sideways or into another package is caught', () => {
  const empty = 'export const x = 1;\n';
  const report = cruise({
    'packages/node/src/store/ingest.ts': "import { x } from '../dimse/c-store.ts';\nexport const y = x;\n",
    'packages/node/src/dimse/c-store.ts': empty,
    'packages/node/src/portal/pages.ts': "import { x } from '../dimse/c-store.ts';\nexport const y = x;\n",
    'packages/node/src/retrieve/fetch.ts': "import { x } from '../store/fine.ts';\nexport const y = x;\n",
    'packages/node/src/store/fine.ts': empty,
    'packages/shared/src/consent.ts': "import { x } from '../../node/src/store/fine.ts';\nexport const y = x;\n",
    'packages/node/src/store/uses-node.ts': "import { x } from '../node.ts';\nexport const y = x;\n",
    'packages/node/src/node.ts': empty,
  });
  expect(report.summary.totalCruised).toBeGreaterThanOrEqual(8);
  const caught = new Set(report.summary.violations.map(({ rule, from }) => `${rule.name} ${from}`));
  expect(caught).toContain('node-ladder-store packages/node/src/store/ingest.ts');
  expect(caught).toContain('node-ladder-dimse packages/node/src/portal/pages.ts');
  expect(caught).toContain('shared-is-lowest packages/shared/src/consent.ts');
  expect(caught).toContain('node-rooms-know-no-node packages/node/src/store/uses-node.ts');
  expect([...caught].filter((line) => line.includes('retrieve/fetch.ts'))).toEqual([]);
});
