import type { AssociateRequest, ProposedContext } from './associate-request.ts';
import { encodeItem, encodePdu, PDU } from './pdu.ts';

/** DICOM Application Context Name (PS3.7 A.2.1). */
export const APPLICATION_CONTEXT_UID = '1.2.840.10008.3.1.1.1';
/** Verification SOP class: C-ECHO. */
export const VERIFICATION_SOP_CLASS_UID = '1.2.840.10008.1.1';

/** A presentation context that both sides agreed on. */
export interface AcceptedContext {
  readonly id: number;
  readonly abstractSyntaxUid: string;
  readonly transferSyntaxUid: string;
}

/** Result of one proposed context: PS3.8 table 9-18. */
type Answer =
  | { readonly id: number; readonly result: 0; readonly transferSyntaxUid: string }
  | { readonly id: number; readonly result: 3 | 4 };

/** Every context's answer and the accepted ones by id. */
export interface Negotiated {
  readonly accepted: ReadonlyMap<number, AcceptedContext>;
  readonly answers: readonly Answer[];
}

const DICOM_ROOT = '1.2.840.10008.';
const STORAGE_PREFIX = '1.2.840.10008.5.1.4.1.1.';
/** Storage SOP classes of PS3.6 that stand outside the storage prefix. */
const OTHER_STORAGE = new Set([
  '1.2.840.10008.5.1.1.27', // Stored Print (retired)
  '1.2.840.10008.5.1.1.29', // Hardcopy Grayscale Image (retired)
  '1.2.840.10008.5.1.1.30', // Hardcopy Color Image (retired)
  '1.2.840.10008.5.1.4.34.1', // RT Beams Delivery Instruction (trial, retired)
  '1.2.840.10008.5.1.4.34.7', // RT Beams Delivery Instruction
  '1.2.840.10008.5.1.4.34.10', // RT Brachy Application Setup Delivery Instruction
  '1.2.840.10008.5.1.4.38.1', // Hanging Protocol
  '1.2.840.10008.5.1.4.39.1', // Color Palette
  '1.2.840.10008.5.1.4.43.1', // Generic Implant Template
  '1.2.840.10008.5.1.4.44.1', // Implant Assembly Template
  '1.2.840.10008.5.1.4.45.1', // Implant Template Group
]);
/** dcmtk's private class that asks a server to shut down: nobody may ask that over the network. */
const SHUTDOWN_SOP_CLASS_UID = '1.2.276.0.7230010.3.4.1915765545.18030.917282194.0';
/** Query and retrieve services that PS3.6 put under the storage prefix. */
const NOT_STORAGE = /^1\.2\.840\.10008\.5\.1\.4\.1\.1\.(200\.[456]|201\.[2-9])$/;

/**
 * True for SOP classes whose instances we store: every storage class of the standard, and every class outside the
 * standard's root, since a private one can only be meant for storage here.
 */
export function isStorageClass(uid: string): boolean {
  if (!isUid(uid)) return false;
  if (!uid.startsWith(DICOM_ROOT)) return uid !== SHUTDOWN_SOP_CLASS_UID;
  return OTHER_STORAGE.has(uid) || (uid.startsWith(STORAGE_PREFIX) && !NOT_STORAGE.test(uid));
}

/**
 * Decides on each proposed context: verification and storage are accepted, in the first transfer syntax proposed,
 * because what is stored is what was sent, whatever its syntax.
 * @see DICOM PS3.8 9.3.3.2, PS3.7 D.3.2
 */
export function negotiate(proposed: readonly ProposedContext[]): Negotiated {
  const accepted = new Map<number, AcceptedContext>();
  const answers = proposed.map(({ id, abstractSyntaxUid, transferSyntaxUids }): Answer => {
    if (abstractSyntaxUid !== VERIFICATION_SOP_CLASS_UID && !isStorageClass(abstractSyntaxUid)) return { id, result: 3 };
    const transferSyntaxUid = transferSyntaxUids.find(isUid);
    if (transferSyntaxUid === undefined) return { id, result: 4 };
    accepted.set(id, { id, abstractSyntaxUid, transferSyntaxUid });
    return { id, result: 0, transferSyntaxUid };
  });
  return { accepted, answers };
}

/** How we name ourselves in the user information (PS3.7 D.3.3.2). */
export interface Implementation {
  readonly classUid: string;
  /** 1 to 16 characters. */
  readonly versionName: string;
}

/**
 * A-ASSOCIATE-AC. No asynchronous operations window (one operation at a time), no user identity, no extended
 * negotiation; a proposed role is answered as "you are the SCU, not the SCP".
 */
export function encodeAccept(
  request: AssociateRequest,
  negotiated: Negotiated,
  ours: { readonly pduBytes: number; readonly implementation: Implementation },
): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt16BE(1, 0);
  const contexts = negotiated.answers.map((answer) =>
    encodeItem(
      0x21,
      Buffer.concat([
        Uint8Array.of(answer.id, 0, answer.result, 0),
        encodeItem(0x40, Buffer.from(answer.result === 0 ? answer.transferSyntaxUid : '1.2.840.10008.1.2', 'latin1')),
      ]),
    ),
  );
  const acceptedClasses = new Set([...negotiated.accepted.values()].map((context) => context.abstractSyntaxUid));
  const roles = request.roles.filter((role) => acceptedClasses.has(role.sopClassUid)).map((role) => encodeRole(role));
  const maximumLength = Buffer.alloc(4);
  maximumLength.writeUInt32BE(ours.pduBytes);
  const user = encodeItem(
    0x50,
    Buffer.concat([
      encodeItem(0x51, maximumLength),
      encodeItem(0x52, Buffer.from(ours.implementation.classUid, 'latin1')),
      ...roles,
      encodeItem(0x55, Buffer.from(ours.implementation.versionName, 'latin1')),
    ]),
  );
  return encodePdu(
    PDU.ASSOCIATE_AC,
    Buffer.concat([head, request.titleBytes, encodeItem(0x10, Buffer.from(APPLICATION_CONTEXT_UID, 'latin1')), ...contexts, user]),
  );
}

function encodeRole(role: AssociateRequest['roles'][number]): Buffer {
  const uid = Buffer.from(role.sopClassUid, 'latin1');
  const length = Buffer.alloc(2);
  length.writeUInt16BE(uid.length);
  return encodeItem(0x54, Buffer.concat([length, uid, Uint8Array.of(role.scu ? 1 : 0, 0)]));
}

function isUid(text: string): boolean {
  return /^[0-9.]{1,64}$/.test(text);
}
