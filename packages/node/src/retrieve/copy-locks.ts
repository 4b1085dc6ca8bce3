import type { ConsentStatement } from '@meridian/shared/consent';
import { asMeshError } from '@meridian/shared/errors';
import type { JoinedParts } from './ports.ts';

/** Locks copies whose consent was withdrawn. */
export interface CopyLocks {
  /** Locks at once what rests on the consent; a failure is logged and made good at the next start. */
  withdraw(statement: ConsentStatement): Promise<void>;
  /** What was withdrawn while the node was down, or in the instant before it died. */
  reconcile(): Promise<void>;
}

/** True where `withdrawn` ends what rests on `basis` at this node. */
export function ends(withdrawn: ConsentStatement, basis: ConsentStatement, self: string): boolean {
  if (withdrawn.consentId === basis.consentId) return withdrawn.status !== 'active';
  if (withdrawn.status !== 'refused') return false;
  // A refusal may be meant for another hospital alone; where it is meant for this one, it ends other consents' copies too.
  const { grantee } = withdrawn.provision;
  const concernsUs = grantee.kind === 'any-treating' || grantee.nodeId === self;
  return concernsUs && !basis.causes.includes(withdrawn.hash) && basis.patientKeys.some((a) => withdrawn.patientKeys.some((b) => a.key === b.key && a.epoch === b.epoch));
}

export function openCopyLocks(parts: JoinedParts): CopyLocks {
  const { federation, consent } = parts.mesh;

  async function lockUnder(statements: readonly ConsentStatement[], withdrawn: readonly ConsentStatement[]): Promise<void> {
    const ended = statements.filter((basis) => basis.status === 'active' && withdrawn.some((statement) => ends(statement, basis, federation.nodeId)));
    for (const { hash } of ended) await parts.store.fetched.lock(hash);
  }
  async function guarded(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (thrown) {
      parts.log.error({ event: 'retrieve.copies-not-locked', reason: asMeshError(thrown).reason, err: thrown });
    }
  }

  return {
    withdraw: (statement) =>
      guarded(async () => {
        const keys = statement.patientKeys.map(({ key, epoch }) => ({ key: Buffer.from(key, 'base64url'), epoch }));
        await lockUnder(await consent.knownFor(keys), [statement]);
      }),
    reconcile: () =>
      guarded(async () => {
        for (const copy of await parts.store.fetched.list()) {
          if (copy.locked) continue;
          const study = await parts.store.studies.study(copy.studyInstanceUid);
          if (study === undefined || study.personIds.length === 0) continue;
          const statements = await consent.knownFor(await federation.patientKeys(study.personIds, AbortSignal.timeout(2_000)));
          await lockUnder(statements.filter(({ hash }) => hash === copy.consentHash), statements.filter(({ status }) => status !== 'active'));
        }
      }),
  };
}
