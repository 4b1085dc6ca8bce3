import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { HOSPITALS, type HospitalKey, LI, WANG } from '../src/demo/cast.ts';
import { type StorySummary, tellStory } from '../src/demo/story.ts';
import { countRows, findInDatabase } from '../src/database-dump.ts';
import { gb18030 } from '../src/data/data-set-writer.ts';
import { type Network, openNetwork } from '../src/network.ts';

let folder = '';
let network: Network<HospitalKey>;
let summary: StorySummary;
const told: string[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'meridian-journey-'));
  network = await openNetwork({ folder, hospitals: HOSPITALS });
  summary = await tellStory(network, { chapter: (title) => told.push(title), say: (line) => told.push(line), progress: () => undefined });
}, 120_000);

afterAll(async () => {
  await network?.close();
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

/** Two Latin letters stand in any base64 by chance; five do not. */
function isTelling(word: string): boolean {
  return /^[\x20-\x7e]+$/.test(word) ? word.length >= 5 : word.length >= 1;
}

test('a study travels from a scanner to a doctor in another hospital, under consent only', () => {
  expect(summary.remoteStudiesFound).toBeGreaterThanOrEqual(3);
  expect(summary.refusedWithoutConsent).toBeGreaterThanOrEqual(1);
  expect(summary.refusedAfterRevocation).toBeGreaterThanOrEqual(2);
  expect(summary.instancesTransferred).toBe(128);
  expect(summary.bytesTransferred).toBeGreaterThan(40_000_000);
  expect(summary.digestMismatches).toBe(0);
  expect(summary.coverage).toEqual({ asked: 3, answered: 3, notAsked: 0 });
  expect(summary.firstImageMs).toBeGreaterThan(0);
});

test('two people with one local id stay two people', () => {
  expect(summary.patientsJoinedWrongly).toBe(0);
});

test('the index holds no person id, name or birth date, and the same search finds them at a node', () => {
  const people = [WANG, LI];
  const words = people
    .flatMap((person) => [person.residentId, person.birthDate, ...person.name.split(/[=^]/), person.name, 'B-20931', 'C-5582', 'P1001'])
    .filter(isTelling);
  const inGb18030 = people.map((person) => gb18030().encode(person.name.split('^').at(-1) ?? ''));
  expect(findInDatabase(network.index.databasePath, words, inGb18030)).toEqual([]);

  const node = join(folder, 'a');
  const files = readdirSync(node, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.sqlite'));
  const found = new Set(files.flatMap((file) => findInDatabase(join(node, file), words)).map(({ word }) => word));
  expect([...found]).toEqual(expect.arrayContaining([WANG.residentId, WANG.birthDate, '秀英']));
});

test("the index's tables hold no instance rows", () => {
  const rows = countRows(network.index.databasePath);
  expect([...rows.keys()].filter((table) => /instance/i.test(table))).toEqual([]);
  expect(rows.get('study')).toBeGreaterThanOrEqual(4);
  expect(Math.max(...rows.values())).toBeLessThan(summary.instancesStored);
});

test('the story names no full person id', () => {
  expect(told.filter((line) => line.includes(WANG.residentId))).toEqual([]);
});
