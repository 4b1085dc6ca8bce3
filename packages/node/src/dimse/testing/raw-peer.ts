import { connect, type Socket } from 'node:net';
import { once } from 'node:events';
import { encodeItem, encodePdu, PDU } from '../pdu.ts';

/** CT Image Storage. */
export const CT = '1.2.840.10008.5.1.4.1.1.2';
export const EXPLICIT_LITTLE = '1.2.840.10008.1.2.1';
export const RELEASE = encodePdu(PDU.RELEASE_RQ, new Uint8Array(4));

/** A presentation context to propose. */
export interface Propose {
  readonly id: number;
  readonly abstractSyntaxUid: string;
  readonly transferSyntaxUids: readonly string[];
}

/** An A-ASSOCIATE-RQ as a stranger would write it. */
export function associateRequest({
  called = 'MERIDIAN',
  calling = 'MODALITY',
  contexts = [{ id: 1, abstractSyntaxUid: CT, transferSyntaxUids: [EXPLICIT_LITTLE] }],
  applicationContextUid = '1.2.840.10008.3.1.1.1',
  protocolVersion = 1,
  pduBytes = 16384,
  extraUserItems = [],
}: {
  called?: string;
  calling?: string;
  contexts?: readonly Propose[];
  applicationContextUid?: string;
  protocolVersion?: number;
  pduBytes?: number;
  extraUserItems?: readonly Buffer[];
} = {}): Buffer {
  const head = Buffer.alloc(68);
  head.writeUInt16BE(protocolVersion, 0);
  head.write(called.padEnd(16), 4, 'latin1');
  head.write(calling.padEnd(16), 20, 'latin1');
  const maximum = Buffer.alloc(4);
  maximum.writeUInt32BE(pduBytes);
  return encodePdu(
    PDU.ASSOCIATE_RQ,
    Buffer.concat([
      head,
      encodeItem(0x10, Buffer.from(applicationContextUid)),
      ...contexts.map((context) =>
        encodeItem(
          0x20,
          Buffer.concat([
            Uint8Array.of(context.id, 0, 0, 0),
            encodeItem(0x30, Buffer.from(context.abstractSyntaxUid)),
            ...context.transferSyntaxUids.map((uid) => encodeItem(0x40, Buffer.from(uid))),
          ]),
        ),
      ),
      encodeItem(0x50, Buffer.concat([encodeItem(0x51, maximum), encodeItem(0x52, Buffer.from('1.2.3')), ...extraUserItems])),
    ]),
  );
}

/** A command set from [element number, value] pairs of group 0000. */
export function command(elements: readonly (readonly [number, number | string])[]): Buffer {
  return Buffer.concat(
    elements.map(([tag, value]) => {
      const bytes =
        typeof value === 'number' ? Buffer.of(value & 255, value >> 8) : Buffer.from(value.length % 2 === 0 ? value : `${value}\0`);
      const head = Buffer.alloc(8);
      head.writeUInt16LE(tag, 2);
      head.writeUInt32LE(bytes.length, 4);
      return Buffer.concat([head, bytes]);
    }),
  );
}

/** A C-STORE-RQ; `data: false` says that no data set follows. */
export function storeCommand({
  data = true,
  sopInstanceUid = '1.2.3.4',
  messageId = 7,
}: { data?: boolean; sopInstanceUid?: string; messageId?: number } = {}): Buffer {
  return command([
    [0x0002, CT],
    [0x0100, 1],
    [0x0110, messageId],
    [0x0700, 0],
    [0x0800, data ? 0 : 0x0101],
    [0x1000, sopInstanceUid],
  ]);
}

export function echoCommand(messageId = 1): Buffer {
  return command([
    [0x0002, '1.2.840.10008.1.1'],
    [0x0100, 0x30],
    [0x0110, messageId],
    [0x0800, 0x0101],
  ]);
}

/** One fragment as a P-DATA-TF PDU. Control: 1 command, 2 last. */
export function dataPdu(contextId: number, control: number, fragment: Uint8Array): Buffer {
  return encodePdu(PDU.DATA, pdv(contextId, control, fragment));
}

export function pdv(contextId: number, control: number, fragment: Uint8Array): Buffer {
  const head = Buffer.alloc(6);
  head.writeUInt32BE(fragment.length + 2);
  head[4] = contextId;
  head[5] = control;
  return Buffer.concat([head, fragment]);
}

/** A whole valid association: request, one C-STORE in several PDUs, release. */
export function wholeStream(dataSet: Buffer, fragmentBytes = 1000): Buffer {
  const parts = [associateRequest(), dataPdu(1, 3, storeCommand())];
  for (let at = 0; at < dataSet.length; at += fragmentBytes) {
    parts.push(dataPdu(1, at + fragmentBytes >= dataSet.length ? 2 : 0, dataSet.subarray(at, at + fragmentBytes)));
  }
  return Buffer.concat([...parts, RELEASE]);
}

/** A stranger's end of a connection: writes any bytes, reads PDUs. */
export class RawPeer {
  readonly socket: Socket;
  #bytes = Buffer.alloc(0);
  #ended = false;
  #wake: (() => void) | undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#wake?.();
    });
    socket.on('error', () => undefined);
    for (const event of ['end', 'close']) {
      socket.on(event, () => {
        this.#ended = true;
        this.#wake?.();
      });
    }
  }

  static async connect(port: number): Promise<RawPeer> {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    await once(socket, 'connect');
    socket.setNoDelay(true);
    return new RawPeer(socket);
  }

  send(...bytes: readonly Uint8Array[]): void {
    if (this.socket.writable) this.socket.write(Buffer.concat(bytes));
  }

  /** The next PDU, or undefined once the other side has closed. */
  async next(): Promise<{ readonly type: number; readonly body: Buffer } | undefined> {
    for (;;) {
      if (this.#bytes.length >= 6) {
        const end = 6 + this.#bytes.readUInt32BE(2);
        if (this.#bytes.length >= end) {
          const pdu = { type: this.#bytes[0] ?? 0, body: Buffer.from(this.#bytes.subarray(6, end)) };
          this.#bytes = this.#bytes.subarray(end);
          return pdu;
        }
      }
      if (this.#ended) return undefined;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** The next PDU as a DIMSE response. */
  async response(): Promise<{
    readonly status: number | undefined;
    readonly field: number | undefined;
    readonly comment: string | undefined;
    readonly pduType: number | undefined;
  }> {
    const pdu = await this.next();
    const elements = new Map<number, Buffer>();
    if (pdu?.type === PDU.DATA) {
      const set = pdu.body.subarray(6);
      for (let at = 0; at + 8 <= set.length;) {
        const end = at + 8 + set.readUInt32LE(at + 4);
        elements.set(set.readUInt16LE(at + 2), set.subarray(at + 8, end));
        at = end;
      }
    }
    return {
      status: elements.get(0x0900)?.readUInt16LE(0),
      field: elements.get(0x0100)?.readUInt16LE(0),
      comment: elements.get(0x0902)?.toString('latin1').trim(),
      pduType: pdu?.type,
    };
  }

  /** Everything until the other side closes; then closes too. */
  async rest(): Promise<readonly { readonly type: number; readonly body: Buffer }[]> {
    const pdus = [];
    for (let pdu = await this.next(); pdu !== undefined; pdu = await this.next()) pdus.push(pdu);
    return pdus;
  }

  /** The reason of the A-ABORT that must come next. */
  async abortReason(): Promise<number | string | undefined> {
    const pdu = await this.next();
    return pdu?.type === PDU.ABORT ? pdu.body[3] : `PDU ${pdu?.type ?? 'none'}`;
  }

  close(): void {
    this.socket.destroy();
  }
}
