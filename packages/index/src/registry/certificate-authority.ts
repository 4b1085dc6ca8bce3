// @peculiar/x509 resolves its parts by decorators and needs this first.
import 'reflect-metadata';
import { createPublicKey, X509Certificate, type webcrypto } from 'node:crypto';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Pkcs10CertificateRequest,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate as PeculiarCertificate,
  X509CertificateGenerator,
  type JsonGeneralName,
} from '@peculiar/x509';
import { MeshError } from '@meridian/shared/errors';
import { sha256 } from '@meridian/shared/identifiers';
import type { Random } from '@meridian/shared/platform/random';
import { INDEX_URI, NODE_URI_PREFIX, PEER_URI_PREFIX, pemOf, spkiSha256Of } from '@meridian/shared/x509';

const SIGNING = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const YEAR_MS = 365 * 24 * 3_600_000;
const CA_LIFETIME_MS = 10 * YEAR_MS;
const INDEX_LIFETIME_MS = YEAR_MS;
/** Short, so that a lost key is worth little. */
export const NODE_CERTIFICATE_LIFETIME_MS = 7 * 24 * 3_600_000;
/** Clocks of hospitals may be behind. */
const BACKDATED_MS = 300_000;
const MAX_REQUEST_BYTES = 8 * 1024;

/** Key and certificate as PEM. */
export interface KeyAndCertificate {
  readonly privateKeyPem: string;
  readonly certificatePem: string;
}

/** A node's certificate as it was issued. */
export interface IssuedCertificate {
  /** DER, leaf first. */
  readonly chain: readonly Buffer[];
  readonly serial: string;
  readonly spkiSha256: Buffer;
  readonly notAfterEpochMs: number;
}

/** What the federation's own certificate authority can do. */
export interface CertificateAuthority {
  readonly certificatePem: string;
  /** The pin of join links: SHA-256 over the CA's SubjectPublicKeyInfo. */
  readonly spkiSha256: Buffer;
  issueIndexCertificate(host: string, nowEpochMs: number): Promise<KeyAndCertificate>;
  /** @throws MeshError INVALID_ARGUMENT / PROOF_INVALID for a request that does not prove its key. */
  issueNodeCertificate(node: {
    readonly nodeId: string;
    readonly peerId: string;
    readonly certificateSigningRequest: Uint8Array;
    readonly nowEpochMs: number;
  }): Promise<IssuedCertificate>;
}

/* The crypto is named at every call: another library in the same process may set the certificate library's own default. */

/** Makes the CA: P-256, ten years, signs end certificates only. */
export async function createCertificateAuthority(
  name: string,
  parts: { readonly random: Random; readonly nowEpochMs: number },
): Promise<KeyAndCertificate> {
  const keys = await crypto.subtle.generateKey(SIGNING, true, ['sign', 'verify']);
  const certificate = await X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: serialFrom(parts.random),
      name: [{ CN: [`${name} Meridian CA`] }],
      notBefore: new Date(parts.nowEpochMs - BACKDATED_MS),
      notAfter: new Date(parts.nowEpochMs + CA_LIFETIME_MS),
      signingAlgorithm: SIGNING,
      keys,
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
        await SubjectKeyIdentifierExtension.create(keys.publicKey, false, crypto),
      ],
    },
    crypto,
  );
  return { privateKeyPem: await privatePem(keys.privateKey), certificatePem: pemOf('CERTIFICATE', Buffer.from(certificate.rawData)) };
}

/** Opens the CA from its PEM files. */
export async function openCertificateAuthority(
  files: KeyAndCertificate,
  parts: { readonly random: Random },
): Promise<CertificateAuthority> {
  const certificate = new X509Certificate(files.certificatePem);
  const pkcs8 = Buffer.from(files.privateKeyPem.replace(/-----[^-]+-----|\s/g, ''), 'base64');
  const privateKey = await crypto.subtle.importKey('pkcs8', pkcs8, SIGNING, false, ['sign']);
  const publicKey = await crypto.subtle.importKey('spki', certificate.publicKey.export({ type: 'spki', format: 'der' }), SIGNING, true, [
    'verify',
  ]);
  // The very name of the CA, not a rebuilt one: issuer and subject must match byte for byte.
  const issuer = new PeculiarCertificate(files.certificatePem).subjectName;
  const issue = async (subject: {
    readonly name: string;
    readonly publicKey: webcrypto.CryptoKey;
    readonly names: JsonGeneralName[];
    readonly usages: ExtendedKeyUsage[];
    readonly nowEpochMs: number;
    readonly lifetimeMs: number;
  }) =>
    X509CertificateGenerator.create(
      {
        serialNumber: serialFrom(parts.random),
        subject: [{ CN: [subject.name] }],
        issuer,
        notBefore: new Date(subject.nowEpochMs - BACKDATED_MS),
        notAfter: new Date(subject.nowEpochMs + subject.lifetimeMs),
        signingAlgorithm: SIGNING,
        publicKey: subject.publicKey,
        signingKey: privateKey,
        extensions: [
          new BasicConstraintsExtension(false, undefined, true),
          new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
          new ExtendedKeyUsageExtension(subject.usages),
          new SubjectAlternativeNameExtension(subject.names),
          await AuthorityKeyIdentifierExtension.create(publicKey, false, crypto),
        ],
      },
      crypto,
    );
  return {
    certificatePem: files.certificatePem,
    spkiSha256: spkiSha256Of(files.certificatePem),
    issueIndexCertificate: async (host, nowEpochMs) => {
      const keys = await crypto.subtle.generateKey(SIGNING, true, ['sign', 'verify']);
      const hostName: JsonGeneralName = /^[\d.]+$|:/.test(host) ? { type: 'ip', value: host } : { type: 'dns', value: host };
      const leaf = await issue({
        name: 'Meridian index',
        publicKey: keys.publicKey,
        names: [{ type: 'url', value: INDEX_URI }, hostName],
        usages: [ExtendedKeyUsage.serverAuth],
        nowEpochMs,
        lifetimeMs: INDEX_LIFETIME_MS,
      });
      return { privateKeyPem: await privatePem(keys.privateKey), certificatePem: pemOf('CERTIFICATE', Buffer.from(leaf.rawData)) };
    },
    issueNodeCertificate: async ({ nodeId, peerId, certificateSigningRequest, nowEpochMs }) => {
      const requested = await requestedKey(certificateSigningRequest);
      const names: JsonGeneralName[] = [
        { type: 'url', value: NODE_URI_PREFIX + nodeId },
        { type: 'url', value: PEER_URI_PREFIX + peerId },
      ];
      const leaf = await issue({
        name: nodeId,
        publicKey: requested.key,
        names,
        usages: [ExtendedKeyUsage.clientAuth, ExtendedKeyUsage.serverAuth],
        nowEpochMs,
        lifetimeMs: NODE_CERTIFICATE_LIFETIME_MS,
      });
      return {
        chain: [Buffer.from(leaf.rawData), certificate.raw],
        serial: leaf.serialNumber,
        spkiSha256: requested.spkiSha256,
        notAfterEpochMs: leaf.notAfter.getTime(),
      };
    },
  };
}

/** The P-256 key of a request that is signed by that key (PKCS #10, RFC 2986). */
async function requestedKey(der: Uint8Array): Promise<{ key: webcrypto.CryptoKey; spkiSha256: Buffer }> {
  if (der.length === 0 || der.length > MAX_REQUEST_BYTES) throw requestInvalid();
  try {
    const request = new Pkcs10CertificateRequest(Uint8Array.from(der));
    const spki = Buffer.from(request.publicKey.rawData);
    const details = createPublicKey({ key: spki, format: 'der', type: 'spki' });
    if (details.asymmetricKeyType !== 'ec' || details.asymmetricKeyDetails?.namedCurve !== 'prime256v1') throw requestInvalid();
    if (!(await request.verify(crypto))) throw requestInvalid();
    const key = await crypto.subtle.importKey('spki', spki, SIGNING, true, ['verify']);
    return { key, spkiSha256: sha256(details.export({ format: 'der', type: 'spki' })) };
  } catch (cause) {
    throw cause instanceof MeshError ? cause : requestInvalid(cause);
  }
}

function requestInvalid(cause?: unknown): MeshError {
  return new MeshError(
    'INVALID_ARGUMENT',
    'PROOF_INVALID',
    'The certificate request does not prove that its P-256 key is held by the one who asks. Join again with this program.',
    { cause },
  );
}

function serialFrom(random: Random): string {
  const bytes = random.bytes(16);
  // Positive and without a leading zero octet (RFC 5280 4.1.2.2).
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString('hex');
}

async function privatePem(key: webcrypto.CryptoKey): Promise<string> {
  return pemOf('PRIVATE KEY', Buffer.from(await crypto.subtle.exportKey('pkcs8', key)));
}
