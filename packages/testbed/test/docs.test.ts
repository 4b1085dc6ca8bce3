import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { expect, test } from '@jest/globals';
import { CONFIG_KEYS } from '@meridian/node/config';
import { repositoryFolder } from '@meridian/shared/testing/needs';
import { runCommand } from '../src/processes.ts';

const read = (path: string): string => readFileSync(join(repositoryFolder, path), 'utf8');
const DOCUMENTS = [
  'README.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  ...readdirSync(join(repositoryFolder, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.md'))
    .map((path) => join('docs', path)),
];

/** Commands that have commands of their own. */
const GROUPS = ['consent', 'hospital'];

/** Headings as GitHub makes anchors of them. */
function anchorsOf(markdown: string): string[] {
  return [...markdown.matchAll(/^#+ (.+)$/gm)].map(([, title = '']) =>
    title
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\- ]/gu, '')
      .replaceAll(' ', '-'),
  );
}

/** What stands in code blocks and code spans. */
function codeOf(markdown: string): string[] {
  return [...markdown.matchAll(/```[a-z]*\n([\s\S]*?)```|`([^`\n]+)`/g)].map(([, block, inline]) => block ?? inline ?? '');
}

/** Words that come first behind a program's name in code, `consent record` as two. */
function commandsNamed(program: string, texts: readonly string[]): string[] {
  const found = texts
    .flatMap(codeOf)
    .flatMap((piece) =>
      [
        ...piece.matchAll(
          new RegExp(`(?:^|[\\s;])${program} ((?:[a-z]+)(?: (?:add|list|invite|revoke|suspend|reinstate|record)\\b)?)`, 'gm'),
        ),
      ].map(([, words = '']) => words),
    );
  return [...new Set(found)];
}

test('operations.md lists every configuration key of a node, with its default', () => {
  const rows = read('docs/operations.md')
    .split('\n')
    .filter((line) => line.startsWith('| `MERIDIAN_'));
  const told = rows.map((row) =>
    row
      .split('|')
      .slice(1, 4)
      .map((cell) => cell.trim()),
  );
  // Where there is no default the cell says in words what holds then.
  const listed = CONFIG_KEYS.map((key, at) => [`\`${key.env}\``, `\`${key.file}\``, key.fallback === '' ? told[at]?.[2] : key.fallback]);
  expect(told).toEqual(listed);
});

test('no link between the documents is broken', () => {
  const broken = DOCUMENTS.flatMap((path) =>
    [...read(path).matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, target = '']) => {
      if (/^[a-z]+:/.test(target)) return [];
      const [file = '', anchor] = target.split('#');
      const at = file === '' ? join(repositoryFolder, path) : join(repositoryFolder, dirname(path), file);
      if (!existsSync(at)) return [`${path}: ${target}`];
      return anchor === undefined || anchorsOf(read(relative(repositoryFolder, at))).includes(anchor) ? [] : [`${path}: ${target}`];
    }),
  );
  expect(DOCUMENTS.length).toBeGreaterThan(10);
  expect(broken).toEqual([]);
});

test('every npm command, campaign and bench that the documents name exists', () => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
  const named = DOCUMENTS.flatMap((path) =>
    codeOf(read(path)).flatMap((code) =>
      [...code.matchAll(/npm (?:run (?:-s )?)?([a-z][a-z:]*)(?: -- ([a-z]+))?/g)].map(([, script = '', first]) => ({
        path,
        script,
        first,
      })),
    ),
  );
  expect(named.length).toBeGreaterThan(10);
  expect(named.filter(({ script }) => scripts[script] === undefined)).toEqual([]);
  const folders: Readonly<Record<string, string>> = { campaign: 'campaigns', bench: 'bench' };
  const absent = named.filter(
    ({ script, first }) =>
      folders[script] !== undefined &&
      first !== undefined &&
      !existsSync(join(repositoryFolder, 'packages/testbed/src', folders[script], `${first}.ts`)),
  );
  expect(absent).toEqual([]);
});

test('every meridian and meridian-index command that the documents name exists', async () => {
  const texts = DOCUMENTS.map(read);
  for (const program of ['meridian', 'meridian-index'] as const) {
    const named = commandsNamed(program, texts);
    expect(named.length).toBeGreaterThan(4);
    const help = async (...words: string[]): Promise<string> => (await runCommand(program, [...words, '--help'], {})).stdout;
    const groups = [...new Set(named.map((words) => words.split(' ')[0] ?? '').filter((first) => GROUPS.includes(first)))];
    const known = new Map(
      await Promise.all(
        ['', ...groups].map(async (group) => [group, await help(...group.split(' ').filter((word) => word !== ''))] as const),
      ),
    );
    const isKnown = (group: string, word: string): boolean => new RegExp(`^  ${word}\\b`, 'm').test(known.get(group) ?? '');
    const unknown = named.filter((words) => {
      const [first = '', second] = words.split(' ');
      return !isKnown('', first) || (second !== undefined && GROUPS.includes(first) && !isKnown(first, second));
    });
    expect(unknown).toEqual([]);
  }
}, 60_000);
