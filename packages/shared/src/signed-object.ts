import { createPrivateKey, createPublicKey, sign, verify, type KeyObject } from 'node:crypto';
import { MeshError } from './errors.ts';
import { SignatureAlgorithm, type SignedObject } from './generated/meridian/v1/common.ts';
import { sha256 } from './identifiers.ts';
import { systemRandom, type Random } from './platform/random.ts';

/** PKCS #8 prefix of an Ed25519 seed (RFC 8410 7). */
const PKCS8_ED25519_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');

/** An Ed25519 key that signs for a node or for the index. */
export interface SigningKey {
  /** Raw, 32 bytes. */
  readonly publicKey: Buffer;
  readonly keyId: string;
  /** Ed25519 signature, 64 bytes (RFC 8032). */
  sign(bytes: Uint8Array): Buffer;
  /** PKCS #8 PEM, to be written with mode 0600 and nowhere else. */
  toPem(): string;
}

/** Name of a public key: SHA-256 over its raw bytes, first 16 bytes, lower-case hex. */
export function keyIdOf(publicKey: Uint8Array): string {
  return sha256(publicKey).subarray(0, 16).toString('hex');
}

/** A new signing key. */
export function createSigningKey(random: Random = systemRandom): SigningKey {
  return signingKeyFromSeed(random.bytes(32));
}

/** The signing key of an Ed25519 seed (32 bytes). */
export function signingKeyFromSeed(seed: Uint8Array): SigningKey {
  return signingKeyOf(createPrivateKey({ key: Buffer.concat([PKCS8_ED25519_PREFIX, seed]), format: 'der', type: 'pkcs8' }));
}

/**
 * A signing key from its PKCS #8 PEM.
 * @throws MeshError FAILED_PRECONDITION / SIGNING_KEY_INVALID
 */
export function loadSigningKey(pkcs8Pem: string): SigningKey {
  let key: KeyObject;
  try {
    key = createPrivateKey(pkcs8Pem);
  } catch (cause) {
    throw new MeshError(
      'FAILED_PRECONDITION',
      'SIGNING_KEY_INVALID',
      'The signing key file cannot be read as a PKCS #8 key. Restore it from the backup.',
      { cause },
    );
  }
  if (key.asymmetricKeyType !== 'ed25519')
    throw new MeshError(
      'FAILED_PRECONDITION',
      'SIGNING_KEY_INVALID',
      'The signing key file holds another kind of key than Ed25519. Restore it from the backup.',
    );
  return signingKeyOf(key);
}

/** Signs `payload` as one type of object; the type is part of what is signed, so none can pass for another. */
export function signObject(object: { readonly type: string; readonly payload: Uint8Array; readonly key: SigningKey }): SignedObject {
  const { type, payload, key } = object;
  return {
    type,
    payload: Buffer.from(payload),
    signature: key.sign(signedBytes(type, payload)),
    keyId: key.keyId,
    algorithm: SignatureAlgorithm.SIGNATURE_ALGORITHM_ED25519,
  };
}

/**
 * The payload of a signed object, after the check.
 * @param publicKeys raw Ed25519 keys of those who may have signed it.
 * @throws MeshError UNAUTHENTICATED / SIGNATURE_INVALID
 */
export function openSigned(type: string, object: SignedObject | undefined, publicKeys: readonly Uint8Array[]): Buffer {
  const publicKey = publicKeys.find((candidate) => keyIdOf(candidate) === object?.keyId);
  const intact =
    object !== undefined &&
    publicKey !== undefined &&
    object.type === type &&
    object.algorithm === SignatureAlgorithm.SIGNATURE_ALGORITHM_ED25519 &&
    verifyEd25519(publicKey, signedBytes(type, object.payload), object.signature);
  if (!intact)
    throw new MeshError(
      'UNAUTHENTICATED',
      'SIGNATURE_INVALID',
      `The signature of this ${type} does not hold: it was altered, or somebody else signed it.`,
    );
  return object.payload;
}

/** Whether `signature` is this raw key's Ed25519 signature over `bytes`; malformed keys and signatures are false. */
export function verifyEd25519(publicKey: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
  if (publicKey.length !== 32 || signature.length !== 64) return false;
  try {
    return verify(null, bytes, publicKeyObject(publicKey), signature);
  } catch {
    // A key that is no point of the curve has signed nothing.
    return false;
  }
}

/** What a hospital signs with both keys to join: it binds keys, code and certificate request together. */
export function joinProofBytes(code: string, certificateSigningRequest: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(`meridian.v1\0join\0${code}\0`), sha256(certificateSigningRequest)]);
}

/** What a node signs to renew its certificate. */
export function renewProofBytes(renewal: {
  readonly nodeId: string;
  readonly atEpochMs: number | bigint;
  readonly certificateSigningRequest: Uint8Array;
}): Buffer {
  return Buffer.concat([
    Buffer.from(`meridian.v1\0renew\0${renewal.nodeId}\0${renewal.atEpochMs}\0`),
    sha256(renewal.certificateSigningRequest),
  ]);
}

function signedBytes(type: string, payload: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(`meridian.v1\0${type}\0`), payload]);
}

function publicKeyObject(raw: Uint8Array): KeyObject {
  return createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: Buffer.from(raw).toString('base64url') }, format: 'jwk' });
}

function signingKeyOf(key: KeyObject): SigningKey {
  const jwk = createPublicKey(key).export({ format: 'jwk' });
  const publicKey = Buffer.from(jwk.x ?? '', 'base64url');
  return {
    publicKey,
    keyId: keyIdOf(publicKey),
    sign: (bytes) => sign(null, bytes, key),
    toPem: () => key.export({ format: 'pem', type: 'pkcs8' }).toString(),
  };
}
