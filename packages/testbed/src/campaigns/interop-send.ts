import { readFile, rm } from 'node:fs/promises';
import { dcmtk, STORESCU_OPTION, type StoreScp } from '@meridian/node/dimse/testing/dcmtk';
import { dataSetOf, readDataSet, type InteropFile } from './interop-files.ts';

/** Where the node under trial listens. */
export interface Target {
  readonly dimsePort: number;
  readonly aeTitle: string;
  readonly dicomwebUrl: string;
}

/** What became of one file. */
export interface Sent {
  readonly by: 'storescu' | 'dcmsend' | 'stow';
  /** Why it was not stored; undefined for Success. */
  readonly refused?: string;
  /** The bytes that were on the wire, and their transfer syntax. */
  readonly dataSet: Buffer;
  readonly transferSyntaxUid: string;
}

/**
 * Sends a file by dcmtk, and the same way to `storescp +B`, whose file says what was on the wire: dcmtk's senders write
 * lengths anew. By STOW-RS where dcmtk cannot send the file even to itself.
 */
export async function sendFile(options: {
  file: InteropFile;
  prefer: 'storescu' | 'dcmsend';
  target: Target;
  reference: StoreScp;
  signal: AbortSignal;
}): Promise<Sent> {
  const { file, prefer, target, reference, signal } = options;
  const option = STORESCU_OPTION[file.transferSyntaxUid];
  const by = prefer === 'storescu' && option !== undefined ? 'storescu' : 'dcmsend';
  const send = (aeTitle: string, port: number): Promise<string | undefined> => sendByDcmtk({ file, by, option, aeTitle, port, signal });
  const unsendable = await send('REFERENCE', reference.port);
  const [written, ...more] = await reference.files();
  const wire = written === undefined || more.length > 0 ? undefined : await readDataSet(written);
  for (const path of await reference.files()) await rm(path);
  if (unsendable !== undefined || wire === undefined) return await sendByStow(file, target, signal);
  const refused = await send(target.aeTitle, target.dimsePort);
  return { by, ...wire, ...(refused === undefined ? {} : { refused }) };
}

/** @returns why the peer did not answer Success, in dcmtk's words; undefined for Success */
async function sendByDcmtk(options: {
  file: InteropFile;
  by: 'storescu' | 'dcmsend';
  option: string | undefined;
  aeTitle: string;
  port: number;
  signal: AbortSignal;
}): Promise<string | undefined> {
  const { by, option, signal } = options;
  const how = by === 'dcmsend' ? ['--decompress-never', '--no-uid-checks'] : ['-R', ...(option === undefined ? [] : [option])];
  const ran = await dcmtk(by, ['-v', ...how, '-aec', options.aeTitle, '127.0.0.1', String(options.port), options.file.path], { signal });
  const answers = [...ran.output.matchAll(/Received (?:C-)?Store Response \((.*)\)/gi)].map((match) => match[1] ?? '');
  if (ran.exitCode === 0 && answers.length === 1 && answers[0] === 'Success') return undefined;
  return answers[0] ?? /^[EF]: (.*)$/m.exec(ran.output)?.[1] ?? `${by} ended with ${ran.exitCode}`;
}

const BOUNDARY = 'meridian-interop-1';

async function sendByStow(file: InteropFile, target: Target, signal: AbortSignal): Promise<Sent> {
  const { bytes, ...wire } = await wholeFile(file.path);
  const body = Buffer.concat([
    Buffer.from(`--${BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n`),
    bytes,
    Buffer.from(`\r\n--${BOUNDARY}--\r\n`),
  ]);
  const response = await fetch(`${target.dicomwebUrl}/studies`, {
    method: 'POST',
    headers: { 'content-type': `multipart/related; type="application/dicom"; boundary=${BOUNDARY}`, accept: 'application/dicom+json' },
    body,
    signal: AbortSignal.any([signal, AbortSignal.timeout(60_000)]),
  });
  const answer = await response.text();
  return { by: 'stow', ...wire, ...(response.status === 200 ? {} : { refused: `STOW-RS ${response.status}: ${answer.slice(0, 300)}` }) };
}

async function wholeFile(path: string): Promise<{ bytes: Buffer; dataSet: Buffer; transferSyntaxUid: string }> {
  const bytes = await readFile(path);
  return { bytes, ...dataSetOf(bytes) };
}

/**
 * WADO-RS of the one instance, as stored.
 * @throws Error with the status where the answer is no single Part 10 part
 */
export async function retrieve(
  file: InteropFile,
  target: Target,
  signal: AbortSignal,
): Promise<{ readonly dataSet: Buffer; readonly transferSyntaxUid: string }> {
  const url = `${target.dicomwebUrl}/studies/${file.studyInstanceUid}/series/${file.seriesInstanceUid}/instances/${file.sopInstanceUid}`;
  const response = await fetch(url, {
    headers: { accept: 'multipart/related; type="application/dicom"; transfer-syntax=*' },
    signal: AbortSignal.any([signal, AbortSignal.timeout(60_000)]),
  });
  const body = Buffer.from(await response.arrayBuffer());
  if (response.status !== 200) throw new Error(`WADO-RS answered ${response.status}: ${body.toString('utf8', 0, 300)}`);
  const boundary = /boundary="?([^";]+)"?/i.exec(response.headers.get('content-type') ?? '')?.[1];
  if (boundary === undefined) throw new Error('WADO-RS answered without a boundary');
  const head = body.indexOf('\r\n\r\n');
  const tail = body.lastIndexOf(`\r\n--${boundary}--`);
  if (head < 0 || tail < head) throw new Error('WADO-RS answered something other than one whole part');
  return dataSetOf(body.subarray(head + 4, tail));
}
