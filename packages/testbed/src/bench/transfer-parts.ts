import { buildTrustList, verifyTrustList, type TrustView } from '@meridian/shared/trust-list';
import { openConsent, signConsent, type ConsentStatement } from '@meridian/shared/consent';
import { NodeStatus, type TrustEntry } from '@meridian/shared/generated/meridian/v1/trust';
import { checkGrant, signGrant, type GrantCheck } from '@meridian/shared/grant';
import { nodeIdFrom, peerIdOf } from '@meridian/shared/identifiers';
import { signingKeyFromSeed } from '@meridian/shared/signed-object';
import { studyUidOf, type StudyOrder } from '../data/studies.ts';

/** The study that travels: CT of 531 kB an image. */
export const BENCH_STUDY: StudyOrder = {
  seed: 77,
  kind: 'ct',
  person: { name: 'Bench^Transfer', birthDate: '19700101', sex: 'F' },
  patientId: 'T1',
  date: '20260301',
  time: '080000',
  institution: 'Bench',
  description: 'bench',
  slices: 300,
  size: 512,
  charset: 'utf8',
};
export const BENCH_STUDY_UID = studyUidOf(BENCH_STUDY);
export const PATIENT_KEY = { key: Buffer.alloc(32, 7), epoch: '1' };

/** Keys follow from a number, so that both processes of a pair know each other without an index. */
function memberOf(number: number) {
  const seed = Buffer.alloc(32, number);
  const signingKey = signingKeyFromSeed(Buffer.alloc(32, number + 100));
  return {
    nodeId: nodeIdFrom(Buffer.alloc(10, number)),
    peerPrivateKey: seed,
    peerId: peerIdOf(signingKeyFromSeed(seed).publicKey),
    signingKey,
  };
}

export const HOLDER = memberOf(1);
export const ASKER = memberOf(2);
const indexKey = signingKeyFromSeed(Buffer.alloc(32, 99));

/** The list of the pair. @param holderAddresses where the holder listens, once it is known. */
export function trustOfPair(holderAddresses: readonly string[]): TrustView {
  const entry = (member: typeof HOLDER, name: string, addresses: readonly string[]): TrustEntry => ({
    nodeId: member.nodeId,
    name,
    spkiSha256: [],
    peerId: member.peerId,
    signingPublicKey: Buffer.from(member.signingKey.publicKey),
    addresses: [...addresses],
    status: NodeStatus.NODE_STATUS_ACTIVE,
    formerSigningKeys: [],
    segment: 'bench',
  });
  const entries = [entry(HOLDER, 'Holder', holderAddresses), entry(ASKER, 'Asker', [])];
  const list = buildTrustList({ entries, seq: 1, nowEpochMs: Date.now(), key: indexKey, indexSigningKeys: [indexKey.publicKey] });
  return verifyTrustList(list, [indexKey.publicKey], Date.now());
}

/** The consent under which everything travels, and a grant on it. */
export function grantOfPair(jti: string): { grant: string; consent: ConsentStatement } {
  const now = Date.now();
  const claims = {
    writer: ASKER.nodeId,
    seq: 1,
    consentId: 'bench',
    patientKeys: [{ key: PATIENT_KEY.key.toString('base64url'), epoch: PATIENT_KEY.epoch }],
    status: 'active' as const,
    provision: { grantee: { kind: 'any-treating' as const }, purposes: ['TREAT' as const] },
    issuedAtEpochMs: now - 60_000,
    validFromEpochMs: now - 60_000,
    validUntilEpochMs: now + 3_600_000,
    basis: 'operator-recorded' as const,
    clerk: 'bench',
    causes: [],
  };
  const consent = openConsent(signConsent(claims, ASKER.signingKey), [ASKER.signingKey.publicKey]);
  const iat = Math.floor(now / 1000);
  const grant = signGrant(
    {
      iss: 'bench',
      sub: 'bench',
      role: 'radiologist',
      aud: HOLDER.nodeId,
      azp: ASKER.nodeId,
      cnf: { peerId: ASKER.peerId },
      studies: [BENCH_STUDY_UID],
      pou: 'TREAT',
      cst: { hash: consent.hash, seq: consent.seq, statement: consent.compact },
      bytes: 2 ** 40,
      iat,
      nbf: iat,
      exp: iat + 300,
      jti,
    },
    indexKey,
  );
  return { grant, consent };
}

/** The holder's own check of a grant, as in a node. */
export function judgeOfPair(compact: string, livePeerId: string): GrantCheck {
  const trust = trustOfPair([]);
  return checkGrant({
    compact,
    livePeerId,
    trust,
    now: Date.now(),
    indexKeys: trust.indexSigningKeys,
    self: HOLDER.nodeId,
    studyInstanceUid: BENCH_STUDY_UID,
    knownConsents: () => [],
    denied: () => false,
    seenJti: () => undefined,
    studyOf: () => ({
      modalities: ['CT'],
      studyDate: BENCH_STUDY.date,
      patientKeys: [{ key: PATIENT_KEY.key.toString('base64url'), epoch: PATIENT_KEY.epoch }],
    }),
  });
}
