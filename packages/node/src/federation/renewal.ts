import { X509Certificate } from 'node:crypto';
import { asMeshError } from '@meridian/shared/errors';
import { EnrolmentServiceClient } from '@meridian/shared/generated/meridian/v1/enrolment';
import { callUnary, channelOptions, clientCredentials } from '@meridian/shared/grpc';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import { renewProofBytes, type SigningKey } from '@meridian/shared/signed-object';
import { createTlsKeyRequest } from '@meridian/shared/x509';
import { replaceCredential, type Enrolment, type TlsCredential } from './identity-files.ts';
import { checkCertificate } from './join.ts';

/** Keeps the TLS certificate fresh. */
export interface Renewal {
  /** A new key and certificate at once. @throws MeshError PERMISSION_DENIED / NODE_NOT_ACTIVE, UNAVAILABLE / INDEX_UNREACHABLE */
  readonly renewNow: () => Promise<void>;
  /** When the certificate in use runs out, epoch milliseconds. */
  readonly expiresAtEpochMs: () => number;
  close(): Promise<void>;
}

const LONGEST_SLEEP_MS = 3_600_000;
const RETRY_MS = 60_000;

/**
 * Renews at two thirds of the certificate's life, over the door that needs no certificate, by the signing key: a node that
 * was off for weeks comes back by itself.
 * @param parts.onRenewed gets the new credential once it is on disk.
 */
export function openRenewal(parts: {
  folder: string;
  enrolment: Enrolment;
  caCertificatePem: string;
  credential: TlsCredential;
  signingKey: SigningKey;
  clock: Clock;
  log: Logger;
  onRenewed: (credential: TlsCredential) => Promise<void>;
}): Renewal {
  const { folder, enrolment, caCertificatePem, signingKey, clock, log } = parts;
  const closing = new AbortController();
  let life = lifeOf(parts.credential);
  let running: Promise<void> | undefined;

  const renew = async (): Promise<void> => {
    const { privateKeyPem, certificateSigningRequest } = await createTlsKeyRequest();
    const atEpochMs = BigInt(clock.now());
    const client = new EnrolmentServiceClient(enrolment.doorAddress, clientCredentials({ caCertificatePem }), channelOptions());
    try {
      const signingProof = signingKey.sign(renewProofBytes({ nodeId: enrolment.nodeId, atEpochMs, certificateSigningRequest }));
      const answer = await callUnary(
        client.renew.bind(client),
        { nodeId: enrolment.nodeId, certificateSigningRequest, atEpochMs, signingProof },
        { deadlineMs: 20_000, signal: closing.signal },
      );
      const credential = { privateKeyPem, certificateChainPem: checkCertificate(answer.certificateChain, privateKeyPem, caCertificatePem) };
      await replaceCredential(folder, credential);
      life = lifeOf(credential);
      await parts.onRenewed(credential);
      log.info({ event: 'certificate-renewed', expiresAtEpochMs: life.endsAtEpochMs });
    } finally {
      client.close();
    }
  };
  const renewNow = (): Promise<void> => (running ??= renew().finally(() => (running = undefined)));

  const watch = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      let pauseMs = life.renewAtEpochMs - clock.now();
      if (pauseMs <= 0) {
        pauseMs = RETRY_MS;
        try {
          await renewNow();
          pauseMs = 1_000;
        } catch (thrown) {
          const error = asMeshError(thrown);
          if (!closing.signal.aborted)
            log.warn({ event: 'certificate-not-renewed', code: error.code, reason: error.reason, expiresAtEpochMs: life.endsAtEpochMs });
        }
      }
      await clock.sleep(Math.min(pauseMs, LONGEST_SLEEP_MS), closing.signal).catch(() => undefined);
    }
  };
  const watching = watch();
  return {
    renewNow,
    expiresAtEpochMs: () => life.endsAtEpochMs,
    close: async () => {
      closing.abort(new Error('closing'));
      await watching;
      await running?.catch(() => undefined);
    },
  };
}

function lifeOf(credential: TlsCredential): { renewAtEpochMs: number; endsAtEpochMs: number } {
  const certificate = new X509Certificate(credential.certificateChainPem);
  const [from, until] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)];
  return { renewAtEpochMs: from + ((until - from) * 2) / 3, endsAtEpochMs: until };
}
