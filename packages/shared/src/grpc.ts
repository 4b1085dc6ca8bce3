import { X509Certificate } from 'node:crypto';
import { createSecureContext, type PeerCertificate } from 'node:tls';
import { ChannelCredentials, ServerCredentials } from '@grpc/grpc-js';
import { sha256 } from './identifiers.ts';
import { INDEX_URI } from './x509.ts';

export { channelOptions, GRPC_LIMITS, serverOptions } from './grpc-limits.ts';
export { errorOfCall, fromServiceError, toServiceError } from './grpc-errors.ts';
export {
  openGrpcServer,
  runStream,
  unaryHandler,
  writeMessage,
  type CallContext,
  type GrpcServer,
  type StreamCall,
  type WritableCall,
} from './grpc-server.ts';
export { callUnary, type UnaryMethod } from './grpc-client.ts';

/** What one side of a TLS connection shows and trusts, all PEM. */
export interface TlsIdentity {
  /** The CA that both sides must descend from; no other root is trusted. */
  readonly caCertificatePem: string;
  /** Leaf first; absent for a client that has none yet. */
  readonly certificateChainPem?: string;
  readonly privateKeyPem?: string;
}

/** TLS 1.3 credentials of a server, with or without client certificates. */
export function serverCredentials(identity: Required<TlsIdentity>, clientCertificates: 'required' | 'none'): ServerCredentials {
  return new MeshServerCredentials(identity, clientCertificates);
}

/**
 * TLS 1.3 credentials towards the index: only the pinned CA counts, and the certificate must be that of the index, not of
 * another member of the federation.
 */
export function clientCredentials(identity: TlsIdentity): ChannelCredentials {
  const context = createSecureContext({
    ca: identity.caCertificatePem,
    minVersion: 'TLSv1.3',
    ...(identity.certificateChainPem === undefined ? {} : { cert: identity.certificateChainPem }),
    ...(identity.privateKeyPem === undefined ? {} : { key: identity.privateKeyPem }),
  });
  return ChannelCredentials.createFromSecureContext(context, {
    checkServerIdentity: (_host, certificate) => refuseOtherThanIndex(certificate),
  });
}

/**
 * SHA-256 over the DER SubjectPublicKeyInfo of the caller's certificate, or undefined where the connection has none that
 * the CA vouches for.
 */
export function peerSpki(call: { getAuthContext(): { sslPeerCertificate?: PeerCertificate } | null }): Buffer | undefined {
  const raw = call.getAuthContext()?.sslPeerCertificate?.raw;
  if (raw === undefined) return undefined;
  return sha256(new X509Certificate(raw).publicKey.export({ type: 'spki', format: 'der' }));
}

function refuseOtherThanIndex(certificate: PeerCertificate): Error | undefined {
  const names = (certificate.subjectaltname ?? '').split(', ');
  return names.includes(`URI:${INDEX_URI}`) ? undefined : new Error('this is not the certificate of the index');
}

class MeshServerCredentials extends ServerCredentials {
  constructor(identity: Required<TlsIdentity>, clientCertificates: 'required' | 'none') {
    const required = clientCertificates === 'required';
    super(
      { requestCert: required, rejectUnauthorized: required },
      { ca: identity.caCertificatePem, cert: identity.certificateChainPem, key: identity.privateKeyPem, minVersion: 'TLSv1.3' },
    );
  }

  override _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}
