import { createHash } from 'node:crypto';
import { MeshError } from './errors.ts';

declare const brand: unique symbol;
type Branded<Name extends string> = string & { readonly [brand]: Name };

/** Study Instance UID (0020,000D), checked by {@link parseStudyInstanceUid}. */
export type StudyInstanceUid = Branded<'StudyInstanceUid'>;
/** Series Instance UID (0020,000E), checked by {@link parseSeriesInstanceUid}. */
export type SeriesInstanceUid = Branded<'SeriesInstanceUid'>;
/** SOP Instance UID (0008,0018), checked by {@link parseSopInstanceUid}. */
export type SopInstanceUid = Branded<'SopInstanceUid'>;
/** Name of a member of the federation: "n-" and 16 lower-case base32 characters (80 random bits). */
export type NodeId = Branded<'NodeId'>;

const UID_PATTERN = /^[0-9.]{1,64}$/;
const NODE_ID_PATTERN = /^n-[a-z2-7]{16}$/;
const BASE32_ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567';
const BASE58_ALPHABET = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';

/**
 * A Study Instance UID without its padding.
 * @throws MeshError INVALID_ARGUMENT / UID_INVALID
 * @see DICOM PS3.5 9.1
 */
export function parseStudyInstanceUid(text: string): StudyInstanceUid {
  return parseUid(text, 'Study Instance UID') as StudyInstanceUid;
}

/** A Series Instance UID without its padding; errors as {@link parseStudyInstanceUid}. */
export function parseSeriesInstanceUid(text: string): SeriesInstanceUid {
  return parseUid(text, 'Series Instance UID') as SeriesInstanceUid;
}

/** A SOP Instance UID without its padding; errors as {@link parseStudyInstanceUid}. */
export function parseSopInstanceUid(text: string): SopInstanceUid {
  return parseUid(text, 'SOP Instance UID') as SopInstanceUid;
}

/** @throws MeshError INVALID_ARGUMENT / NODE_ID_INVALID */
export function parseNodeId(text: string): NodeId {
  if (NODE_ID_PATTERN.test(text)) return text as NodeId;
  throw new MeshError(
    'INVALID_ARGUMENT',
    'NODE_ID_INVALID',
    'A node id is "n-" and 16 characters of a-z and 2-7, as `meridian-index hospital list` prints it.',
  );
}

/** A node id from 10 random bytes. */
export function nodeIdFrom(randomBytes: Uint8Array): NodeId {
  return parseNodeId(`n-${encodeBase32(randomBytes)}`);
}

/** Base32 of RFC 4648 in lower case, without padding. */
export function encodeBase32(bytes: Uint8Array): string {
  let bits = 0;
  let value = 0;
  let text = '';
  for (const byte of bytes) {
    value = (value << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      text += BASE32_ALPHABET[(value >>> (bits - 5)) & 31];
      bits -= 5;
    }
    value &= (1 << bits) - 1;
  }
  return bits > 0 ? text + BASE32_ALPHABET[(value << (5 - bits)) & 31] : text;
}

/**
 * The libp2p PeerId of an Ed25519 key: base58btc of the identity multihash over the protobuf PublicKey.
 * @param publicKey raw, 32 bytes.
 * @see https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md
 */
export function peerIdOf(publicKey: Uint8Array): string {
  return encodeBase58(Buffer.concat([Buffer.from('002408011220', 'hex'), publicKey]));
}

/** SHA-256 of the bytes or the UTF-8 text. */
export function sha256(content: Uint8Array | string): Buffer {
  return createHash('sha256').update(content).digest();
}

function parseUid(text: string, what: string): string {
  const trimmed = text.replace(/[\0 ]+$/, '');
  if (UID_PATTERN.test(trimmed)) return trimmed;
  throw new MeshError('INVALID_ARGUMENT', 'UID_INVALID', `The ${what} must be 1 to 64 digits and dots (PS3.5 9.1).`);
}

function encodeBase58(bytes: Uint8Array): string {
  const leadingZeros = bytes.findIndex((byte) => byte !== 0);
  let number = BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
  let text = '';
  while (number > 0n) {
    text = BASE58_ALPHABET[Number(number % 58n)] + text;
    number /= 58n;
  }
  return '1'.repeat(leadingZeros === -1 ? bytes.length : leadingZeros) + text;
}

export { CN_RESIDENT_ID_ISSUER, maskPersonId, normalisedPersonId, parsePersonId, type TypedPersonId } from './person-id.ts';
