import { createPrivateKey } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { MeshError } from '@meridian/shared/errors';
import { parseNodeId, type NodeId } from '@meridian/shared/identifiers';
import { loadSigningKey, type SigningKey } from '@meridian/shared/signed-object';

/** What a node was told when it joined. Public: the secrets are files of their own. */
export interface Enrolment {
  readonly nodeId: NodeId;
  readonly hospitalName: string;
  /** host:port of the mutual-TLS listener. */
  readonly indexAddress: string;
  /** host:port of the doors without client certificate (Join, Renew). */
  readonly doorAddress: string;
  /** Raw Ed25519 key under which the first trust list was signed, hex. */
  readonly indexSigningPublicKey: string;
  readonly evaluatorEpoch: string;
  /** ristretto255 element, hex. */
  readonly evaluatorPublicKey: string;
}

/** Everything of the identity folder, in memory. */
export interface Identity {
  readonly enrolment: Enrolment;
  readonly caCertificatePem: string;
  readonly signingKey: SigningKey;
  /** Ed25519 seed of the libp2p key, 32 bytes. */
  readonly peerSeed: Buffer;
  /** Key of the patient-key cache, 32 bytes. */
  readonly cacheSecret: Buffer;
  /** TLS key and certificate chain in one file, so that they change together. */
  readonly credential: TlsCredential;
  /** Encoded TrustList as the join answered it. */
  readonly firstTrustList: Buffer;
}

/** A TLS key with its certificate chain, both PEM. */
export interface TlsCredential {
  readonly privateKeyPem: string;
  readonly certificateChainPem: string;
}

const FILES = {
  enrolment: 'enrolment.json',
  ca: 'ca.pem',
  signing: 'signing-key.pem',
  peer: 'peer-key.pem',
  cacheSecret: 'cache-secret',
  credential: 'tls.pem',
  trustList: 'first-trust-list',
} as const;

/** Folder of a node's keys and certificate inside its data folder. */
export function identityFolder(folder: string): string {
  return join(folder, 'identity');
}

/** True where the data folder holds an enrolment. */
export function isEnrolled(folder: string): boolean {
  return existsSync(join(identityFolder(folder), FILES.enrolment));
}

/** Writes a whole identity, or nothing: all files are on disk before the folder gets its name. Files have mode 0600. */
export async function writeIdentity(folder: string, identity: Omit<Identity, 'peerSeed'> & { readonly peerKeyPem: string }): Promise<void> {
  const target = identityFolder(folder);
  const draft = `${target}.draft`;
  await rm(draft, { recursive: true, force: true });
  await mkdir(draft, { recursive: true, mode: 0o700 });
  await writeDurably(join(draft, FILES.ca), identity.caCertificatePem);
  await writeDurably(join(draft, FILES.signing), identity.signingKey.toPem());
  await writeDurably(join(draft, FILES.peer), identity.peerKeyPem);
  await writeDurably(join(draft, FILES.cacheSecret), identity.cacheSecret);
  await writeDurably(join(draft, FILES.credential), credentialText(identity.credential));
  await writeDurably(join(draft, FILES.trustList), identity.firstTrustList);
  await writeDurably(join(draft, FILES.enrolment), `${JSON.stringify(identity.enrolment, null, 2)}\n`);
  await flushFolder(draft);
  await rename(draft, target);
  await flushFolder(folder);
}

/**
 * Reads the identity of a data folder.
 * @throws MeshError FAILED_PRECONDITION / IDENTITY_UNREADABLE with the file that is missing or damaged
 */
export async function readIdentity(folder: string): Promise<Identity> {
  const read = async <T>(name: string, parse: (bytes: Buffer) => T): Promise<T> => {
    try {
      return parse(await readFile(join(identityFolder(folder), name)));
    } catch (cause) {
      throw new MeshError(
        'FAILED_PRECONDITION',
        'IDENTITY_UNREADABLE',
        `The file identity/${name} of this node is missing or damaged. Restore it from the backup, or join again with a new code from the operator.`,
        { cause },
      );
    }
  };
  return {
    enrolment: await read(FILES.enrolment, parseEnrolment),
    caCertificatePem: await read(FILES.ca, (bytes) => bytes.toString('utf8')),
    signingKey: await read(FILES.signing, (bytes) => loadSigningKey(bytes.toString('utf8'))),
    peerSeed: await read(FILES.peer, (bytes) => seedOf(bytes.toString('utf8'))),
    cacheSecret: await read(FILES.cacheSecret, (bytes) => exactly(bytes, 32)),
    credential: await read(FILES.credential, (bytes) => parseCredential(bytes.toString('utf8'))),
    firstTrustList: await read(FILES.trustList, (bytes) => bytes),
  };
}

/** Replaces TLS key and certificate in one step. */
export async function replaceCredential(folder: string, credential: TlsCredential): Promise<void> {
  const path = join(identityFolder(folder), FILES.credential);
  await writeDurably(`${path}.new`, credentialText(credential));
  await rename(`${path}.new`, path);
  await flushFolder(dirname(path));
}

function credentialText(credential: TlsCredential): string {
  return `${credential.privateKeyPem.trim()}\n${credential.certificateChainPem.trim()}\n`;
}

function parseCredential(text: string): TlsCredential {
  const start = text.indexOf('-----BEGIN CERTIFICATE-----');
  if (start <= 0) throw new Error('no key followed by a certificate');
  return { privateKeyPem: text.slice(0, start), certificateChainPem: text.slice(start) };
}

/** The raw seed of an Ed25519 key in PKCS #8 (RFC 8410 section 7). */
function seedOf(pem: string): Buffer {
  const { d } = createPrivateKey(pem).export({ format: 'jwk' });
  return exactly(Buffer.from(d ?? '', 'base64url'), 32);
}

function parseEnrolment(bytes: Buffer): Enrolment {
  const fields = JSON.parse(bytes.toString('utf8')) as Record<string, unknown>;
  const text = (name: keyof Enrolment): string => {
    const value = fields[name];
    if (typeof value !== 'string' || value === '') throw new Error(`${name} is missing`);
    return value;
  };
  return {
    nodeId: parseNodeId(text('nodeId')),
    hospitalName: text('hospitalName'),
    indexAddress: text('indexAddress'),
    doorAddress: text('doorAddress'),
    indexSigningPublicKey: text('indexSigningPublicKey'),
    evaluatorEpoch: text('evaluatorEpoch'),
    evaluatorPublicKey: text('evaluatorPublicKey'),
  };
}

function exactly(bytes: Buffer, length: number): Buffer {
  if (bytes.length !== length) throw new Error(`expected ${length} bytes, found ${bytes.length}`);
  return bytes;
}

async function writeDurably(path: string, content: string | Uint8Array): Promise<void> {
  const file = await open(path, 'w', 0o600);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function flushFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
