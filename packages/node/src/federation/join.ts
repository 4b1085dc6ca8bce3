import { X509Certificate, createPrivateKey } from 'node:crypto';
import { MeshError } from '@meridian/shared/errors';
import { EnrolmentServiceClient, type JoinResponse } from '@meridian/shared/generated/meridian/v1/enrolment';
import { TrustList } from '@meridian/shared/generated/meridian/v1/trust';
import { callUnary, channelOptions, clientCredentials } from '@meridian/shared/grpc';
import { parseNodeId, peerIdOf, type NodeId } from '@meridian/shared/identifiers';
import { systemClock, type Clock } from '@meridian/shared/platform/clock';
import { systemRandom, type Random } from '@meridian/shared/platform/random';
import { createSigningKey, joinProofBytes, type SigningKey } from '@meridian/shared/signed-object';
import { verifyTrustList } from '@meridian/shared/trust-list';
import { createTlsKeyRequest, fetchPinnedCa, parseJoinLink, pemOf, type TlsKeyRequest } from '@meridian/shared/x509';
import { makeDataFolder } from './data-folder.ts';
import { isEnrolled, writeIdentity } from './identity-files.ts';

/** What `meridian join` needs. */
export interface JoinOptions {
  /** `https://host:port#CODE.CASPKISHA256HEX`, as the operator gave it. */
  readonly link: string;
  /** Data folder of the node. */
  readonly folder: string;
  /** Multiaddrs on which other nodes reach this one; `serve` reports them again. */
  readonly addresses?: readonly string[];
  readonly aeTitle?: string;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly signal?: AbortSignal;
}

/**
 * Joins the federation: pins the CA by the link, makes three keys (TLS, peer, signing), proves them, and writes keys and
 * certificate into the data folder. Nothing is written unless everything held.
 * @throws MeshError ALREADY_EXISTS / NODE_ALREADY_JOINED, INVALID_ARGUMENT / JOIN_LINK_INVALID,
 *   UNAUTHENTICATED / CA_PIN_MISMATCH | JOIN_CODE_UNKNOWN | JOIN_CODE_USED | JOIN_CODE_EXPIRED, UNAVAILABLE / INDEX_UNREACHABLE,
 *   DATA_LOSS / JOIN_ANSWER_INVALID
 */
export async function joinFederation(options: JoinOptions): Promise<{ nodeId: NodeId; hospitalName: string }> {
  const { folder, signal } = options;
  const random = options.random ?? systemRandom;
  if (isEnrolled(folder)) {
    throw new MeshError(
      'ALREADY_EXISTS',
      'NODE_ALREADY_JOINED',
      'This node has joined a federation already. To join another, give the new node a data folder of its own; its keys stay with this one.',
    );
  }
  const link = parseJoinLink(options.link);
  const caCertificatePem = await fetchPinnedCa(link, signal);
  const keys = { signing: createSigningKey(random), peer: createSigningKey(random), tls: await createTlsKeyRequest() };
  const host = link.host.includes(':') ? `[${link.host}]` : link.host;
  const doorAddress = `${host}:${link.port}`;

  await makeDataFolder(folder);
  const answer = await askToJoin({ doorAddress, caCertificatePem, code: link.code, keys, options });
  const enrolled = checkAnswer(answer, { caCertificatePem, keys, nowEpochMs: (options.clock ?? systemClock).now() });
  await writeIdentity(folder, {
    enrolment: {
      nodeId: enrolled.nodeId,
      hospitalName: answer.hospitalName,
      indexAddress: answer.indexAddress,
      doorAddress,
      indexSigningPublicKey: answer.indexSigningPublicKey.toString('hex'),
      evaluatorEpoch: answer.evaluatorEpoch,
      evaluatorPublicKey: answer.evaluatorPublicKey.toString('hex'),
    },
    caCertificatePem,
    signingKey: keys.signing,
    peerKeyPem: keys.peer.toPem(),
    cacheSecret: random.bytes(32),
    credential: { privateKeyPem: keys.tls.privateKeyPem, certificateChainPem: enrolled.certificateChainPem },
    firstTrustList: Buffer.from(TrustList.encode(enrolled.trustList).finish()),
  });
  return { nodeId: enrolled.nodeId, hospitalName: answer.hospitalName };
}

interface NewKeys {
  readonly signing: SigningKey;
  readonly peer: SigningKey;
  readonly tls: TlsKeyRequest;
}

async function askToJoin(ask: {
  doorAddress: string;
  caCertificatePem: string;
  code: string;
  keys: NewKeys;
  options: JoinOptions;
}): Promise<JoinResponse> {
  const { keys, code, options } = ask;
  const { certificateSigningRequest } = keys.tls;
  const proof = joinProofBytes(code, certificateSigningRequest);
  const client = new EnrolmentServiceClient(
    ask.doorAddress,
    clientCredentials({ caCertificatePem: ask.caCertificatePem }),
    channelOptions(),
  );
  try {
    return await callUnary(
      client.join.bind(client),
      {
        code,
        certificateSigningRequest,
        signingPublicKey: keys.signing.publicKey,
        peerPublicKey: keys.peer.publicKey,
        peerId: peerIdOf(keys.peer.publicKey),
        signingProof: keys.signing.sign(proof),
        peerProof: keys.peer.sign(proof),
        addresses: [...(options.addresses ?? [])],
        aeTitle: options.aeTitle ?? '',
      },
      { deadlineMs: 20_000, signal: options.signal },
    );
  } finally {
    client.close();
  }
}

/** The certificate must be over our key and by the pinned CA, and the trust list must name us as we are. */
function checkAnswer(
  answer: JoinResponse,
  expected: { caCertificatePem: string; keys: NewKeys; nowEpochMs: number },
): { nodeId: NodeId; certificateChainPem: string; trustList: TrustList } {
  const nodeId = parseNodeId(answer.nodeId);
  const certificateChainPem = checkCertificate(answer.certificateChain, expected.keys.tls.privateKeyPem, expected.caCertificatePem);
  const { trustList } = answer;
  if (trustList === undefined) throw invalidAnswer('it holds no trust list');
  const entry = verifyTrustList(trustList, [answer.indexSigningPublicKey], expected.nowEpochMs).entries.get(nodeId);
  if (
    entry === undefined ||
    !entry.signingPublicKey.equals(expected.keys.signing.publicKey) ||
    entry.peerId !== peerIdOf(expected.keys.peer.publicKey)
  )
    throw invalidAnswer('its trust list does not name this node');
  if (answer.evaluatorPublicKey.length !== 32 || answer.evaluatorEpoch === '' || answer.indexAddress === '' || answer.hospitalName === '')
    throw invalidAnswer('it is not complete');
  return { nodeId, certificateChainPem, trustList };
}

/**
 * A certificate chain from the index as PEM, leaf first.
 * @throws MeshError DATA_LOSS / JOIN_ANSWER_INVALID where it is over another key or by another CA
 */
export function checkCertificate(chain: readonly Buffer[], privateKeyPem: string, caCertificatePem: string): string {
  const certificates = chain.map((der) => new X509Certificate(der));
  const ca = new X509Certificate(caCertificatePem);
  const [leaf] = certificates;
  if (leaf === undefined || certificates.length > 4) throw invalidAnswer('it holds no certificate');
  if (!leaf.checkPrivateKey(createPrivateKey(privateKeyPem))) throw invalidAnswer('its certificate is over another key');
  const linked = certificates.every((certificate, place) => certificate.verify((certificates[place + 1] ?? ca).publicKey));
  if (!linked) throw invalidAnswer('its certificate is by another CA');
  return chain.map((der) => pemOf('CERTIFICATE', der)).join('');
}

function invalidAnswer(why: string): MeshError {
  return new MeshError('DATA_LOSS', 'JOIN_ANSWER_INVALID', `The index answered, but ${why}. Nothing was kept of it; tell the operator.`);
}
