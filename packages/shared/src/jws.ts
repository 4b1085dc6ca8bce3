import { MeshError } from './errors.ts';
import { verifyEd25519, type SigningKey } from './signed-object.ts';

/** The parts of a compact JWS whose header was accepted; the payload is not trusted until `verifyJws` says so. */
export interface ParsedJws {
  readonly keyId: string;
  readonly payload: Buffer;
  readonly signingInput: Buffer;
  readonly signature: Buffer;
}

/** Why a compact JWS is refused before its signature is even looked at. */
export type JwsFault = 'size' | 'form' | 'alg' | 'typ';

/**
 * A compact JWS (RFC 7515) with the one algorithm of the mesh: EdDSA over Ed25519 (RFC 8037).
 * @param typ explicit type, so that no token passes for another kind (RFC 8725 3.11).
 */
export function signJws(typ: string, claims: Readonly<Record<string, unknown>>, key: SigningKey): string {
  const header = base64url(JSON.stringify({ alg: 'EdDSA', typ, kid: key.keyId }));
  const input = `${header}.${base64url(JSON.stringify(claims))}`;
  return `${input}.${Buffer.from(key.sign(Buffer.from(input, 'ascii'))).toString('base64url')}`;
}

/**
 * Splits a compact JWS and checks its header; never throws.
 * The header may hold alg, typ and kid alone: nothing that names a key, a URL or a critical extension (RFC 8725 3.1, 3.9, 3.10).
 */
export function parseJws(compact: unknown, expected: { typ: string; maxBytes: number }): ParsedJws | { fault: JwsFault } {
  if (typeof compact !== 'string') return { fault: 'form' };
  if (compact.length > expected.maxBytes) return { fault: 'size' };
  const parts = compact.split('.');
  if (parts.length !== 3) return { fault: 'form' };
  const [header, payload, signature] = parts.map(strictBase64url);
  if (header === undefined || payload === undefined || signature === undefined) return { fault: 'form' };
  const claims = parseJsonObject(header);
  if (claims === undefined || typeof claims['kid'] !== 'string') return { fault: 'form' };
  if (claims['alg'] !== 'EdDSA') return { fault: 'alg' };
  if (claims['typ'] !== expected.typ) return { fault: 'typ' };
  if (Object.keys(claims).length !== 3 || signature.length !== 64) return { fault: 'form' };
  return { keyId: claims['kid'], payload, signature, signingInput: Buffer.from(compact.slice(0, compact.lastIndexOf('.')), 'ascii') };
}

/** True where the signature is that of the raw 32-byte Ed25519 public key; never throws. */
export function verifyJws(jws: ParsedJws, publicKey: Uint8Array): boolean {
  return verifyEd25519(publicKey, jws.signingInput, jws.signature);
}

/** JSON object from UTF-8 bytes, or undefined for anything else. */
export function parseJsonObject(bytes: Buffer): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** Readers of claims that refuse what is not of the expected shape. */
export function claimReader(refuse: (claim: string) => MeshError) {
  const text = (value: unknown, claim: string, maxLength = 256): string => {
    if (typeof value !== 'string' || value.length === 0 || value.length > maxLength) throw refuse(claim);
    return value;
  };
  const wholeNumber = (value: unknown, claim: string, least = 0): number => {
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < least) throw refuse(claim);
    return value;
  };
  /** NumericDate (RFC 7519) in milliseconds. */
  const epochMs = (value: unknown, claim: string): number => {
    if (typeof value !== 'number' || !(value > 0) || value > 1e11) throw refuse(claim);
    return Math.round(value * 1000);
  };
  const list = (value: unknown, claim: string, size: { least: number; most: number }): string[] => {
    if (!Array.isArray(value) || value.length < size.least || value.length > size.most) throw refuse(claim);
    return value.map((item) => text(item, claim));
  };
  const object = (value: unknown, claim: string, allowed?: readonly string[]): Record<string, unknown> => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw refuse(claim);
    const record = value as Record<string, unknown>;
    const unknownKey = allowed === undefined ? undefined : Object.keys(record).find((key) => !allowed.includes(key));
    if (unknownKey !== undefined) throw refuse(`${claim}.${unknownKey}`);
    return record;
  };
  return { text, wholeNumber, epochMs, list, object };
}

function base64url(text: string): string {
  return Buffer.from(text, 'utf8').toString('base64url');
}

/** Only the one canonical spelling is taken, so that a token has one text and one hash. */
function strictBase64url(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64url');
  return text.length > 0 && bytes.toString('base64url') === text ? bytes : undefined;
}
