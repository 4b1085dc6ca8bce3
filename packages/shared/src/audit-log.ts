import { createReadStream } from 'node:fs';
import { mkdir, open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { asMeshError, MeshError } from './errors.ts';
import { sha256 } from './identifiers.ts';
import type { Clock } from './platform/clock.ts';
import type { Random } from './platform/random.ts';

/** What happened; never person ids, names or birth dates. */
export interface AuditEvent {
  readonly type:
    | 'STORE'
    | 'QUERY'
    | 'GRANT'
    | 'DENY'
    | 'RELEASE'
    | 'RECEIVE'
    | 'VIEW'
    | 'EXPORT'
    | 'CONSENT'
    | 'REVOKE'
    | 'RECALL'
    | 'BTG'
    | 'LOGIN'
    | 'ADMIN'
    | 'CERT';
  /** Id of the grant; joins GRANT, RELEASE and RECEIVE. */
  readonly jti?: string;
  readonly study?: string;
  /** Node id of the other side. */
  readonly peer?: string;
  /** Pseudonym of the person who acts. */
  readonly subject?: string;
  readonly reason?: string;
  readonly bytes?: number;
  readonly instances?: number;
  readonly detail?: Readonly<Record<string, string | number>>;
}

/** An event as it stands in the log, chained to the one before. */
export interface AuditRecord extends AuditEvent {
  readonly v: 1;
  /** 1, 2, 3… */
  readonly seq: number;
  readonly id: string;
  /** RFC 3339. */
  readonly at: string;
  /** Hex SHA-256 of the line before; 64 zeros for the first. */
  readonly previous: string;
}

/** An append-only log of what was done with whose images, durable before anything is released. */
export interface AuditLog {
  /**
   * Resolves once the event is on disk (fdatasync); events that come together share one flush.
   * @throws MeshError RESOURCE_EXHAUSTED / AUDIT_UNWRITABLE: then nothing may be granted, released or shown.
   *   INVALID_ARGUMENT / AUDIT_EVENT_TOO_LARGE for an event over 15 KiB: it alone is refused.
   */
  append(event: AuditEvent): Promise<void>;
  /** All records from the first on. @throws MeshError DATA_LOSS / AUDIT_CHAIN_BROKEN where one was altered or removed. */
  entries(): AsyncIterable<AuditRecord>;
  close(): Promise<void>;
}

interface Waiting {
  readonly event: AuditEvent;
  resolve(): void;
  reject(error: MeshError): void;
}

const FIRST_PREVIOUS = '0'.repeat(64);
const TAIL_BYTES = 64 * 1024;
/** With what the log adds to it, a line stays below 16 KiB. */
const MAX_EVENT_BYTES = 15 * 1024;

/** Opens (or begins) the audit log of a data folder: `audit.jsonl`, one JSON record a line. */
export async function openAuditLog(parts: { readonly folder: string; readonly clock: Clock; readonly random: Random }): Promise<AuditLog> {
  await mkdir(parts.folder, { recursive: true, mode: 0o700 });
  const path = join(parts.folder, 'audit.jsonl');
  const file = await open(path, 'a+', 0o600);
  const end = await readEnd(file);
  const writer = new AuditWriter(file, end, parts);
  return { append: (event) => writer.append(event), entries: () => readRecords(path), close: () => writer.close() };
}

class AuditWriter {
  private readonly file: FileHandle;
  private readonly parts: { readonly clock: Clock; readonly random: Random };
  private end: End;
  private waiting: Waiting[] = [];
  private flushing: Promise<void> | undefined;
  private closed = false;

  constructor(file: FileHandle, end: End, parts: { readonly clock: Clock; readonly random: Random }) {
    this.file = file;
    this.end = end;
    this.parts = parts;
  }

  append(event: AuditEvent): Promise<void> {
    if (this.closed) return Promise.reject(unwritable('it is closed'));
    // Before it joins a group: what one caller brings in must not refuse the events of the others.
    if (Buffer.byteLength(JSON.stringify(event), 'utf8') > MAX_EVENT_BYTES) {
      return Promise.reject(
        new MeshError(
          'INVALID_ARGUMENT',
          'AUDIT_EVENT_TOO_LARGE',
          `An audit event is at most ${MAX_EVENT_BYTES} bytes. What it was about was not done.`,
        ),
      );
    }
    return new Promise((resolve, reject) => {
      this.waiting.push({ event, resolve, reject });
      this.flushing ??= this.flushAll().finally(() => (this.flushing = undefined));
    });
  }

  async close(): Promise<void> {
    this.closed = true;
    await this.flushing;
    await this.file.close();
  }

  private async flushAll(): Promise<void> {
    // Let every append of this turn join the group.
    await Promise.resolve();
    while (this.waiting.length > 0) {
      const group = this.waiting;
      this.waiting = [];
      await this.flush(group);
    }
  }

  private async flush(group: readonly Waiting[]): Promise<void> {
    try {
      const { text, end } = this.linesOf(group);
      const bytes = Buffer.from(text, 'utf8');
      await this.file.appendFile(bytes);
      await this.file.datasync();
      this.end = { ...end, length: this.end.length + bytes.length };
    } catch (cause) {
      // What may stand there half written was promised to nobody.
      await this.file.truncate(this.end.length).catch(() => undefined);
      const error = unwritable(asMeshError(cause).message, cause);
      for (const waiting of group) waiting.reject(error);
      return;
    }
    for (const waiting of group) waiting.resolve();
  }

  private linesOf(group: readonly Waiting[]): { text: string; end: Omit<End, 'length'> } {
    let { seq, previous } = this.end;
    let text = '';
    for (const { event } of group) {
      seq += 1;
      const record: AuditRecord = {
        v: 1,
        seq,
        id: this.parts.random.uuid(),
        at: new Date(this.parts.clock.now()).toISOString(),
        ...event,
        previous,
      };
      const line = JSON.stringify(record);
      previous = sha256(line).toString('hex');
      text += `${line}\n`;
    }
    return { text, end: { seq, previous } };
  }
}

interface End {
  readonly seq: number;
  readonly previous: string;
  /** Bytes that are whole lines. */
  readonly length: number;
}

/** Where the log ends; a line torn by a power cut was promised to nobody and is cut off. */
async function readEnd(file: FileHandle): Promise<End> {
  const { size } = await file.stat();
  const start = Math.max(size - TAIL_BYTES, 0);
  const tail = Buffer.alloc(size - start);
  await file.read(tail, 0, tail.length, start);
  const lastNewline = tail.lastIndexOf(0x0a);
  const length = lastNewline === -1 ? 0 : start + lastNewline + 1;
  if (lastNewline === -1 && start > 0) throw chainBroken();
  if (length < size) {
    await file.truncate(length);
    await file.datasync();
  }
  if (length === 0) return { seq: 0, previous: FIRST_PREVIOUS, length: 0 };
  const line = tail.subarray(tail.lastIndexOf(0x0a, lastNewline - 1) + 1, lastNewline).toString('utf8');
  return { seq: parseRecord(line).seq, previous: sha256(line).toString('hex'), length };
}

async function* readRecords(path: string): AsyncIterable<AuditRecord> {
  let seq = 0;
  let previous = FIRST_PREVIOUS;
  for await (const line of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
    const record = parseRecord(line);
    seq += 1;
    if (record.seq !== seq || record.previous !== previous) throw chainBroken();
    previous = sha256(line).toString('hex');
    yield record;
  }
}

function parseRecord(line: string): AuditRecord {
  try {
    return JSON.parse(line) as AuditRecord;
  } catch (cause) {
    throw chainBroken(cause);
  }
}

function chainBroken(cause?: unknown): MeshError {
  return new MeshError(
    'DATA_LOSS',
    'AUDIT_CHAIN_BROKEN',
    'The audit log was altered or damaged: a record does not follow from the one before. Keep the file as it is and tell the privacy officer.',
    { cause },
  );
}

function unwritable(why: string, cause?: unknown): MeshError {
  return new MeshError(
    'RESOURCE_EXHAUSTED',
    'AUDIT_UNWRITABLE',
    `The audit log cannot be written (${why}), so nothing is granted, released or shown. Free the disk and try again.`,
    { cause },
  );
}
