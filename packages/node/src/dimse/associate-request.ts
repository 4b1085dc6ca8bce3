import { protocolError } from './protocol-error.ts';
import { items } from './pdu.ts';

/** One presentation context as proposed (PS3.8 9.3.2.2). */
export interface ProposedContext {
  /** Odd, 1 to 255. */
  readonly id: number;
  readonly abstractSyntaxUid: string;
  /** In the proposer's order. */
  readonly transferSyntaxUids: readonly string[];
}

/** What a peer asks for in an A-ASSOCIATE-RQ. User identity and extended negotiation are not read: we use neither. */
export interface AssociateRequest {
  /** Bit 0 is version 1. */
  readonly protocolVersion: number;
  readonly calledAeTitle: string;
  readonly callingAeTitle: string;
  readonly applicationContextUid: string;
  readonly contexts: readonly ProposedContext[];
  /** Longest P-DATA-TF variable field that the peer takes; 0 for no limit. */
  readonly peerPduBytes: number;
  readonly roles: readonly { readonly sopClassUid: string; readonly scu: boolean }[];
  /** The reserved 32 bytes and titles that an A-ASSOCIATE-AC gives back as they came. */
  readonly titleBytes: Buffer;
}

const FIXED_BYTES = 68;
/** Below this a peer could not take even one command element in a PDU. */
const LEAST_PEER_PDU_BYTES = 16;

/**
 * Reads the variable field of an A-ASSOCIATE-RQ.
 * @param body all bytes after the PDU header.
 * @param maxContexts most presentation contexts that are accepted.
 * @throws MeshError INVALID_ARGUMENT / PDU_PARAMETER_…: the association must be aborted.
 * @see DICOM PS3.8 9.3.2, D.1, D.3.3
 */
export function readAssociateRequest(body: Buffer, maxContexts: number): AssociateRequest {
  if (body.length < FIXED_BYTES) throw invalid('An association request ends within its fixed part.');
  let applicationContextUid = '';
  let user: UserInformation = { peerPduBytes: 0, roles: [] };
  const contexts: ProposedContext[] = [];
  for (const item of items(body.subarray(FIXED_BYTES))) {
    if (item === undefined) throw invalid('An item of an association request runs past its end.');
    if (item.type === 0x10) applicationContextUid = uidText(item.value);
    else if (item.type === 0x20) contexts.push(readContext(item.value));
    else if (item.type === 0x50) user = readUserInformation(item.value);
    // Any other item type is ignored, as PS3.8 9.3.1 asks.
    if (contexts.length > maxContexts) throw invalid(`An association request proposes more than ${maxContexts} presentation contexts.`);
  }
  if (new Set(contexts.map((context) => context.id)).size !== contexts.length)
    throw invalid('An association request uses one presentation context id twice.');
  return {
    protocolVersion: body.readUInt16BE(0),
    calledAeTitle: aeTitle(body.subarray(4, 20)),
    callingAeTitle: aeTitle(body.subarray(20, 36)),
    applicationContextUid,
    contexts,
    ...user,
    titleBytes: Buffer.from(body.subarray(4, FIXED_BYTES)),
  };
}

interface UserInformation {
  readonly peerPduBytes: number;
  readonly roles: AssociateRequest['roles'];
}

function readUserInformation(value: Buffer): UserInformation {
  let peerPduBytes = 0;
  const roles: { sopClassUid: string; scu: boolean }[] = [];
  for (const item of items(value)) {
    if (item === undefined) throw invalid('A sub-item of the user information runs past its end.');
    if (item.type === 0x51) {
      if (item.value.length !== 4) throw invalid('The maximum length sub-item must have 4 bytes.');
      peerPduBytes = item.value.readUInt32BE(0);
      if (peerPduBytes !== 0 && peerPduBytes < LEAST_PEER_PDU_BYTES)
        throw invalid(`The peer takes PDUs of ${peerPduBytes} bytes at most; nothing can be said in them.`);
    } else if (item.type === 0x54) roles.push(readRole(item.value));
  }
  return { peerPduBytes, roles };
}

function readRole(value: Buffer): { sopClassUid: string; scu: boolean } {
  const uidBytes = value.length < 4 ? Number.MAX_SAFE_INTEGER : value.readUInt16BE(0);
  if (2 + uidBytes + 2 !== value.length) throw invalid('A role selection sub-item states a length that does not fit.');
  return { sopClassUid: uidText(value.subarray(2, 2 + uidBytes)), scu: value[2 + uidBytes] === 1 };
}

function readContext(value: Buffer): ProposedContext {
  const id = value[0] ?? 0;
  if (value.length < 4 || id % 2 === 0) throw invalid('A presentation context id must be an odd number from 1 to 255.');
  let abstractSyntaxUid = '';
  const transferSyntaxUids: string[] = [];
  for (const item of items(value.subarray(4))) {
    if (item === undefined) throw invalid('A sub-item of a presentation context runs past its end.');
    if (item.type === 0x30) abstractSyntaxUid = uidText(item.value);
    else if (item.type === 0x40) transferSyntaxUids.push(uidText(item.value));
  }
  return { id, abstractSyntaxUid, transferSyntaxUids };
}

/** Spaces at both ends of an AE title mean nothing (PS3.8 9.3.2); some peers pad with NUL. */
function aeTitle(bytes: Buffer): string {
  return bytes.toString('latin1').replace(/\0+$/, '').trim();
}

function uidText(bytes: Buffer): string {
  return bytes.toString('latin1').replace(/[\0 ]+$/, '');
}

function invalid(message: string): Error {
  return protocolError('PDU_PARAMETER_INVALID', message);
}
