import type { ConsentStatement } from '@meridian/shared/consent';
import { asMeshError } from '@meridian/shared/errors';
import { decodeManifest } from '@meridian/shared/manifest';
import { FIRST_RETRY_MS, MAX_RETRY_MS, VALIDITY_LOOK_MS } from './limits.ts';
import type { LockReason } from '../store/schema.ts';
import type { JoinedParts } from './ports.ts';

/** Locks copies whose consent was withdrawn or has run out. */
export interface CopyLocks {
  /** Locks at once what rests on the consent; where that fails it is tried again until it has succeeded. */
  withdraw(statement: ConsentStatement): Promise<void>;
  /** Begins to look for copies whose consent has run out, now and every few seconds; reading refuses them in the very instant. */
  watchValidity(): void;
  /** What was withdrawn while the node was down, or in the instant before it died; tried again until every copy was looked at. */
  reconcile(): Promise<void>;
  close(): Promise<void>;
}

/** A patient as statements and manifests name it. */
interface StatedKey {
  readonly key: string;
  readonly epoch: string;
}

/**
 * True where `withdrawn` ends what rests on `basis` at this node.
 * @param studyKeys keys of the study beside those of the consent: a person may have refused under another id.
 */
export function ends(withdrawn: ConsentStatement, basis: ConsentStatement, self: string, studyKeys: readonly StatedKey[] = []): boolean {
  if (withdrawn.consentId === basis.consentId) return withdrawn.status !== 'active';
  if (withdrawn.status !== 'refused') return false;
  // A refusal may be meant for another hospital alone; where it is meant for this one, it ends other consents' copies too.
  const { grantee } = withdrawn.provision;
  const concernsUs = grantee.kind === 'any-treating' || grantee.nodeId === self;
  return (
    concernsUs &&
    !basis.causes.includes(withdrawn.hash) &&
    [...basis.patientKeys, ...studyKeys].some((a) => withdrawn.patientKeys.some((b) => a.key === b.key && a.epoch === b.epoch))
  );
}

/** What a copy keeps of the consent it rests on. */
export function basisOf({ hash, consentId, validUntilEpochMs }: ConsentStatement): {
  readonly consentHash: string;
  readonly consentId: string;
  readonly validUntilEpochMs: number;
} {
  return { consentHash: hash, consentId, validUntilEpochMs };
}

function lockReasonOf({ status }: ConsentStatement): LockReason {
  return status === 'refused' ? 'CONSENT_REFUSED' : 'CONSENT_REVOKED';
}

type Copy = Awaited<ReturnType<JoinedParts['store']['fetched']['list']>>[number];

export function openCopyLocks(parts: JoinedParts): CopyLocks {
  const { consent, federation } = parts.mesh;
  const { clock, log, store } = parts;
  let passing: Promise<void> = Promise.resolve();
  let retry: { cancel(): void } | undefined;
  let watching: Promise<void> = Promise.resolve();
  let look: { cancel(): void } | undefined;
  let retryMs = FIRST_RETRY_MS;
  let closed = false;

  /** By what this node knows itself: the statement on which the copy rests, and the keys of its manifest. No index, no person id. */
  async function lockIfEnded(copy: Copy): Promise<void> {
    const related = await consent.related(copy.consentHash);
    const basis = related.find(({ hash }) => hash === copy.consentHash);
    if (basis === undefined) return log.warn({ event: 'retrieve.consent-of-copy-unknown', study: copy.studyInstanceUid });
    const { patientKeys } = decodeManifest(copy.manifest);
    const studyKeys = patientKeys.map(({ key, epoch }) => ({ key: Buffer.from(key).toString('base64url'), epoch }));
    const known = [...related, ...(await consent.knownFor(patientKeys))];
    const end = known.find((statement) => statement.status !== 'active' && ends(statement, basis, federation.nodeId, studyKeys));
    if (end !== undefined) await store.fetched.lock(copy.consentHash, lockReasonOf(end));
    // Fetched before this was kept with the copy.
    else if (copy.validUntilEpochMs === undefined) await store.fetched.rest(copy.studyInstanceUid, basisOf(basis));
  }

  /** @returns whether every copy could be looked at; one that cannot holds up no other. */
  async function lookAtAll(): Promise<boolean> {
    let isWhole = true;
    for (const copy of await store.fetched.list()) {
      if (copy.locked || closed) continue;
      try {
        await lockIfEnded(copy);
      } catch (thrown) {
        isWhole = false;
        failed(thrown, copy.studyInstanceUid);
      }
    }
    return isWhole;
  }

  function failed(thrown: unknown, study?: string): void {
    log.error({ event: 'retrieve.copies-not-locked', study, reason: asMeshError(thrown).reason, err: thrown });
  }

  function reconcile(): Promise<void> {
    retry?.cancel();
    passing = passing.then(async () => {
      const isWhole = await lookAtAll().catch((thrown: unknown) => {
        failed(thrown);
        return false;
      });
      if (isWhole || closed) {
        retryMs = FIRST_RETRY_MS;
        return;
      }
      retry?.cancel();
      retry = clock.after(retryMs, () => void reconcile());
      retryMs = Math.min(retryMs * 2, MAX_RETRY_MS);
    });
    return passing;
  }

  async function lockExpired(): Promise<void> {
    try {
      const studies = await store.fetched.lockExpired();
      if (studies.length > 0) log.info({ event: 'retrieve.copies-expired', studies: studies.length });
    } catch (thrown) {
      failed(thrown);
    }
  }

  function watchValidity(): void {
    if (closed) return;
    watching = lockExpired().then(() => {
      if (!closed) look = clock.after(VALIDITY_LOOK_MS, watchValidity);
    });
  }

  return {
    watchValidity,
    async withdraw(statement) {
      try {
        const related = await consent.related(statement.hash);
        const ended = related.filter((basis) => basis.status === 'active' && ends(statement, basis, federation.nodeId));
        for (const { hash } of ended) await store.fetched.lock(hash, lockReasonOf(statement));
        // A refusal may touch copies that rest on a consent under another id of the person.
        if (statement.status === 'refused') await reconcile();
      } catch (thrown) {
        failed(thrown);
        await reconcile();
      }
    },
    reconcile,
    async close() {
      closed = true;
      retry?.cancel();
      look?.cancel();
      await Promise.all([passing, watching]);
    },
  };
}
