import { protocolError } from './protocol-error.ts';
import { PDU, PDU_HEADER_BYTES, PDV_HEADER_BYTES } from './pdu.ts';

/** What the reader tells as bytes arrive. Any method may throw to end the association. */
export interface PduHandler {
  /**
   * A PDU begins.
   * @returns the most bytes its variable field may have, or 'hold' to stop reading until `resume()`.
   */
  pduBegins(type: number): number | 'hold';
  /** A whole PDU other than P-DATA-TF. */
  pdu(type: number, body: Buffer): void;
  pdvBegins(contextId: number, control: number): void;
  /** Bytes of the PDV, as they came; the handler owns them. */
  pdvBytes(bytes: Buffer): void;
  pdvEnds(): void;
  /** A whole P-DATA-TF is through. */
  dataPduEnds(): void;
}

type Step = 'pdu-header' | 'body' | 'pdv-header' | 'pdv';

/**
 * Cuts a byte stream into PDUs (PS3.8 9.3) without ever holding the payload of a P-DATA-TF: fragments are handed on as
 * they come. A lying length is refused at its header, before a byte is kept.
 */
export class PduReader {
  readonly #handler: PduHandler;
  readonly #header = Buffer.alloc(Math.max(PDU_HEADER_BYTES, PDV_HEADER_BYTES));
  #headerFilled = 0;
  #step: Step = 'pdu-header';
  #type = 0;
  /** Bytes of the PDU's variable field that are still to come. */
  #pduLeft = 0;
  /** Bytes of the PDV's fragment that are still to come. */
  #pdvLeft = 0;
  #body: Buffer[] = [];
  #held: Buffer[] = [];
  #holding = false;
  #stopped = false;

  constructor(handler: PduHandler) {
    this.#handler = handler;
  }

  /** True between two PDUs: nothing of the next has come. */
  get atBoundary(): boolean {
    return this.#step === 'pdu-header' && this.#headerFilled === 0 && this.#held.length === 0;
  }

  /** True while a PDU waits for `resume()`. */
  get holding(): boolean {
    return this.#holding;
  }

  push(chunk: Buffer): void {
    if (this.#holding) {
      this.#held.push(chunk);
      return;
    }
    let at = 0;
    while (at < chunk.length && !this.#stopped) {
      at = this.#advance(chunk, at);
      if (this.#holding) {
        if (at < chunk.length) this.#held.push(chunk.subarray(at));
        return;
      }
    }
  }

  /** Goes on with a PDU that was held, and with what came after it. */
  resume(): void {
    if (!this.#holding || this.#stopped) return;
    this.#holding = false;
    const held = this.#held;
    this.#held = [];
    this.#beginPdu();
    for (const chunk of held) this.push(chunk);
  }

  /** Nothing more is told; kept bytes are dropped. */
  stop(): void {
    this.#stopped = true;
    this.#held = [];
    this.#body = [];
  }

  #advance(chunk: Buffer, at: number): number {
    switch (this.#step) {
      case 'pdu-header': {
        const next = this.#fillHeader(chunk, at, PDU_HEADER_BYTES);
        if (this.#headerFilled === PDU_HEADER_BYTES) this.#beginPdu();
        return next;
      }
      case 'pdv-header': {
        const next = this.#fillHeader(chunk, at, PDV_HEADER_BYTES);
        if (this.#headerFilled === PDV_HEADER_BYTES) this.#beginPdv();
        return next;
      }
      case 'body': {
        const next = Math.min(chunk.length, at + this.#pduLeft);
        this.#body.push(chunk.subarray(at, next));
        this.#pduLeft -= next - at;
        if (this.#pduLeft === 0) this.#endBody();
        return next;
      }
      case 'pdv': {
        const next = Math.min(chunk.length, at + this.#pdvLeft);
        this.#pdvLeft -= next - at;
        this.#pduLeft -= next - at;
        this.#handler.pdvBytes(at === 0 && next === chunk.length ? chunk : chunk.subarray(at, next));
        if (this.#pdvLeft === 0) this.#endPdv();
        return next;
      }
    }
  }

  #fillHeader(chunk: Buffer, at: number, size: number): number {
    const next = Math.min(chunk.length, at + size - this.#headerFilled);
    chunk.copy(this.#header, this.#headerFilled, at, next);
    this.#headerFilled += next - at;
    return next;
  }

  #beginPdu(): void {
    this.#type = this.#header[0] ?? 0;
    const most = this.#handler.pduBegins(this.#type);
    if (most === 'hold') {
      this.#holding = true;
      return;
    }
    this.#headerFilled = 0;
    this.#pduLeft = this.#header.readUInt32BE(2);
    if (this.#pduLeft > most)
      throw protocolError(
        'PDU_PARAMETER_INVALID',
        `A PDU of type ${this.#type} states ${this.#pduLeft} bytes; at most ${most} are accepted.`,
      );
    if (this.#type === PDU.DATA) {
      if (this.#pduLeft < PDV_HEADER_BYTES)
        throw protocolError('PDU_PARAMETER_INVALID', 'A P-DATA-TF PDU is too short to hold a presentation data value.');
      this.#step = 'pdv-header';
      return;
    }
    this.#step = 'body';
    if (this.#pduLeft === 0) this.#endBody();
  }

  #endBody(): void {
    const body = this.#body.length === 1 && this.#body[0] !== undefined ? this.#body[0] : Buffer.concat(this.#body);
    this.#body = [];
    this.#step = 'pdu-header';
    this.#handler.pdu(this.#type, body);
  }

  #beginPdv(): void {
    this.#headerFilled = 0;
    // The stated length counts the context id and the control header (PS3.8 9.3.5.1).
    this.#pdvLeft = this.#header.readUInt32BE(0) - 2;
    this.#pduLeft -= PDV_HEADER_BYTES;
    if (this.#pdvLeft < 0 || this.#pdvLeft > this.#pduLeft)
      throw protocolError('PDU_PARAMETER_INVALID', 'A presentation data value states a length that does not fit its PDU.');
    this.#handler.pdvBegins(this.#header[4] ?? 0, this.#header[5] ?? 0);
    this.#step = 'pdv';
    if (this.#pdvLeft === 0) this.#endPdv();
  }

  #endPdv(): void {
    const left = this.#pduLeft;
    this.#step = left === 0 ? 'pdu-header' : 'pdv-header';
    if (left > 0 && left < PDV_HEADER_BYTES)
      throw protocolError('PDU_PARAMETER_INVALID', 'Bytes are left over at the end of a P-DATA-TF PDU.');
    this.#handler.pdvEnds();
    if (left === 0) this.#handler.dataPduEnds();
  }
}
