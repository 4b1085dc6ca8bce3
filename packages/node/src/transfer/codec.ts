import { MeshError } from '@meridian/shared/errors';
import { TransferFrame } from '@meridian/shared/generated/meridian/v1/transfer';

/** One step of the protocol. */
export type Step = NonNullable<TransferFrame['step']>;

/** A frame's payload bytes. */
export function encodeStep(step: Step): Uint8Array {
  return TransferFrame.encode({ step }).finish();
}

/**
 * The step of a frame.
 * @returns undefined for a step that this version does not know: it is skipped.
 * @throws MeshError INVALID_ARGUMENT / FRAME_INVALID
 */
export function decodeStep(frame: Uint8Array): Step | undefined {
  try {
    return readData(frame) ?? TransferFrame.decode(frame).step;
  } catch (cause) {
    throw new MeshError('INVALID_ARGUMENT', 'FRAME_INVALID', 'The other hospital sent bytes that are no frames of this protocol.', {
      cause,
    });
  }
}

/** Tags of TransferFrame.data and of TransferData's fields (field number << 3 | wire type). */
const TAG_DATA = 0x22;
const TAG_REQUEST_ID = 0x08;
const TAG_BYTES = 0x12;
const TAG_LAST = 0x18;

/** What stands before the pixels in a DATA frame: the pixels follow uncopied, as the frame's end. */
export function encodeDataHead(data: { readonly requestId: number; readonly length: number; readonly last: boolean }): Uint8Array {
  const { requestId, length, last } = data;
  const fieldsLength = 1 + varintLength(requestId) + (last ? 2 : 0) + 1 + varintLength(length);
  const bodyLength = fieldsLength + length;
  const head = Buffer.allocUnsafe(1 + varintLength(bodyLength) + fieldsLength);
  let at = 0;
  const writeVarint = (tag: number, value: number): void => {
    head[at++] = tag;
    let rest = value;
    for (; rest > 0x7f; rest >>>= 7) head[at++] = (rest & 0x7f) | 0x80;
    head[at++] = rest;
  };
  writeVarint(TAG_DATA, bodyLength);
  writeVarint(TAG_REQUEST_ID, requestId);
  // Out of the order of field numbers, which protobuf leaves free: so that nothing follows the pixels.
  if (last) writeVarint(TAG_LAST, 1);
  writeVarint(TAG_BYTES, length);
  return head;
}

/** Reads what `encodeDataHead` begins without copying the pixels; any other form is left to the generated decoder. */
function readData(frame: Uint8Array): Step | undefined {
  if (frame[0] !== TAG_DATA) return undefined;
  let at = 0;
  const readVarint = (tag: number): number | undefined => {
    if (frame[at] !== tag) return undefined;
    let value = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = frame[++at] ?? 0;
      value |= (byte & 0x7f) << shift;
      if ((byte & 0x80) !== 0) continue;
      at += 1;
      return value;
    }
    return undefined;
  };
  const bodyLength = readVarint(TAG_DATA);
  if (bodyLength === undefined || at + bodyLength !== frame.length) return undefined;
  const requestId = readVarint(TAG_REQUEST_ID);
  const last = requestId !== undefined && readVarint(TAG_LAST) === 1;
  const length = requestId === undefined ? undefined : readVarint(TAG_BYTES);
  if (requestId === undefined || length === undefined || at + length > frame.length) return undefined;
  const bytes = Buffer.from(frame.buffer, frame.byteOffset + at, length);
  return at + length === frame.length ? { $case: 'data', value: { requestId, bytes, last, failedReason: '' } } : undefined;
}

function varintLength(value: number): number {
  let length = 1;
  for (let rest = value; rest > 0x7f; rest >>>= 7) length += 1;
  return length;
}
