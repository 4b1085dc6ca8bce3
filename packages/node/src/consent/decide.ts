import { readConsent, type ConsentStatement } from '@meridian/shared/consent';
import { CLOCK_TOLERANCE_MS, checkGrant, readGrant, type GrantCheck, type GrantClaims, type HeldStudy } from '@meridian/shared/grant';
import { asMeshError } from '@meridian/shared/errors';
import type { PatientKey } from '@meridian/shared/generated/meridian/v1/common';
import type { StudyInstanceUid, TypedPersonId } from '@meridian/shared/identifiers';
import type { ConsentDatabase } from './consent-tables.ts';
import type { ConsentParts } from './parts.ts';
import { statedKeys, statementsOf } from './statements.ts';

/** The connection on which a grant was presented, and the study asked for. */
export interface Presented {
  /** PeerId that the handshake proved. */
  readonly livePeerId: string;
  readonly studyUid: StudyInstanceUid;
}

/**
 * The holder's own decision about a grant, from what is known here: it needs no index.
 * An accepted grant is remembered under the peer that presented it first, durably, so that no other can use it.
 */
export async function decideGrant(
  parts: ConsentParts & { readonly database: ConsentDatabase },
  compact: string,
  presented: Presented,
): Promise<GrantCheck> {
  const { federation, clock, database } = parts;
  const trust = federation.trust();
  if (trust === undefined) return { allow: false, reason: 'TRUST_LIST_EXPIRED' };
  const claims = claimsOrNothing(compact);
  const facts = claims === undefined ? undefined : await factsFor(parts, claims, presented);
  const check = checkGrant({
    compact,
    now: clock.now(),
    indexKeys: trust.indexSigningKeys,
    self: federation.nodeId,
    livePeerId: presented.livePeerId,
    trust,
    studyInstanceUid: presented.studyUid,
    knownConsents: () => facts?.known ?? [],
    denied: ({ jti, nodeId, peerId, consentId, consentHash }) =>
      [
        ['jti', jti],
        ['node', nodeId],
        ['peer', peerId],
        ['consent', consentId],
        ['consent', consentHash],
      ].some((pair) => facts?.denials.has(pair.join(' ')) === true),
    seenJti: () => facts?.firstPeer,
    studyOf: (uid) => (uid === presented.studyUid ? facts?.study : undefined),
  });
  if (!check.allow) return check;
  const firstPeer = await rememberGrant(database, check.grant, presented.livePeerId);
  return firstPeer === presented.livePeerId ? check : { allow: false, reason: 'GRANT_REPLAYED', grant: check.grant };
}

interface Facts {
  readonly known: readonly ConsentStatement[];
  readonly denials: ReadonlySet<string>;
  readonly firstPeer: string | undefined;
  readonly study: HeldStudy | undefined;
}

async function factsFor(
  parts: ConsentParts & { readonly database: ConsentDatabase },
  claims: GrantClaims,
  presented: Presented,
): Promise<Facts> {
  const { database } = parts;
  const consent = consentOrNothing(claims.cst.statement);
  const study = await heldStudy(parts, presented.studyUid);
  const [known, denials, seen] = await Promise.all([
    // Of the consent's patient and of the study's: the person may have refused under another id than the consent names.
    consent === undefined ? [] : statementsOf(database, [...consent.patientKeys, ...(study?.patientKeys ?? [])], [consent.consentId]),
    database.read
      .selectFrom('denial')
      .select(['kind', 'value'])
      .where('value', 'in', [claims.jti, claims.azp, presented.livePeerId, claims.cst.hash, consent?.consentId ?? ''])
      .execute(),
    database.read.selectFrom('seen_grant').select('peer_id').where('jti', '=', claims.jti).executeTakeFirst(),
  ]);
  return { known, denials: new Set(denials.map(({ kind, value }) => `${kind} ${value}`)), firstPeer: seen?.peer_id, study };
}

/** Own studies only: a copy is not passed on. */
async function heldStudy(parts: ConsentParts, studyUid: StudyInstanceUid): Promise<HeldStudy | undefined> {
  const study = await parts.store.studies.study(studyUid);
  if (study === undefined || study.copyOf !== undefined) return undefined;
  return { modalities: study.modalities, studyDate: study.studyDate, patientKeys: statedKeys(await keysOf(parts, study.personIds)) };
}

/**
 * An advertised study's keys are in the cache, under every epoch that a consent may name. Only where the cache was lost,
 * with the secret that opens it, is the index asked, once; where it is away, what is known decides.
 */
async function keysOf({ federation, log }: ConsentParts, ids: readonly TypedPersonId[]): Promise<PatientKey[]> {
  const known = await federation.knownPatientKeys(ids);
  if (known.length >= ids.length) return known;
  try {
    await federation.patientKeys(ids, AbortSignal.timeout(KEYS_TIMEOUT_MS));
    return await federation.knownPatientKeys(ids);
  } catch (thrown) {
    log.warn({ event: 'patient-keys-not-learnt', reason: asMeshError(thrown).reason });
    return known;
  }
}

const KEYS_TIMEOUT_MS = 5_000;

const DAY_MS = 86_400_000;

/** @returns the peer that presented the grant first: this one, or another. */
async function rememberGrant(database: ConsentDatabase, grant: GrantClaims, peerId: string): Promise<string> {
  return database.write.transaction().execute(async (transaction) => {
    const inserted = await transaction
      .insertInto('seen_grant')
      .values({ jti: grant.jti, peer_id: peerId, expires_epoch_ms: grant.exp * 1000 + 2 * CLOCK_TOLERANCE_MS })
      .onConflict((conflict) => conflict.doNothing())
      .executeTakeFirst();
    // Grants that are long over cannot be presented again: their end is checked first.
    await transaction
      .deleteFrom('seen_grant')
      .where('expires_epoch_ms', '<', grant.iat * 1000 - DAY_MS)
      .execute();
    if ((inserted.numInsertedOrUpdatedRows ?? 0n) > 0n) return peerId;
    const row = await transaction.selectFrom('seen_grant').select('peer_id').where('jti', '=', grant.jti).executeTakeFirstOrThrow();
    return row.peer_id;
  });
}

function claimsOrNothing(compact: string): GrantClaims | undefined {
  try {
    return readGrant(compact);
  } catch {
    return undefined; // checkGrant says what is wrong with it
  }
}

function consentOrNothing(compact: string): ConsentStatement | undefined {
  try {
    return readConsent(compact);
  } catch {
    return undefined; // checkGrant says CONSENT_SIGNATURE
  }
}
