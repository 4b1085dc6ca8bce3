import { join } from 'node:path';
import { openSqlite } from '@meridian/shared/database';
import { asMeshError, MeshError } from '@meridian/shared/errors';
import type { PatientKey } from '@meridian/shared/generated/meridian/v1/common';
import type { SubscribeResponse } from '@meridian/shared/generated/meridian/v1/push';
import type { TrustEntry } from '@meridian/shared/generated/meridian/v1/trust';
import { clientCredentials } from '@meridian/shared/grpc';
import type { NodeId, TypedPersonId } from '@meridian/shared/identifiers';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import type { Random } from '@meridian/shared/platform/random';
import type { SigningKey } from '@meridian/shared/signed-object';
import type { TrustNews, TrustView } from '@meridian/shared/trust-list';
import { spkiSha256Of } from '@meridian/shared/x509';
import type { AuditLog } from '../audit/node-audit.ts';
import { federationMigrations, type FederationSchema } from './federation-tables.ts';
import { isEnrolled, readIdentity, type TlsCredential } from './identity-files.ts';
import { openIndexChannel, type IndexChannel } from './index-channel.ts';
import { openPatientKeys } from './patient-keys.ts';
import { openPushSubscription, type PushListener } from './push-subscription.ts';
import { openRenewal } from './renewal.ts';
import { openTrustStore, type MemberKeyChange, type TrustStore } from './trust-store.ts';

export type { IndexChannel } from './index-channel.ts';

/** A node's membership: who it is, whom it trusts, and its one channel to the index. */
export interface Federation {
  readonly nodeId: NodeId;
  readonly hospitalName: string;
  readonly signingKey: SigningKey;
  /** Raw Ed25519 seed of the libp2p key, 32 bytes. */
  readonly peerPrivateKey: Uint8Array;
  /** The last list that was verified, also when it has run out: see {@link Federation.requireTrust}. */
  readonly trust: () => TrustView | undefined;
  /** The list, to decide by. @throws MeshError FAILED_PRECONDITION / TRUST_LIST_EXPIRED: nothing is granted or served on it. */
  requireTrust(): TrustView;
  /** The member with this id, whatever its status. */
  entryOf(nodeId: NodeId): TrustEntry | undefined;
  entryOfPeer(peerId: string): TrustEntry | undefined;
  /** Takes a head with deltas or segments from another node: newer wins. @returns whether it was newer. */
  offerTrust(news: TrustNews): Promise<boolean>;
  onTrustChange(listener: (view: TrustView) => void): () => void;
  readonly channel: IndexChannel;
  /** One pseudonym for each id, in order; see {@link openPatientKeys}. */
  patientKeys(ids: readonly TypedPersonId[], signal?: AbortSignal): Promise<PatientKey[]>;
  /** Every pseudonym known here for these ids, of all epochs of the evaluator's key; asks nobody. */
  knownPatientKeys(ids: readonly TypedPersonId[]): Promise<PatientKey[]>;
  /**
   * Works off what the index pushes. Listeners are called in turn; the cursor moves once all have resolved. Until the first
   * is here, revocations and recalls wait. @returns a function that ends it.
   */
  onPush(listener: PushListener): () => void;
  /** Called whenever the index was heard. @returns a function that ends it. */
  onContact(listener: () => void): () => void;
  /** Tells the index where this node listens; while it is down, at the next connection. */
  updateAddresses(addresses: readonly string[]): Promise<void>;
  /** How far this clock is ahead of the index's, milliseconds; undefined before the first keep-alive. */
  clockAheadMs(): number | undefined;
  /** A new TLS certificate now; it happens by itself at two thirds of its life. */
  renewCertificate(): Promise<void>;
  certificateExpiresAtEpochMs(): number;
  close(): Promise<void>;
}

/** A difference of clocks that is worth a warning: half of what grants tolerate. */
const SKEW_WARNING_MS = 15_000;

/**
 * Opens the membership of a data folder and connects in the background.
 * @param parts.audit gets a CERT event for every renewed certificate, and an ADMIN event where a known member's keys change.
 * @returns undefined where the node has not joined.
 * @throws MeshError FAILED_PRECONDITION / IDENTITY_UNREADABLE, and where the kept trust list was tampered with
 */
export async function openFederation(parts: {
  folder: string;
  clock: Clock;
  random: Random;
  log: Logger;
  audit?: AuditLog;
}): Promise<Federation | undefined> {
  const { folder, clock, random } = parts;
  const log = parts.log.child({ room: 'federation' });
  if (!isEnrolled(folder)) return undefined;
  const identity = await readIdentity(folder);
  const { enrolment, caCertificatePem, signingKey } = identity;
  const database = await openSqlite<FederationSchema>({
    file: join(folder, 'federation.sqlite'),
    migrations: federationMigrations,
    readers: 1,
  });
  // Only written down: a list that is held back would be a hospital cut off.
  const auditKeyChange = ({ nodeId, ...detail }: MemberKeyChange): void =>
    void parts.audit
      ?.append({ type: 'ADMIN', peer: nodeId, reason: 'MEMBER_KEY_CHANGED', detail })
      .catch((thrown: unknown) => log.error({ event: 'member-key-change-not-audited', nodeId, reason: asMeshError(thrown).reason }));
  const trust = await openTrustStore({
    database,
    first: identity.firstTrustList,
    rootKeys: [Buffer.from(enrolment.indexSigningPublicKey, 'hex')],
    clock,
    log,
    onMemberKeyChanged: auditKeyChange,
  }).catch(async (thrown: unknown) => {
    await database.close();
    throw thrown;
  });

  const credentialsOf = (credential: TlsCredential) => clientCredentials({ caCertificatePem, ...credential });
  const channel = openIndexChannel({ address: enrolment.indexAddress, credentials: credentialsOf(identity.credential), clock });
  const renewal = openRenewal({
    folder,
    enrolment,
    caCertificatePem,
    credential: identity.credential,
    signingKey,
    clock,
    log,
    onRenewed: async (credential) => {
      channel.replace(credentialsOf(credential));
      await parts.audit?.append({ type: 'CERT', detail: { spkiSha256: spkiSha256Of(credential.certificateChainPem).toString('hex') } });
    },
  });
  const keys = openPatientKeys({
    channel,
    database,
    secret: identity.cacheSecret,
    first: { epoch: enrolment.evaluatorEpoch, publicKey: Buffer.from(enrolment.evaluatorPublicKey, 'hex') },
    clock,
    random,
  });

  const listeners: PushListener[] = [];
  const contacts = new Set<() => void>();
  const worker = new AbortController();
  const tellContacts: PushListener = async () => contacts.forEach((contact) => contact());
  const own = openOwnListener({ trust, channel, clock, log });
  let untold: readonly string[] | undefined;
  const tellAddresses = async (): Promise<void> => {
    const addresses = untold;
    if (addresses === undefined) return;
    await channel.call('trust', 'updateAddresses', { addresses: [...addresses] });
    if (untold === addresses) untold = undefined;
  };
  const push = openPushSubscription({
    channel,
    database,
    clock,
    random,
    log,
    trustListSeq: () => trust.view().seq,
    workerReady: (signal) => firstOf(worker.signal, signal),
    listeners: () => [own.listen, tellContacts, ...listeners],
    onConnected: () =>
      tellAddresses().catch((thrown: unknown) => log.warn({ event: 'addresses-not-told', reason: asMeshError(thrown).reason })),
  });

  return {
    nodeId: enrolment.nodeId,
    hospitalName: enrolment.hospitalName,
    signingKey,
    peerPrivateKey: identity.peerSeed,
    trust: trust.view,
    requireTrust: () => {
      if (trust.view().expiresAtEpochMs > clock.now()) return trust.view();
      throw new MeshError(
        'FAILED_PRECONDITION',
        'TRUST_LIST_EXPIRED',
        'The trust list of this node is older than 24 hours, so it no longer knows who is trusted. It comes right by itself once the index or another node is reachable.',
      );
    },
    entryOf: (nodeId) => trust.view().entries.get(nodeId),
    entryOfPeer: (peerId) => trust.view().byPeerId(peerId),
    offerTrust: trust.offer,
    onTrustChange: trust.onChange,
    channel,
    patientKeys: keys.patientKeys,
    knownPatientKeys: keys.knownPatientKeys,
    onPush: (listener) => {
      listeners.push(listener);
      worker.abort();
      return () => void listeners.splice(listeners.indexOf(listener), 1);
    },
    onContact: (listener) => {
      contacts.add(listener);
      return () => contacts.delete(listener);
    },
    updateAddresses: async (addresses) => {
      untold = addresses;
      await tellAddresses().catch((thrown: unknown) => {
        const error = asMeshError(thrown);
        // Told again at the next connection; a node that restarts often is told to wait.
        if (!['UNAVAILABLE', 'DEADLINE_EXCEEDED', 'RESOURCE_EXHAUSTED'].includes(error.code)) throw error;
      });
    },
    clockAheadMs: own.clockAheadMs,
    renewCertificate: renewal.renewNow,
    certificateExpiresAtEpochMs: renewal.expiresAtEpochMs,
    close: async () => {
      await push.close();
      await renewal.close();
      channel.close();
      await database.close();
    },
  };
}

/** Resolves when `event` fires, rejects when `ended` does first. */
function firstOf(event: AbortSignal, ended: AbortSignal): Promise<void> {
  if (event.aborted) return Promise.resolve();
  return new Promise((resolve, reject) => {
    event.addEventListener('abort', () => resolve(), { once: true });
    ended.addEventListener('abort', () => reject(ended.reason as Error), { once: true });
    if (ended.aborted) reject(ended.reason as Error);
  });
}

/** What the federation room itself does with events of the push channel: trust-list news and the time of the index. */
function openOwnListener(parts: { trust: TrustStore; channel: IndexChannel; clock: Clock; log: Logger }): {
  readonly listen: PushListener;
  readonly clockAheadMs: () => number | undefined;
} {
  const { trust, channel, clock, log } = parts;
  let aheadMs: number | undefined;
  const takeTrust = async (news: TrustNews): Promise<void> => {
    try {
      await trust.offer(news);
    } catch (thrown) {
      if (asMeshError(thrown).reason !== 'TRUST_LIST_DELTA_GAP') throw thrown;
      // The deltas do not reach back to what is held here: ask from there, then for everything.
      for (const haveSeq of [trust.view().seq, 0]) {
        const answer = await channel.call('trust', 'getTrustList', { haveSeq: BigInt(haveSeq) });
        const taken = await trust.offer(answer).then(
          () => true,
          (error: unknown) => asMeshError(error).reason !== 'TRUST_LIST_DELTA_GAP' && Promise.reject(error as Error),
        );
        if (taken) return;
      }
    }
  };
  const listen: PushListener = async ({ event }: SubscribeResponse) => {
    if (event?.$case === 'trustList') {
      // A list that is refused is no reason to lose the channel: the next one may hold.
      await takeTrust(event.value).catch((thrown: unknown) => {
        const error = asMeshError(thrown);
        log.warn({ event: 'trust-list-refused', code: error.code, reason: error.reason });
      });
    }
    if (event?.$case === 'keepAlive') {
      const before = aheadMs ?? 0;
      aheadMs = clock.now() - Number(event.value.atEpochMs);
      if (Math.abs(aheadMs) > SKEW_WARNING_MS && Math.abs(before) <= SKEW_WARNING_MS)
        log.warn(
          { event: 'clock-skew', aheadMs },
          'the clock of this node differs from that of the index: set it by NTP, or grants will be refused',
        );
    }
  };
  return { listen, clockAheadMs: () => aheadMs };
}
