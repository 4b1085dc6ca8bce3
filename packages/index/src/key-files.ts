import { X509Certificate } from 'node:crypto';
import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { MeshError } from '@meridian/shared/errors';
import type { Random } from '@meridian/shared/platform/random';
import { createSigningKey, loadSigningKey, type SigningKey } from '@meridian/shared/signed-object';
import { checkSettings, indexFiles, type IndexSettings } from './config.ts';
import { createEvaluatorKeyFile, parseEvaluatorKeyFile, type EvaluatorKeys } from './evaluator/keys.ts';
import {
  createCertificateAuthority,
  openCertificateAuthority,
  type CertificateAuthority,
  type KeyAndCertificate,
} from './registry/certificate-authority.ts';

/** Keys of the index, read from its folder. */
export interface IndexKeys {
  readonly authority: CertificateAuthority;
  readonly tls: KeyAndCertificate;
  /** Signs trust lists and grants. A root key that certifies it, made in a ceremony and kept offline, will stand above. */
  readonly signingKey: SigningKey;
  readonly evaluatorKeys: EvaluatorKeys;
}

/** The index's own certificate is replaced at a start that finds less than this left. */
const TLS_LEFT_MS = 120 * 24 * 3_600_000;

/**
 * Makes the index's CA, keys and settings. Existing keys are never overwritten, so an `init` that was interrupted can be
 * repeated.
 * @throws MeshError ALREADY_EXISTS / INDEX_EXISTS
 */
export async function initKeyFiles(
  folder: string,
  given: Partial<IndexSettings>,
  parts: { readonly random: Random; readonly nowEpochMs: number },
): Promise<IndexSettings> {
  const files = indexFiles(folder);
  const settings = checkSettings(given, 'the settings given');
  if ((await readIfThere(files.settings)) !== undefined) {
    throw new MeshError(
      'ALREADY_EXISTS',
      'INDEX_EXISTS',
      `There is an index in ${folder} already. Start it with \`meridian-index serve\`, or name another folder.`,
    );
  }
  await mkdir(folder, { recursive: true, mode: 0o700 });
  if ((await readIfThere(files.caCertificate)) === undefined) {
    const authority = await createCertificateAuthority(settings.name, parts);
    await writeSecret(files.caKey, authority.privateKeyPem);
    await writeSecret(files.caCertificate, authority.certificatePem);
  }
  if ((await readIfThere(files.signingKey)) === undefined) await writeSecret(files.signingKey, createSigningKey(parts.random).toPem());
  if ((await readIfThere(files.evaluatorKeys)) === undefined) await writeSecret(files.evaluatorKeys, createEvaluatorKeyFile(parts.random));
  await writeSecret(files.settings, `${JSON.stringify(settings, undefined, 2)}\n`);
  return settings;
}

/** Reads the keys and sees to it that the index's own certificate is in force. @throws MeshError FAILED_PRECONDITION / KEY_FILE_MISSING and of each key */
export async function openKeyFiles(
  folder: string,
  settings: IndexSettings,
  parts: { readonly random: Random; readonly nowEpochMs: number },
): Promise<IndexKeys> {
  const files = indexFiles(folder);
  const authority = await openCertificateAuthority(
    { privateKeyPem: await readKey(files.caKey), certificatePem: await readKey(files.caCertificate) },
    parts,
  );
  return {
    authority,
    tls: await openTlsFiles(folder, authority, settings, parts.nowEpochMs),
    signingKey: loadSigningKey(await readKey(files.signingKey)),
    evaluatorKeys: parseEvaluatorKeyFile(await readKey(files.evaluatorKeys)),
  };
}

/** Writes a file that only its owner may read: whole or not at all, and durable. */
export async function writeSecret(path: string, content: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const partial = `${path}.partial`;
  const file = await open(partial, 'w', 0o600);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(partial, path);
  const folder = await open(dirname(path), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Content of a file, or undefined where there is none. */
export async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw thrown;
  }
}

async function openTlsFiles(
  folder: string,
  authority: CertificateAuthority,
  settings: IndexSettings,
  nowEpochMs: number,
): Promise<KeyAndCertificate> {
  const files = indexFiles(folder);
  const [privateKeyPem, certificatePem] = [await readIfThere(files.tlsKey), await readIfThere(files.tlsCertificate)];
  if (privateKeyPem !== undefined && certificatePem !== undefined) {
    const certificate = new X509Certificate(certificatePem);
    const fits =
      Date.parse(certificate.validTo) - nowEpochMs > TLS_LEFT_MS &&
      certificate.verify(new X509Certificate(authority.certificatePem).publicKey);
    if (fits) return { privateKeyPem, certificatePem };
  }
  const issued = await authority.issueIndexCertificate(settings.host, nowEpochMs);
  await writeSecret(files.tlsKey, issued.privateKeyPem);
  await writeSecret(files.tlsCertificate, issued.certificatePem);
  return issued;
}

async function readKey(path: string): Promise<string> {
  const text = await readIfThere(path);
  if (text !== undefined) return text;
  throw new MeshError(
    'FAILED_PRECONDITION',
    'KEY_FILE_MISSING',
    `The key file ${path} is missing. Restore it from the backup; a new one would not be trusted by the nodes.`,
  );
}
