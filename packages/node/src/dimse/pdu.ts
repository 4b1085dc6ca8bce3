/** PDU types (PS3.8 9.3.1). */
export const PDU = {
  ASSOCIATE_RQ: 1,
  ASSOCIATE_AC: 2,
  ASSOCIATE_RJ: 3,
  DATA: 4,
  RELEASE_RQ: 5,
  RELEASE_RP: 6,
  ABORT: 7,
} as const;

/** Bytes before a PDU's variable field: type, reserved, length. */
export const PDU_HEADER_BYTES = 6;
/** Bytes before a PDV's fragment: length, presentation context id, message control header. */
export const PDV_HEADER_BYTES = 6;

/** Message control header bits (PS3.8 E.2). */
export const CONTROL_COMMAND = 1;
export const CONTROL_LAST = 2;

/** Why an association was not accepted: result, source and reason of an A-ASSOCIATE-RJ (PS3.8 9.3.4). */
export interface Rejection {
  readonly result: 'permanent' | 'transient';
  readonly source: number;
  readonly reason: number;
  readonly sentence: string;
}

/** The rejections that we give. */
export const REJECTIONS = {
  contextUnknown: { result: 'permanent', source: 1, reason: 2, sentence: 'the application context is not DICOM' },
  callingUnknown: { result: 'permanent', source: 1, reason: 3, sentence: 'no rule admits this address and calling AE title' },
  calledUnknown: { result: 'permanent', source: 1, reason: 7, sentence: 'the called AE title is not ours' },
  versionUnknown: { result: 'permanent', source: 2, reason: 2, sentence: 'the protocol version is not 1' },
  tooMany: { result: 'transient', source: 3, reason: 2, sentence: 'too many associations are open' },
} as const satisfies Readonly<Record<string, Rejection>>;

/** A PDU in one buffer, so that it leaves in one write: two small writes cost 40 ms under Nagle and delayed ACK. */
export function encodePdu(type: number, body: Uint8Array): Buffer {
  const pdu = Buffer.allocUnsafe(PDU_HEADER_BYTES + body.length);
  pdu[0] = type;
  pdu[1] = 0;
  pdu.writeUInt32BE(body.length, 2);
  pdu.set(body, PDU_HEADER_BYTES);
  return pdu;
}

/** A-ASSOCIATE-RJ. */
export function encodeReject(rejection: Rejection): Buffer {
  return encodePdu(PDU.ASSOCIATE_RJ, Uint8Array.of(0, rejection.result === 'permanent' ? 1 : 2, rejection.source, rejection.reason));
}

/** A-RELEASE-RP. */
export function encodeReleaseReply(): Buffer {
  return encodePdu(PDU.RELEASE_RP, new Uint8Array(4));
}

/**
 * A-ABORT.
 * @param source 0: we as the service user (a shutdown), 2: the protocol machine, with a reason number.
 */
export function encodeAbort(source: 0 | 2, reason: number): Buffer {
  return encodePdu(PDU.ABORT, Uint8Array.of(0, 0, source, source === 0 ? 0 : reason));
}

/**
 * A command set as P-DATA-TF PDUs, each within the peer's limit.
 * @param peerPduBytes the peer's maximum length; 0 means no limit.
 */
export function encodeCommandPdus(contextId: number, command: Buffer, peerPduBytes: number): Buffer[] {
  const fragmentBytes = peerPduBytes === 0 ? command.length : (peerPduBytes - PDV_HEADER_BYTES) & ~1;
  const pdus: Buffer[] = [];
  for (let start = 0; start < command.length; start += fragmentBytes) {
    const fragment = command.subarray(start, start + fragmentBytes);
    const body = Buffer.allocUnsafe(PDV_HEADER_BYTES + fragment.length);
    body.writeUInt32BE(fragment.length + 2, 0);
    body[4] = contextId;
    body[5] = CONTROL_COMMAND | (start + fragmentBytes >= command.length ? CONTROL_LAST : 0);
    body.set(fragment, PDV_HEADER_BYTES);
    pdus.push(encodePdu(PDU.DATA, body));
  }
  return pdus;
}

/** An item or sub-item: type, reserved, 16-bit length, value (PS3.8 9.3.2). */
export function encodeItem(type: number, value: Uint8Array): Buffer {
  const item = Buffer.allocUnsafe(4 + value.length);
  item[0] = type;
  item[1] = 0;
  item.writeUInt16BE(value.length, 2);
  item.set(value, 4);
  return item;
}

/** The items in a byte range. @throws RangeError-free: a length beyond the range ends with undefined as last item. */
export function* items(bytes: Buffer): Generator<{ readonly type: number; readonly value: Buffer } | undefined> {
  let at = 0;
  while (at < bytes.length) {
    if (at + 4 > bytes.length) return yield undefined;
    const end = at + 4 + bytes.readUInt16BE(at + 2);
    if (end > bytes.length) return yield undefined;
    yield { type: bytes[at] ?? 0, value: bytes.subarray(at + 4, end) };
    at = end;
  }
}
