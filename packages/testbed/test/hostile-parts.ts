import { readFileSync } from 'node:fs';
import { associateRequest, command, CT, dataPdu, EXPLICIT_LITTLE, RawPeer } from '@meridian/node/dimse/testing/raw-peer';
import { CN_RESIDENT_ID_ISSUER } from '@meridian/shared/identifiers';
import { openLog, type Logger } from '@meridian/shared/log';
import { type Element, gb18030, utf8, writeDataSet } from '../src/data/data-set-writer.ts';
import { type Person, uidFrom } from '../src/data/studies.ts';
import type { Hospital } from '../src/network.ts';
import { sendAll, type StoredObject } from '../src/modality.ts';
import { dataSetOfPart10Response } from '../src/part10-response.ts';

/** One CT image as its sender knows it. */
export interface Image extends StoredObject {
  readonly studyInstanceUid: string;
  readonly seriesInstanceUid: string;
}

/** A small CT image in Explicit VR Little Endian; the same words make the same UIDs. */
export function image(order: {
  study: string;
  number?: number;
  person: Person;
  patientId: string;
  date?: string;
  pixelBytes?: number;
  fill?: number;
  sopInstanceUid?: string;
  charset?: 'utf8' | 'gb18030';
}): Image {
  const { study, number = 1, person, patientId, date = '20260311', pixelBytes = 2048, fill = number } = order;
  const coding = order.charset === 'gb18030' ? gb18030() : utf8;
  const uids = {
    studyInstanceUid: uidFrom('hostile-study', study),
    seriesInstanceUid: uidFrom('hostile-series', study),
    sopInstanceUid: order.sopInstanceUid ?? uidFrom('hostile-instance', study, number),
  };
  const national: Element[] = [
    [0x00100020, 'LO', person.residentId ?? ''],
    [0x00100021, 'LO', CN_RESIDENT_ID_ISSUER],
    [0x00100022, 'CS', 'TEXT'],
  ];
  const pixels = Buffer.alloc(pixelBytes, fill);
  // Not all alike, so that nothing on the way can shrink it.
  for (let at = 0; at + 4 <= pixelBytes; at += 4096) pixels.writeUInt32LE((at * 2654435761 + number) >>> 0, at);
  const dataSet = writeDataSet(
    [
      [0x00080005, 'CS', coding.specificCharacterSet],
      [0x00080016, 'UI', CT],
      [0x00080018, 'UI', uids.sopInstanceUid],
      [0x00080020, 'DA', date],
      [0x00080030, 'TM', '101500'],
      [0x00080060, 'CS', 'CT'],
      [0x00081030, 'LO', 'CT'],
      [0x00100010, 'PN', person.name],
      [0x00100020, 'LO', patientId],
      [0x00100030, 'DA', person.birthDate],
      [0x00100040, 'CS', person.sex],
      ...(person.residentId === undefined ? [] : [[0x00101002, 'SQ', [national]] as const]),
      [0x0020000d, 'UI', uids.studyInstanceUid],
      [0x0020000e, 'UI', uids.seriesInstanceUid],
      [0x00200013, 'IS', String(number)],
      [0x00280002, 'US', 1],
      [0x00280004, 'CS', 'MONOCHROME2'],
      [0x00280010, 'US', 32],
      [0x00280011, 'US', pixelBytes / 64],
      [0x00280100, 'US', 16],
      [0x00280101, 'US', 12],
      [0x00280102, 'US', 11],
      [0x00280103, 'US', 0],
      [0x7fe00010, 'OW', pixels],
    ],
    coding,
  );
  return { ...uids, sopClassUid: CT, transferSyntaxUid: EXPLICIT_LITTLE, dataSet };
}

/** The images of one study. */
export function study(order: Parameters<typeof image>[0] & { count: number }): Image[] {
  return Array.from({ length: order.count }, (_, at) => image({ ...order, number: at + 1 }));
}

/** A C-STORE of bytes that need not be what the command says. @returns status and error comment, or the reason of an A-ABORT. */
export async function storeRaw(
  hospital: Pick<Hospital, 'dimsePort' | 'aeTitle'>,
  object: Pick<StoredObject, 'dataSet' | 'sopInstanceUid' | 'transferSyntaxUid'>,
): Promise<{ status: number | undefined; comment: string | undefined }> {
  const peer = await RawPeer.connect(hospital.dimsePort);
  try {
    peer.send(
      associateRequest({
        called: hospital.aeTitle,
        contexts: [{ id: 1, abstractSyntaxUid: CT, transferSyntaxUids: [object.transferSyntaxUid] }],
      }),
    );
    await peer.next();
    peer.send(
      dataPdu(
        1,
        3,
        command([
          [0x0002, CT],
          [0x0100, 1],
          [0x0110, 1],
          [0x0700, 0],
          [0x0800, 0],
          [0x1000, object.sopInstanceUid],
        ]),
      ),
    );
    const fragment = 100_000;
    for (let at = 0; at < object.dataSet.length; at += fragment)
      peer.send(dataPdu(1, at + fragment >= object.dataSet.length ? 2 : 0, object.dataSet.subarray(at, at + fragment)));
    const { status, comment } = await peer.response();
    return { status, comment };
  } finally {
    peer.close();
  }
}

/** Sends images over one association and releases it. @returns the statuses in order. */
export function send(hospital: Hospital, images: readonly StoredObject[]): Promise<number[]> {
  return sendAll({ host: '127.0.0.1', port: hospital.dimsePort, callingAeTitle: 'MODALITY', calledAeTitle: hospital.aeTitle }, images);
}

/** What hospitals said that they had stored, to be asked back byte for byte. */
export class Ledger {
  private readonly accepted: { readonly hospital: Hospital; readonly image: Image }[] = [];

  /** Sends and remembers what was answered by Success. */
  async send(hospital: Hospital, images: readonly Image[]): Promise<void> {
    const statuses = await send(hospital, images);
    const refused = statuses.find((status) => status !== 0);
    if (refused !== undefined) throw new Error(`${hospital.key} answered status 0x${refused.toString(16)}`);
    for (const one of images) this.add(hospital, one);
  }

  add(hospital: Hospital, one: Image): void {
    this.accepted.push({ hospital, image: one });
  }

  /** @throws when one of them is not returned by WADO-RS as it was sent. @returns how many were compared. */
  async assertNothingLost(): Promise<number> {
    for (const { hospital, image: one } of this.accepted) await assertReturned(hospital, one);
    return this.accepted.length;
  }
}

/** WADO-RS gives the data set's bytes as they were sent. */
export async function assertReturned(hospital: Hospital, one: Image): Promise<void> {
  const path = `/dicomweb/studies/${one.studyInstanceUid}/series/${one.seriesInstanceUid}/instances/${one.sopInstanceUid}`;
  const { contentType, body } = await hospital.client.bytes(path, 'multipart/related; type="application/dicom"; transfer-syntax=*');
  if (!dataSetOfPart10Response(contentType, body).equals(one.dataSet))
    throw new Error(`${hospital.key} returned other bytes of ${one.sopInstanceUid}`);
}

/** A log of every level that is kept, to be read by the test. */
export interface KeptLog {
  readonly log: Logger;
  readonly lines: readonly string[];
  /** Lines since the last call of this. */
  news(): string[];
}

export function keepLog(part: string): KeptLog {
  const lines: string[] = [];
  let read = 0;
  return {
    log: openLog({ part, level: 'trace', destination: { write: (line: string) => void lines.push(line) } }),
    lines,
    news: () => {
      const fresh = lines.slice(read);
      read = lines.length;
      return fresh;
    },
  };
}

/** The bytes that would tell who somebody is: names in every part and script, ids, birth date. */
export function wordsOf(person: Person, ...patientIds: readonly string[]): Buffer[] {
  const names = person.name.split(/[=^]/).filter((part) => part.length > 1);
  const words = [person.name, ...names, person.birthDate, ...(person.residentId === undefined ? [] : [person.residentId]), ...patientIds];
  return [...words.map((word) => Buffer.from(word)), ...words.map((word) => gb18030().encode(word))];
}

/** Lines that hold one of the words. */
export function leaks(lines: readonly string[], words: readonly Buffer[]): string[] {
  return lines.filter((line) => words.some((word) => Buffer.from(line).includes(word)));
}

/** The same over files, such as an audit log. */
export function leaksIn(files: readonly string[], words: readonly Buffer[]): string[] {
  return files.flatMap((file) => leaks(readFileSync(file, 'utf8').split('\n'), words));
}

/** An answer of HTTP with its problem document, if it is one. */
export interface HttpAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly body: Readonly<Record<string, unknown>>;
  readonly headers: Headers;
}

export async function request(url: string, init: RequestInit = {}): Promise<HttpAnswer> {
  const response = await fetch(url, { signal: AbortSignal.timeout(60_000), ...init });
  const text = await response.text();
  let body: Record<string, unknown> = {};
  try {
    body = JSON.parse(text) as Record<string, unknown>;
  } catch {
    // Not every answer is JSON.
  }
  return { status: response.status, contentType: response.headers.get('content-type') ?? '', body, headers: response.headers };
}

export function postJson(
  hospital: Hospital,
  path: string,
  body: object,
  headers: Readonly<Record<string, string>> = {},
): Promise<HttpAnswer> {
  return request(`${hospital.url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
}

/** Waits for what comes by itself. @throws Error when it does not. */
export async function until(condition: () => boolean | Promise<boolean>, what: string, limitMs = 30_000): Promise<number> {
  const begin = performance.now();
  while (!(await condition())) {
    if (performance.now() - begin > limitMs) throw new Error(`${what}: not within ${limitMs} ms`);
    await new Promise((wait) => setTimeout(wait, 20));
  }
  return performance.now() - begin;
}
