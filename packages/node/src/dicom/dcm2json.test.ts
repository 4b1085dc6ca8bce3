import { execFile } from 'node:child_process';
import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { expect } from '@jest/globals';
import { testNeeding } from '@meridian/shared/testing/needs';
import type { DicomJson, DicomJsonElement, DicomJsonValue } from './json.ts';
import { readFile, sample, samples } from './testing/sample-files.ts';
import type { Sample } from './testing/sample-files.ts';
import { isEncapsulated } from './transfer-syntaxes.ts';

/** Elements that dcm2json leaves out or rewrites by design: meta, group lengths, character set (it writes UTF-8), pixel data, trailing padding. */
const isApart = (tag: string): boolean =>
  tag.startsWith('0002') || tag.endsWith('0000') || ['00080005', '7FE00010', '7FE00009', 'FFFCFFFC'].includes(tag);
const NUMERIC = new Set(['DS', 'IS', 'FD', 'UL', 'SL', 'US', 'SS', 'SV', 'UV', 'FL']);

function normalValue(vr: string, value: DicomJsonValue): unknown {
  if (value === null) return null;
  if (vr === 'SQ') return normal(value as DicomJson);
  if (vr === 'PN')
    return Object.fromEntries(
      Object.entries(value as object)
        .map(([group, text]) => [group, String(text).replace(/[\^ ]+$/, '')])
        .filter(([, text]) => text !== ''),
    );
  if (!NUMERIC.has(vr)) return typeof value === 'string' ? value.replaceAll('\0', '').trim() || null : value;
  const number = Number(typeof value === 'string' ? value.replaceAll('\0', '').trim() : value);
  if (!Number.isFinite(number)) return value;
  // Decimal texts of both programs differ in the last digit of a double.
  return vr === 'FL' ? Math.fround(number) : Number(number.toPrecision(14));
}

function normalElement({ vr, Value, InlineBinary }: DicomJsonElement): unknown {
  const values = (Value ?? [])
    .map((value) => normalValue(vr, value))
    .filter((value, _index, all) => !(all.length === 1 && (value === null || JSON.stringify(value) === '{}') && vr !== 'SQ'));
  return { vr, ...(values.length === 0 ? {} : { values }), ...(InlineBinary === undefined ? {} : { InlineBinary }) };
}

function normal(dataset: DicomJson): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(dataset)
      .filter(([tag]) => !isApart(tag))
      .toSorted(([first], [second]) => (first < second ? -1 : 1))
      .map(([tag, element]) => [tag, normalElement(element)]),
  );
}

/** What dcm2json writes for a file, or undefined where it writes no JSON (it refuses, or leaves control characters in its text). */
async function dcm2json({ file, transferSyntax }: Sample, copy: string): Promise<DicomJson | undefined> {
  const run = promisify(execFile);
  let source = file;
  if (isEncapsulated(transferSyntax)) {
    // It writes no fragments, so pixel data is taken out first.
    copyFileSync(file, copy);
    chmodSync(copy, 0o600);
    await run('dcmodify', ['-q', '-nb', '-imt', '-ea', '(7fe0,0010)', copy]).catch(() => undefined);
    source = copy;
  }
  try {
    await run('dcm2json', ['-q', source, `${copy}.json`]);
    return JSON.parse(readFileSync(`${copy}.json`, 'utf8')) as DicomJson;
  } catch {
    return undefined;
  }
}

testNeeding(
  ['shared data', 'dcmtk'],
  'DICOM JSON of the samples is what dcm2json writes, but for known files',
  async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'meridian-dcm2json-'));
    const different: string[] = [];
    let compared = 0;
    const compare = async (file: Sample, copy: string): Promise<void> => {
      const { name } = file;
      const theirs = await dcm2json(file, copy);
      if (theirs === undefined) return;
      compared++;
      const ours = normal(readFile(sample(name), { limits: { maxKeptValueBytes: 2 ** 31, maxHeaderBytes: 2 ** 31 } }).dataset);
      const reference = normal(theirs);
      const tags = [...new Set([...Object.keys(ours), ...Object.keys(reference)])].filter(
        (tag) => JSON.stringify(ours[tag]) !== JSON.stringify(reference[tag]),
      );
      if (tags.length > 0) different.push(`${name}: ${tags.slice(0, 4).join(' ')}${tags.length > 4 ? ` and ${tags.length - 4} more` : ''}`);
    };
    try {
      const files = samples();
      await Promise.all(
        [0, 1, 2].map(async (lane) => {
          for (let next = files.shift(); next !== undefined; next = files.shift()) await compare(next, path.join(folder, `${lane}.dcm`));
        }),
      );
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
    // Ours differ where dcmtk knows a vendor's private dictionary, and where it leaves elements of the standard as UN that are written so.
    process.stdout.write(
      `dcm2json: ${compared - different.length} of ${compared} identical\n${different
        .toSorted()
        .map((line) => `  ${line}\n`)
        .join('')}`,
    );
    expect(compared).toBeGreaterThan(270);
    expect(different.length).toBeLessThanOrEqual(10);
  },
  120_000,
);
