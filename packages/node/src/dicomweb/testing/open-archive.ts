import { mkdtemp, rm } from 'node:fs/promises';
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { silentLog } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import { systemClock } from '@meridian/shared/platform/clock';
import { systemRandom } from '@meridian/shared/platform/random';
import { firstString, sequenceItems, type DicomJson } from '../../dicom/json.ts';
import { TAG } from '../../dicom/tags.ts';
import { openHttp, type HttpServer } from '../../http/http-server.ts';
import { openStore, type Store } from '../../store/store.ts';
import { dicomwebDoor } from '../dicomweb.ts';
import { readMultipart } from '../multipart-reader.ts';
import { parseMediaType } from '../media-types.ts';
import type { DicomwebParts } from '../parts.ts';
import { openRenderer, type Renderer } from '../renderer.ts';

/** A store and its DICOMweb door on a real socket, for tests. */
export interface Archive {
  readonly store: Store;
  readonly http: HttpServer;
  readonly renderer: Renderer;
  close(): Promise<void>;
}

/** An HTTP answer, read whole. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  json<Value>(): Value;
  /** Bodies of a multipart answer. */
  parts(): Promise<{ headers: ReadonlyMap<string, string>; body: Buffer }[]>;
}

export async function openArchive({
  storeClock = systemClock,
  ...overrides
}: Partial<DicomwebParts> & { readonly storeClock?: Clock } = {}): Promise<Archive> {
  const folder = await mkdtemp(path.join(tmpdir(), 'meridian-dicomweb-'));
  const store = await openStore({ folder, clock: storeClock, random: systemRandom, log: silentLog, limits: { minimumFreeFraction: 0 } });
  const http = await openHttp({ host: '127.0.0.1', port: 0, log: silentLog, limits: { closeGraceMs: 100 } });
  const renderer = openRenderer();
  await http.mount(
    dicomwebDoor({ store, assigningAuthority: 'HOSPITAL A', coercionFor: () => undefined, renderer, log: silentLog, ...overrides }),
  );
  await http.ready();
  return {
    store,
    http,
    renderer,
    close: async () => {
      await http.close();
      await renderer.close();
      await store.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

export interface AskOptions {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Written piece by piece. */
  readonly body?: Buffer | readonly Buffer[];
}

export function ask(archive: Archive, address: string, options: AskOptions = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      {
        host: '127.0.0.1',
        port: archive.http.port,
        path: `/dicomweb${address}`,
        method: options.method ?? 'GET',
        headers: options.headers ?? {},
      },
      (response) => {
        const chunks: Buffer[] = [];
        response
          .on('data', (chunk: Buffer) => chunks.push(chunk))
          .on('error', reject)
          .on('end', () => {
            const body = Buffer.concat(chunks);
            resolve({
              status: response.statusCode ?? 0,
              headers: response.headers,
              body,
              json: <Value>() => JSON.parse(body.toString('utf8')) as Value,
              parts: () => split(body, response.headers['content-type'] ?? ''),
            });
          });
      },
    );
    request.on('error', reject);
    for (const piece of options.body instanceof Buffer ? [options.body] : (options.body ?? [])) request.write(piece);
    request.end();
  });
}

async function split(body: Buffer, contentType: string): Promise<{ headers: ReadonlyMap<string, string>; body: Buffer }[]> {
  const found: { headers: ReadonlyMap<string, string>; body: Buffer }[] = [];
  async function* once(): AsyncGenerator<Buffer> {
    yield body;
  }
  for await (const part of readMultipart(once(), parseMediaType(contentType)?.parameters.get('boundary') ?? '')) {
    const chunks: Buffer[] = [];
    for await (const chunk of part.body) chunks.push(chunk);
    found.push({ headers: part.headers, body: Buffer.concat(chunks) });
  }
  return found;
}

export const STOW_TYPE = 'multipart/related; type="application/dicom"; boundary=BOUNDARY';

/** Stores files and insists that all were taken. */
export async function store(archive: Archive, files: readonly Buffer[]): Promise<DicomJson> {
  const answer = await stow(archive, files);
  if (answer.status !== 200) throw new Error(`not all stored: ${answer.body.toString()}`);
  return answer.json<DicomJson>();
}

/** Items of a sequence in an answer. */
export function itemsOf(dataset: DicomJson, tag: string): DicomJson[] {
  return [...sequenceItems(dataset, tag)];
}

/** Where the first stored instance of an answer is retrieved, behind `/dicomweb`. */
export function retrieveAddress(dataset: DicomJson): string {
  return new URL(firstString(itemsOf(dataset, TAG.ReferencedSOPSequence)[0] ?? {}, TAG.RetrieveURL) ?? '').pathname.replace(
    '/dicomweb',
    '',
  );
}

/** A STOW body of these files. */
export function stowBody(files: readonly Buffer[], partHeader = 'Content-Type: application/dicom\r\n'): Buffer[] {
  return [...files.flatMap((file) => [Buffer.from(`\r\n--BOUNDARY\r\n${partHeader}\r\n`), file]), Buffer.from('\r\n--BOUNDARY--\r\n')];
}

export function stow(archive: Archive, files: readonly Buffer[], address = '/studies'): Promise<Answer> {
  return ask(archive, address, {
    method: 'POST',
    headers: { 'content-type': STOW_TYPE, accept: 'application/dicom+json' },
    body: stowBody(files),
  });
}
