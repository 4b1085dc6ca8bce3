import { protocolError } from './protocol-error.ts';

/** Command field values (PS3.7 E.1); a response has the top bit set. */
export const COMMAND = { C_STORE_RQ: 0x0001, C_ECHO_RQ: 0x0030, C_CANCEL_RQ: 0x0fff, RESPONSE: 0x8000 } as const;

/** Command data set type that says "no data set follows". */
const NO_DATA_SET = 0x0101;

/** The elements of a command set that we use (PS3.7 E.1). */
export interface DimseCommand {
  readonly commandField: number;
  readonly messageId: number;
  readonly hasDataSet: boolean;
  /** Affected, or requested for N-services. */
  readonly sopClassUid: string | undefined;
  readonly sopInstanceUid: string | undefined;
}

/** What a response says besides what it repeats from its request. */
export interface DimseResponse {
  readonly status: number;
  /** LO of at most 64 characters, without patient data. */
  readonly errorComment?: string;
}

/**
 * Reads a whole command set: implicit VR little endian, group 0000 only.
 * @throws MeshError INVALID_ARGUMENT / PDU_PARAMETER_INVALID: a length that lies, a missing element; the association is aborted.
 * @see DICOM PS3.7 6.3
 */
export function readCommandSet(bytes: Buffer): DimseCommand {
  const elements = new Map<number, Buffer>();
  let at = 0;
  while (at < bytes.length) {
    if (at + 8 > bytes.length) throw invalid('A command set ends within an element.');
    if (bytes.readUInt16LE(at) !== 0) throw invalid('A command set holds an element outside group 0000.');
    const end = at + 8 + bytes.readUInt32LE(at + 4);
    if (end > bytes.length) throw invalid('An element of a command set runs past its end.');
    elements.set(bytes.readUInt16LE(at + 2), bytes.subarray(at + 8, end));
    at = end;
  }
  const commandField = number16(elements.get(0x0100));
  if (commandField === undefined) throw invalid('A command set has no command field.');
  return {
    commandField,
    messageId: number16(elements.get(0x0110)) ?? number16(elements.get(0x0120)) ?? 0,
    hasDataSet: (number16(elements.get(0x0800)) ?? NO_DATA_SET) !== NO_DATA_SET,
    sopClassUid: uid(elements.get(0x0002) ?? elements.get(0x0003)),
    sopInstanceUid: uid(elements.get(0x1000) ?? elements.get(0x1001)),
  };
}

/** The response's command set, with no data set. @see DICOM PS3.7 9.3 */
export function encodeResponse(request: DimseCommand, response: DimseResponse): Buffer {
  const elements = [
    ...(request.sopClassUid === undefined ? [] : [text(0x0002, request.sopClassUid, '\0')]),
    short(0x0100, request.commandField | COMMAND.RESPONSE),
    short(0x0120, request.messageId),
    short(0x0800, NO_DATA_SET),
    short(0x0900, response.status),
    ...(response.errorComment === undefined ? [] : [text(0x0902, response.errorComment.slice(0, 64), ' ')]),
    ...(request.sopInstanceUid === undefined ? [] : [text(0x1000, request.sopInstanceUid, '\0')]),
  ];
  const body = Buffer.concat(elements);
  const groupLength = Buffer.alloc(4);
  groupLength.writeUInt32LE(body.length);
  return Buffer.concat([element(0x0000, groupLength), body]);
}

function short(tag: number, value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return element(tag, bytes);
}

function text(tag: number, value: string, padding: string): Buffer {
  return element(tag, Buffer.from(value.length % 2 === 0 ? value : value + padding, 'latin1'));
}

function element(tag: number, value: Buffer): Buffer {
  const bytes = Buffer.alloc(8 + value.length);
  bytes.writeUInt16LE(tag, 2);
  bytes.writeUInt32LE(value.length, 4);
  bytes.set(value, 8);
  return bytes;
}

function number16(value: Buffer | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (value.length !== 2) throw invalid('A 16-bit element of a command set does not have 2 bytes.');
  return value.readUInt16LE(0);
}

function uid(value: Buffer | undefined): string | undefined {
  if (value === undefined) return undefined;
  if (value.length > 66) throw invalid('A UID of a command set is longer than 64 characters.');
  const trimmed = value.toString('latin1').replace(/[\0 ]+$/, '');
  return trimmed === '' ? undefined : trimmed;
}

function invalid(message: string): Error {
  return protocolError('PDU_PARAMETER_INVALID', message);
}
