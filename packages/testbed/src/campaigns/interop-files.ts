import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { dcmtk } from '@meridian/node/dimse/testing/dcmtk';
import { readPart10Start } from '@meridian/node/dicom/part10';

/** A file that a stranger can read to its end and that says which instance it is. */
export interface InteropFile {
  readonly path: string;
  /** Relative to the folder of all files. */
  readonly name: string;
  readonly transferSyntaxUid: string;
  readonly studyInstanceUid: string;
  readonly seriesInstanceUid: string;
  readonly sopInstanceUid: string;
}

/** Files that count, and how many do not. */
export interface InteropFiles {
  readonly files: readonly InteropFile[];
  /** dcmdump ended with an error or said one. */
  readonly unreadable: number;
  /** No SOP class, SOP instance, study or series UID at the top level. */
  readonly withoutUids: number;
}

const UIDS = ['0008,0016', '0008,0018', '0020,000d', '0020,000e'] as const;

/** Looks at every .dcm file below a folder with dcmdump: not our reader decides what counts. */
export async function interopFiles(folder: string, signal: AbortSignal): Promise<InteropFiles> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isFile() && entry.name.endsWith('.dcm'))
    .map((entry) => join(entry.parentPath, entry.name))
    .toSorted();
  const looked = await twoAtATime(paths, (path) => look(folder, path, signal));
  return {
    files: looked.filter((one) => typeof one === 'object'),
    unreadable: looked.filter((one) => one === 'unreadable').length,
    withoutUids: looked.filter((one) => one === 'without-uids').length,
  };
}

async function look(folder: string, path: string, signal: AbortSignal): Promise<InteropFile | 'unreadable' | 'without-uids'> {
  signal.throwIfAborted();
  const ran = await dcmtk('dcmdump', ['-Un', '+p', ...UIDS.flatMap((tag) => ['+P', tag]), path], { signal });
  const [sopClassUid, sopInstanceUid, studyInstanceUid, seriesInstanceUid] = UIDS.map((tag) => topLevelUid(ran.output, tag));
  if (ran.exitCode !== 0 || /^E:/m.test(ran.output)) return 'unreadable';
  if (sopClassUid === undefined || sopInstanceUid === undefined || studyInstanceUid === undefined || seriesInstanceUid === undefined)
    return 'without-uids';
  return {
    path,
    name: relative(folder, path),
    studyInstanceUid,
    seriesInstanceUid,
    sopInstanceUid,
    transferSyntaxUid: (await readDataSet(path)).transferSyntaxUid,
  };
}

/** Works through a list with two workers; results stand in the list's order. */
async function twoAtATime<T, R>(list: readonly T[], work: (one: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  const queue = [...list.entries()];
  const worker = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) results[next[0]] = await work(next[1]);
  };
  await Promise.all([worker(), worker()]);
  return results;
}

/** The bytes of a file after its meta information, and their transfer syntax. */
export async function readDataSet(path: string): Promise<{ readonly dataSet: Buffer; readonly transferSyntaxUid: string }> {
  return dataSetOf(await readFile(path));
}

/** The same of a file in memory. @throws Error where the bytes are no Part 10 file */
export function dataSetOf(bytes: Buffer): { readonly dataSet: Buffer; readonly transferSyntaxUid: string } {
  const start = readPart10Start(bytes, { ended: true });
  if (start === 'need-more') throw new Error('The bytes end before their data set begins.');
  return { dataSet: bytes.subarray(start.metaEndOffset), transferSyntaxUid: start.transferSyntaxUid };
}

/** dcmdump +p writes where an element stands before it; a line that begins with the tag is of the top level. */
function topLevelUid(dump: string, tag: string): string | undefined {
  return new RegExp(`^\\(${tag}\\) UI \\[([0-9.]+)\\]`, 'm').exec(dump)?.[1];
}

/** Files by rounds: no round holds one SOP Instance UID twice, so each round goes to a node of its own. */
export function rounds(files: readonly InteropFile[]): InteropFile[][] {
  const seen = new Map<string, number>();
  const all: InteropFile[][] = [];
  for (const file of files) {
    const round = seen.get(file.sopInstanceUid) ?? 0;
    seen.set(file.sopInstanceUid, round + 1);
    (all[round] ??= []).push(file);
  }
  return all;
}
