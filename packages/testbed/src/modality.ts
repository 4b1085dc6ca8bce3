import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { CONTROL_COMMAND, CONTROL_LAST, encodeItem, encodePdu, PDU, PDU_HEADER_BYTES, PDV_HEADER_BYTES } from '@meridian/node/dimse/pdu';

/** What one association may carry. */
export interface ProposedStorage {
  readonly sopClassUid: string;
  readonly transferSyntaxUid: string;
}

/** One object to send. */
export interface StoredObject extends ProposedStorage {
  readonly sopInstanceUid: string;
  readonly dataSet: Buffer;
}

/** A modality with one open association. */
export interface Modality {
  /** Sends one object and waits for the answer. @returns the DIMSE status; 0 is Success. */
  store(object: StoredObject): Promise<number>;
  /** Releases the association in order. */
  release(): Promise<void>;
  /** Cuts the connection, as a machine that loses its power does. */
  destroy(): void;
}

const APPLICATION_CONTEXT = '1.2.840.10008.3.1.1.1';
const OWN_PDU_BYTES = 131_072;
const ANSWER_TIMEOUT_MS = 60_000;

/**
 * Opens an association as a C-STORE SCU does (PS3.8 9.3.2, PS3.7 9.3.1).
 * @throws Error when the association is refused or the connection ends.
 */
export async function openModality(options: {
  readonly host: string;
  readonly port: number;
  readonly callingAeTitle: string;
  readonly calledAeTitle: string;
  readonly storage: readonly ProposedStorage[];
}): Promise<Modality> {
  const socket = connect({ host: options.host, port: options.port, noDelay: true });
  const answers = new AnswerReader(socket);
  await once(socket, 'connect');
  const contexts = uniqueContexts(options.storage);
  socket.write(associateRequest(options.callingAeTitle, options.calledAeTitle, contexts));
  const accept = await answers.next();
  if (accept.type !== PDU.ASSOCIATE_AC) {
    socket.destroy();
    throw new Error(
      accept.type === PDU.ASSOCIATE_RJ
        ? `association refused: result ${accept.body[1]}, source ${accept.body[2]}, reason ${accept.body[3]}`
        : `unexpected answer of type ${accept.type}`,
    );
  }
  const pduBytes = peerPduBytes(accept.body);
  let messageId = 0;
  return {
    async store(object) {
      const context = contexts.findIndex(
        (one) => one.sopClassUid === object.sopClassUid && one.transferSyntaxUid === object.transferSyntaxUid,
      );
      messageId = (messageId % 65_535) + 1;
      const command = storeCommand(object, messageId);
      for (const pdu of dataPdus(2 * context + 1, command, true, pduBytes)) socket.write(pdu);
      for (const pdu of dataPdus(2 * context + 1, object.dataSet, false, pduBytes)) if (!socket.write(pdu)) await answers.drained();
      return statusOf((await answers.next()).body);
    },
    async release() {
      socket.write(encodePdu(PDU.RELEASE_RQ, new Uint8Array(4)));
      await answers.next();
      socket.end();
    },
    destroy: () => void socket.destroy(),
  };
}

/** Sends objects over one association and releases it. @returns the statuses in order. */
export async function sendAll(
  target: { host: string; port: number; callingAeTitle: string; calledAeTitle: string },
  objects: readonly StoredObject[],
): Promise<number[]> {
  if (objects.length === 0) return [];
  const modality = await openModality({ ...target, storage: objects });
  const statuses: number[] = [];
  for (const object of objects) statuses.push(await modality.store(object));
  await modality.release();
  return statuses;
}

function uniqueContexts(storage: readonly ProposedStorage[]): ProposedStorage[] {
  return [...new Map(storage.map((one) => [`${one.sopClassUid}|${one.transferSyntaxUid}`, one])).values()].slice(0, 128);
}

function associateRequest(calling: string, called: string, contexts: readonly ProposedStorage[]): Buffer {
  const head = Buffer.alloc(68);
  head.writeUInt16BE(1, 0);
  head.write(called.padEnd(16), 4, 'latin1');
  head.write(calling.padEnd(16), 20, 'latin1');
  const proposed = contexts.map((context, at) =>
    encodeItem(
      0x20,
      Buffer.concat([
        Buffer.from([2 * at + 1, 0, 0, 0]),
        encodeItem(0x30, Buffer.from(context.sopClassUid)),
        encodeItem(0x40, Buffer.from(context.transferSyntaxUid)),
      ]),
    ),
  );
  const maximumLength = Buffer.alloc(4);
  maximumLength.writeUInt32BE(OWN_PDU_BYTES);
  const user = encodeItem(
    0x50,
    Buffer.concat([
      encodeItem(0x51, maximumLength),
      encodeItem(0x52, Buffer.from('2.25.190146923750281638471')),
      encodeItem(0x55, Buffer.from('TESTBED')),
    ]),
  );
  return encodePdu(PDU.ASSOCIATE_RQ, Buffer.concat([head, encodeItem(0x10, Buffer.from(APPLICATION_CONTEXT)), ...proposed, user]));
}

function peerPduBytes(accept: Buffer): number {
  for (let at = 68; at + 4 <= accept.length; at += 4 + accept.readUInt16BE(at + 2)) {
    if (accept[at] !== 0x50) continue;
    if (accept[at + 4] === 0x51) return accept.readUInt32BE(at + 8) || 1 << 20;
  }
  return 16_384;
}

function storeCommand(object: StoredObject, messageId: number): Buffer {
  const short = (value: number): Buffer => Buffer.from([value & 0xff, value >> 8]);
  const uid = (text: string): Buffer => Buffer.from(text.length % 2 === 0 ? text : `${text}\0`, 'latin1');
  const elements: [number, Buffer][] = [
    [0x0002, uid(object.sopClassUid)],
    [0x0100, short(0x0001)],
    [0x0110, short(messageId)],
    [0x0700, short(0)],
    [0x0800, short(1)],
    [0x1000, uid(object.sopInstanceUid)],
  ];
  const body = Buffer.concat(elements.map(([element, value]) => commandElement(element, value)));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(body.length);
  return Buffer.concat([commandElement(0x0000, length), body]);
}

function commandElement(element: number, value: Buffer): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt16LE(element, 2);
  head.writeUInt32LE(value.length, 4);
  return Buffer.concat([head, value]);
}

function* dataPdus(contextId: number, bytes: Buffer, isCommand: boolean, pduBytes: number): Generator<Buffer> {
  const room = (Math.min(pduBytes, OWN_PDU_BYTES) - PDV_HEADER_BYTES) & ~1;
  for (let at = 0; at === 0 || at < bytes.length; at += room) {
    const fragment = bytes.subarray(at, at + room);
    const head = Buffer.alloc(PDV_HEADER_BYTES);
    head.writeUInt32BE(fragment.length + 2, 0);
    head[4] = contextId;
    head[5] = (isCommand ? CONTROL_COMMAND : 0) | (at + room >= bytes.length ? CONTROL_LAST : 0);
    yield encodePdu(PDU.DATA, Buffer.concat([head, fragment]));
  }
}

/** Status (0000,0900) of a response in one P-DATA-TF. */
function statusOf(body: Buffer): number {
  for (let at = PDV_HEADER_BYTES; at + 8 <= body.length; at += 8 + body.readUInt32LE(at + 4)) {
    if (body.readUInt16LE(at) === 0 && body.readUInt16LE(at + 2) === 0x0900) return body.readUInt16LE(at + 8);
  }
  throw new Error('a response without a status');
}

interface Answer {
  readonly type: number;
  readonly body: Buffer;
}

/** Whole PDUs from the socket, in order. */
class AnswerReader {
  private held: Buffer = Buffer.alloc(0);
  private readonly ready: Answer[] = [];
  private failure: Error | undefined;
  private wake: (() => void) | undefined;
  private readonly socket: Socket;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => this.push(chunk));
    socket.on('error', (error) => this.fail(error));
    socket.on('close', () => this.fail(new Error('the connection ended')));
  }

  async next(): Promise<Answer> {
    const deadline = setTimeout(() => this.fail(new Error('no answer in time')), ANSWER_TIMEOUT_MS);
    try {
      for (;;) {
        const answer = this.ready.shift();
        if (answer !== undefined) return answer;
        if (this.failure !== undefined) throw this.failure;
        await new Promise<void>((resolve) => {
          this.wake = resolve;
        });
      }
    } finally {
      clearTimeout(deadline);
    }
  }

  /** Until the socket takes more; an end of the connection wakes too. */
  async drained(): Promise<void> {
    if (this.failure !== undefined) throw this.failure;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        this.socket.off('drain', done);
        this.socket.off('close', done);
        resolve();
      };
      this.socket.on('drain', done);
      this.socket.on('close', done);
    });
    if (this.failure !== undefined) throw this.failure;
  }

  private push(chunk: Buffer): void {
    this.held = this.held.length === 0 ? chunk : Buffer.concat([this.held, chunk]);
    while (this.held.length >= PDU_HEADER_BYTES) {
      const end = PDU_HEADER_BYTES + this.held.readUInt32BE(2);
      if (this.held.length < end) break;
      this.ready.push({ type: this.held[0] ?? 0, body: Buffer.from(this.held.subarray(PDU_HEADER_BYTES, end)) });
      this.held = this.held.subarray(end);
    }
    this.wake?.();
  }

  private fail(error: Error): void {
    this.failure ??= error;
    this.wake?.();
  }
}
