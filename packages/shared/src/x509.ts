// @peculiar/x509 resolves its parts by decorators and needs this first.
import 'reflect-metadata';
import { createHash, X509Certificate as NodeCertificate } from 'node:crypto';
import { connect, type DetailedPeerCertificate } from 'node:tls';
import { Pkcs10CertificateRequestGenerator } from '@peculiar/x509';
import { MeshError } from './errors.ts';

/** URI in the certificate of the index; no node's certificate has it. */
export const INDEX_URI = 'urn:meridian:index';
/** URI in a node's certificate, followed by the node id. */
export const NODE_URI_PREFIX = 'urn:meridian:node:';
/** URI in a node's certificate, followed by the PeerId. */
export const PEER_URI_PREFIX = 'urn:meridian:peer:';

const TLS_KEY = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const CONNECT_TIMEOUT_MS = 10_000;

/** A new TLS key (P-256) with its certificate signing request. */
export interface TlsKeyRequest {
  /** PKCS #8 PEM: write with mode 0600. */
  readonly privateKeyPem: string;
  /** PKCS #10, DER, self-signed. */
  readonly certificateSigningRequest: Buffer;
}

/** Makes a TLS key and asks for a certificate over it. The index chooses the names; the request's subject is ignored. */
export async function createTlsKeyRequest(): Promise<TlsKeyRequest> {
  const keys = await crypto.subtle.generateKey(TLS_KEY, true, ['sign', 'verify']);
  // The crypto is named here: another library in the same process may set the certificate library's own default.
  const request = await Pkcs10CertificateRequestGenerator.create({ name: 'CN=meridian-node', keys, signingAlgorithm: TLS_KEY }, crypto);
  const pkcs8 = Buffer.from(await crypto.subtle.exportKey('pkcs8', keys.privateKey));
  return { privateKeyPem: pemOf('PRIVATE KEY', pkcs8), certificateSigningRequest: Buffer.from(request.rawData) };
}

/** DER as PEM (RFC 7468). */
export function pemOf(label: 'PRIVATE KEY' | 'CERTIFICATE', der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}

/** SHA-256 over the DER SubjectPublicKeyInfo of a certificate (DER or PEM). */
export function spkiSha256Of(certificate: Uint8Array | string): Buffer {
  const spki = new NodeCertificate(typeof certificate === 'string' ? certificate : Buffer.from(certificate)).publicKey.export({
    type: 'spki',
    format: 'der',
  });
  return createHash('sha256').update(spki).digest();
}

/** A join link taken apart. */
export interface JoinLink {
  readonly host: string;
  readonly port: number;
  readonly code: string;
  /** SHA-256 over the SubjectPublicKeyInfo of the CA. */
  readonly caSpkiSha256: Buffer;
}

/**
 * A join link `https://host:port#CODE.CASPKISHA256HEX`.
 * @throws MeshError INVALID_ARGUMENT / JOIN_LINK_INVALID
 */
export function parseJoinLink(text: string): JoinLink {
  const [, host, port, code, pin] =
    /^https:\/\/(\[[0-9a-fA-F:]+\]|[^/:#\s]+):(\d{1,5})\/?#([A-Za-z2-7]{26})\.([0-9a-fA-F]{64})$/.exec(text.trim()) ?? [];
  if (host === undefined || port === undefined || code === undefined || pin === undefined || Number(port) > 65_535) {
    throw new MeshError(
      'INVALID_ARGUMENT',
      'JOIN_LINK_INVALID',
      'This is no join link. It looks like https://index.example:7400#CODE.FINGERPRINT; copy it whole, in quotes, as `meridian-index hospital add` printed it.',
    );
  }
  return { host: host.replace(/^\[|\]$/g, ''), port: Number(port), code: code.toUpperCase(), caSpkiSha256: Buffer.from(pin, 'hex') };
}

/**
 * The CA certificate (PEM) of the index at an address, which must be the one that the join link names: no trust on first
 * use. The connection serves this alone; nothing is sent on it.
 * @throws MeshError UNAVAILABLE / INDEX_UNREACHABLE, UNAUTHENTICATED / CA_PIN_MISMATCH
 */
export async function fetchPinnedCa(index: Pick<JoinLink, 'host' | 'port' | 'caSpkiSha256'>, signal?: AbortSignal): Promise<string> {
  const certificate = await peerCertificate(index, signal);
  for (let link: DetailedPeerCertificate | undefined = certificate, depth = 0; link !== undefined && depth < 4; depth += 1) {
    if (spkiSha256Of(link.raw).equals(index.caSpkiSha256) && new NodeCertificate(link.raw).ca) return pemOf('CERTIFICATE', link.raw);
    const issuer: DetailedPeerCertificate | undefined = link.issuerCertificate as DetailedPeerCertificate | undefined;
    link = issuer === link ? undefined : issuer;
  }
  throw new MeshError(
    'UNAUTHENTICATED',
    'CA_PIN_MISMATCH',
    'The server at this address is not the index that the join link names. Nothing was sent to it. Check the link with the operator of the index.',
  );
}

function peerCertificate(index: Pick<JoinLink, 'host' | 'port'>, signal?: AbortSignal): Promise<DetailedPeerCertificate> {
  const unreachable = (cause: unknown): MeshError =>
    new MeshError(
      'UNAVAILABLE',
      'INDEX_UNREACHABLE',
      `The index cannot be reached at ${index.host}:${index.port}. Check the address, the network and that the index runs.`,
      { cause },
    );
  return new Promise((resolve, reject) => {
    // Every certificate is let in here, because the caller compares it with the pin before anything is sent.
    const socket = connect({
      host: index.host,
      port: index.port,
      rejectUnauthorized: false,
      minVersion: 'TLSv1.3',
      ALPNProtocols: ['h2'],
      timeout: CONNECT_TIMEOUT_MS,
    });
    const end = (): void => {
      signal?.removeEventListener('abort', onAbort);
      socket.destroy();
    };
    const onAbort = (): void => {
      end();
      reject(unreachable(signal?.reason));
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    socket.once('timeout', () => {
      end();
      reject(unreachable(new Error('timeout')));
    });
    socket.once('error', (error) => {
      end();
      reject(unreachable(error));
    });
    socket.once('secureConnect', () => {
      const certificate = socket.getPeerCertificate(true);
      end();
      resolve(certificate);
    });
  });
}
