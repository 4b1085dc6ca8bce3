import { expect, test } from '@jest/globals';
import { createHmac } from 'node:crypto';
import { readConsent, signConsent, type ConsentClaims, type ConsentStatement } from './consent.ts';
import { TrustEntry } from './generated/meridian/v1/trust.ts';
import { checkGrant, readGrant, signGrant, type GrantCheckInput, type GrantClaims, type GrantDenial } from './grant.ts';
import type { NodeId } from './identifiers.ts';
import { signingKeyFromSeed } from './signed-object.ts';
import type { TrustView } from './trust-list.ts';

const asker = 'n-aaaaaaaaaaaaaaaa' as NodeId;
const holder = 'n-bbbbbbbbbbbbbbbb' as NodeId;
const third = 'n-cccccccccccccccc' as NodeId;
const now = Date.UTC(2026, 0, 15);
const [indexKey, askerKey, thirdKey, strangerKey] = [1, 2, 3, 4].map((seed) => signingKeyFromSeed(Buffer.alloc(32, seed))) as [
  ReturnType<typeof signingKeyFromSeed>,
  ReturnType<typeof signingKeyFromSeed>,
  ReturnType<typeof signingKeyFromSeed>,
  ReturnType<typeof signingKeyFromSeed>,
];
const patient = { key: 'P'.repeat(43), epoch: '1' };

const member = (nodeId: NodeId, key: { publicKey: Buffer }, change: Partial<TrustEntry> = {}): TrustEntry =>
  TrustEntry.fromPartial({ nodeId, name: nodeId, peerId: `peer-of-${nodeId}`, signingPublicKey: key.publicKey, status: 1, ...change });

function trustOf(...members: TrustEntry[]): TrustView {
  const entries = new Map(members.map((entry) => [entry.nodeId as NodeId, entry]));
  return {
    seq: 1,
    expiresAtEpochMs: now + 1e6,
    entries,
    byPeerId: (peerId: string) => members.find((entry) => entry.peerId === peerId),
    bySpki: () => undefined,
    indexSigningKeys: [indexKey.publicKey],
  } as unknown as TrustView;
}
const trust = trustOf(member(asker, askerKey), member(third, thirdKey), member(holder, strangerKey));

const consentClaims: ConsentClaims = {
  writer: asker,
  seq: 5,
  consentId: 'consent-1',
  patientKeys: [patient],
  status: 'active',
  provision: { grantee: { kind: 'hospital', nodeId: asker }, purposes: ['TREAT'], modalities: ['CT'], studyDateFrom: '20250101' },
  issuedAtEpochMs: now - 5000,
  validFromEpochMs: now - 60_000,
  validUntilEpochMs: now + 86_400_000,
  basis: 'operator-recorded',
  clerk: 'clerk-7',
  causes: [],
};
const consented = (change: Partial<ConsentClaims> = {}, key = askerKey): ConsentStatement =>
  readConsent(signConsent({ ...consentClaims, ...change }, key));
const consent = consented();
const carried = (statement: ConsentStatement): GrantClaims['cst'] => ({
  hash: statement.hash,
  seq: statement.seq,
  statement: statement.compact,
});

const claims: GrantClaims = {
  iss: 'index',
  sub: 'clinician-1',
  role: 'radiologist',
  aud: holder,
  azp: asker,
  cnf: { peerId: `peer-of-${asker}` },
  studies: ['1.2.3'],
  pou: 'TREAT',
  cst: carried(consent),
  bytes: 1 << 30,
  iat: now / 1000,
  nbf: now / 1000,
  exp: now / 1000 + 300,
  jti: 'grant-1',
};
const granted = (change: Partial<GrantClaims> = {}, key = indexKey): string => signGrant({ ...claims, ...change }, key);
const signedAs = (payload: unknown, header: Record<string, unknown> = {}): string => {
  const input = [{ alg: 'EdDSA', typ: 'meridian-grant+jwt', kid: indexKey.keyId, ...header }, payload]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.');
  return `${input}.${indexKey.sign(Buffer.from(input)).toString('base64url')}`;
};

const input: GrantCheckInput = {
  compact: granted(),
  now,
  indexKeys: [indexKey.publicKey],
  self: holder,
  livePeerId: `peer-of-${asker}`,
  trust,
  studyInstanceUid: '1.2.3',
  knownConsents: () => [],
  denied: () => false,
  seenJti: () => undefined,
  studyOf: (uid) => (uid === '1.2.3' ? { modalities: ['CT'], studyDate: '20250601', patientKeys: [patient] } : undefined),
};

test('a good grant is accepted, again by the same peer, and read by the asker', () => {
  const check = checkGrant(input);
  expect(check).toEqual({ allow: true, grant: claims, consent });
  expect(checkGrant({ ...input, seenJti: () => input.livePeerId }).allow).toBe(true);
  expect(readGrant(input.compact)).toEqual(claims);
  expect(() => readGrant('x')).toThrow(expect.objectContaining({ reason: 'GRANT_MALFORMED' }));
});

const revoked = consented({ status: 'revoked', seq: 6 });
const refusals: readonly [title: string, change: Partial<GrantCheckInput>, reason: GrantDenial][] = [
  ['text that is no JWS', { compact: 'hello' }, 'GRANT_MALFORMED'],
  ['far too long', { compact: `${'x'.repeat(40_000)}` }, 'GRANT_MALFORMED'],
  ['another algorithm', { compact: signedAs(claims, { alg: 'ES256' }) }, 'GRANT_ALG'],
  ['another type', { compact: signedAs(claims, { typ: 'meridian-consent+jwt' }) }, 'GRANT_ALG'],
  ['a consent presented as a grant', { compact: consent.compact }, 'GRANT_ALG'],
  ['a key in the header', { compact: signedAs(claims, { jwk: {} }) }, 'GRANT_MALFORMED'],
  ['a trust list that has run out', { trust: { ...trust, expiresAtEpochMs: now } }, 'TRUST_LIST_EXPIRED'],
  ['signed by a hospital', { compact: granted({}, askerKey) }, 'GRANT_ISSUER'],
  ['an index key that is no longer listed', { indexKeys: [] }, 'GRANT_ISSUER'],
  ['claims that make no sense', { compact: signedAs({ ...claims, studies: [] }) }, 'GRANT_MALFORMED'],
  ['seventeen studies', { compact: granted({ studies: Array.from({ length: 17 }, (_, i) => `1.${i}`) }) }, 'GRANT_MALFORMED'],
  ['a life of an hour', { compact: granted({ exp: claims.iat + 3600 }) }, 'GRANT_MALFORMED'],
  ['for another holder', { compact: granted({ aud: third }) }, 'GRANT_AUDIENCE'],
  ['from a minute ahead', { now: now - 31_000 }, 'CLOCK_SKEW'],
  ['run out', { now: now + 330_000 }, 'GRANT_EXPIRED'],
  ['not yet', { compact: granted({ nbf: claims.iat + 60 }) }, 'GRANT_NOT_YET_VALID'],
  ['on another connection', { livePeerId: `peer-of-${third}` }, 'GRANT_PEER'],
  ['a peer that is not listed', { compact: granted({ cnf: { peerId: 'x' } }), livePeerId: 'x' }, 'GRANT_PEER'],
  ['a suspended asker', { trust: trustOf(member(asker, askerKey, { status: 2 })) }, 'GRANT_PEER'],
  ['asking in the name of another', { compact: granted({ azp: third }) }, 'GRANT_PEER'],
  ['no consent inside', { compact: granted({ cst: { hash: 'x', seq: 1, statement: 'x' } }) }, 'CONSENT_SIGNATURE'],
  ['a consent that the index made up', { compact: granted({ cst: carried(consented({}, indexKey)) }) }, 'CONSENT_SIGNATURE'],
  [
    'a consent of a node that is not listed',
    { trust: trustOf(member(asker, askerKey)), compact: granted({ cst: carried(consented({ writer: third }, thirdKey)) }) },
    'CONSENT_SIGNATURE',
  ],
  ['another hash than the consent inside', { compact: granted({ cst: { ...claims.cst, hash: revoked.hash } }) }, 'CONSENT_SIGNATURE'],
  ['another seq than the consent inside', { compact: granted({ cst: { ...claims.cst, seq: 9 } }) }, 'CONSENT_SIGNATURE'],
  ['resting on a revocation', { compact: granted({ cst: carried(revoked) }) }, 'CONSENT_SIGNATURE'],
  ['consent revoked since', { knownConsents: () => [revoked] }, 'CONSENT_STALE'],
  ['a newer version is known', { knownConsents: () => [consented({ seq: 6 })] }, 'CONSENT_STALE'],
  [
    'a refusal under another id',
    { knownConsents: () => [consented({ consentId: 'no', writer: third, seq: 1, status: 'refused' }, thirdKey)] },
    'CONSENT_STALE',
  ],
  ['a study that the grant does not name', { studyInstanceUid: '1.2.4' }, 'CONSENT_SCOPE'],
  ['a study that is not here', { compact: granted({ studies: ['9'] }), studyInstanceUid: '9' }, 'CONSENT_SCOPE'],
  ['another purpose', { compact: granted({ pou: 'PATRQT' }) }, 'CONSENT_SCOPE'],
  [
    'another modality than the asker said',
    { studyOf: () => ({ modalities: ['CT', 'SR'], studyDate: '20250601', patientKeys: [patient] }) },
    'CONSENT_SCOPE',
  ],
  ['an older study', { studyOf: () => ({ modalities: ['CT'], studyDate: '20241231', patientKeys: [patient] }) }, 'CONSENT_SCOPE'],
  [
    'another patient',
    { studyOf: () => ({ modalities: ['CT'], studyDate: '20250601', patientKeys: [{ ...patient, epoch: '2' }] }) },
    'CONSENT_SCOPE',
  ],
  ['consent run out', { compact: granted({ cst: carried(consented({ validUntilEpochMs: now })) }) }, 'CONSENT_SCOPE'],
  ['on the deny list', { denied: ({ nodeId }) => nodeId === asker }, 'DENIED_BY_HOLDER'],
  ['shown before by another peer', { seenJti: () => `peer-of-${third}` }, 'GRANT_REPLAYED'],
  ['shown again after its end', { now: now + 301_000, seenJti: () => input.livePeerId }, 'GRANT_REPLAYED'],
];
test.each(refusals)('refused: %s', (_title, change, reason) => {
  const check = checkGrant({ ...input, ...change });
  expect(check.allow ? 'allow' : check.reason).toBe(reason);
});

test('clocks may differ by half a minute; a former key of the writer counts until its end', () => {
  expect(checkGrant({ ...input, now: now - 30_000 }).allow).toBe(true);
  expect(checkGrant({ ...input, now: now + 329_999 }).allow).toBe(true);
  const rekeyed = (untilEpochMs: bigint): TrustView =>
    trustOf(member(asker, strangerKey, { formerSigningKeys: [{ publicKey: askerKey.publicKey, untilEpochMs }] }));
  expect(checkGrant({ ...input, trust: rekeyed(BigInt(now + 1)) }).allow).toBe(true);
  expect(checkGrant({ ...input, trust: rekeyed(BigInt(now - 1)) })).toMatchObject({ reason: 'CONSENT_SIGNATURE' });
});

/** The order of the checks is part of the contract: with everything wrong, the earliest is named. */
test('each refusal outranks those that come after it', () => {
  const ranked: readonly Partial<GrantCheckInput>[] = [
    { trust: { ...trust, expiresAtEpochMs: 0 } },
    { indexKeys: [] },
    { self: third },
    { now: now + 400_000 },
    { livePeerId: 'x' },
    { knownConsents: () => [revoked] },
    { studyInstanceUid: '8' },
    { denied: () => true },
    { seenJti: () => 'other' },
  ];
  const reasons = ranked.map((_, from) => {
    const check = checkGrant(Object.assign({}, input, ...ranked.slice(from).toReversed()) as GrantCheckInput);
    return check.allow ? 'allow' : check.reason;
  });
  expect(reasons).toEqual([
    'TRUST_LIST_EXPIRED',
    'GRANT_ISSUER',
    'GRANT_AUDIENCE',
    'GRANT_EXPIRED',
    'GRANT_PEER',
    'CONSENT_STALE',
    'CONSENT_SCOPE',
    'DENIED_BY_HOLDER',
    'GRANT_REPLAYED',
  ]);
});

/** Small deterministic generator (mulberry32). */
function seeded(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

test('5,000 mutated grants: none is accepted, none makes the check throw', () => {
  const pick = seeded(8);
  const one = <T>(items: readonly T[]): T => items[pick(items.length)] as T;
  const [header, payload, signature] = input.compact.split('.') as [string, string, string];
  const encode = (part: unknown): string => Buffer.from(JSON.stringify(part)).toString('base64url');
  const other = consented(
    { writer: third, provision: { ...consentClaims.provision, grantee: { kind: 'any-treating' }, modalities: ['MR'] } },
    thirdKey,
  );
  const junk = (): unknown =>
    one<unknown>([null, true, -1, 0, 1.5, 2 ** 53, '', 'x', 'n-zzzzzzzzzzzzzzzz', [], {}, [[]], { a: 1 }, '\u0000', 'x'.repeat(300), NaN]);
  const base = claims as unknown as Record<string, unknown>;
  const forged = (change: object): string => `${header}.${encode({ ...claims, ...change })}.${signature}`;
  const mutations: readonly (() => { compact: unknown; change?: Partial<GrantCheckInput> })[] = [
    // Any one byte of the token
    () => {
      const at = pick(input.compact.length);
      const flipped = one('ABCDEFGHIJabcdefghij0123456789-_.='.split(''));
      return { compact: `${input.compact.slice(0, at)}${flipped === input.compact[at] ? '~' : flipped}${input.compact.slice(at + 1)}` };
    },
    () => ({ compact: input.compact.slice(0, pick(input.compact.length)) }),
    () => ({ compact: input.compact + one(['.', 'A', '=', ' ', '\n', '.e30']) }),
    // Claims changed, old signature
    () => ({ compact: forged({ [one(Object.keys(claims))]: junk() }) }),
    () => ({ compact: forged({ exp: claims.exp + 1 + pick(1000), bytes: claims.bytes + 1 }) }),
    () => ({ compact: forged({ studies: [`1.2.${4 + pick(99)}`] }) }),
    // Header changed
    () => ({
      compact: `${encode({ alg: one(['none', 'None', 'HS256', 'ES256', 'RS256', 'EdDsa', '', null, 7]), typ: 'meridian-grant+jwt', kid: indexKey.keyId })}.${payload}.${one([signature, ''])}`,
    }),
    () => {
      const start = `${encode({ alg: 'HS256', typ: 'meridian-grant+jwt', kid: indexKey.keyId })}.${payload}`;
      return { compact: `${start}.${createHmac('sha256', indexKey.publicKey).update(start).digest('base64url')}` };
    },
    () => ({ compact: signedAs(claims, { typ: one(['JWT', 'meridian-consent+jwt', 'at+jwt', '', null, 1]) }) }),
    () => ({ compact: signedAs(claims, { [one(['jku', 'jwk', 'x5u', 'x5c', 'crit', 'b64', 'zip'])]: junk() }) }),
    () => ({ compact: signedAs(claims, { kid: one([askerKey.keyId, '', null, 'x', '../../key']) }) }),
    // Signed by somebody else
    () => ({ compact: granted({ jti: `j${pick(1000)}` }, one([askerKey, thirdKey, strangerKey])) }),
    // Signed by the index, and wrong all the same
    () => ({ compact: granted({ aud: one([asker, third]) }) }),
    () => ({ compact: granted({ azp: one([holder, third]) }) }),
    () => ({ compact: granted({ cnf: { peerId: one(['x', `peer-of-${third}`, `peer-of-${holder}`]) } }) }),
    () => ({ compact: input.compact, change: { livePeerId: one(['x', '', `peer-of-${third}`]) } }),
    () => ({ compact: granted({ pou: one(['ETREAT', 'BTG', 'PATRQT', 'HOPERAT']) }) }),
    () => ({
      compact: signedAs({
        ...claims,
        [one(['iss', 'sub', 'role', 'aud', 'azp', 'cnf', 'studies', 'pou', 'cst', 'jti', 'exp', 'nbf'])]: one<unknown>([
          null,
          true,
          -1,
          '',
          [],
          {},
          [[]],
          undefined,
        ]),
      }),
    }),
    () => ({ compact: signedAs(one<unknown>([null, [], 'claims', 7, { ...claims, iat: base['iat'] === 0 ? 1 : 'now' }])) }),
    // Times
    () => ({ compact: input.compact, change: { now: now + 330_000 + pick(1e9) } }),
    () => ({ compact: input.compact, change: { now: now - 30_001 - pick(1e9) } }),
    () => ({ compact: granted({ exp: claims.iat - pick(100) }) }),
    () => ({ compact: granted({ exp: claims.iat + 301 + pick(1e6) }) }),
    () => ({ compact: granted({ nbf: claims.iat + 31 + pick(200) }) }),
    () => ({ compact: input.compact, change: { now: now + 300_000 + pick(29_000), seenJti: () => input.livePeerId } }),
    () => ({ compact: input.compact, change: { seenJti: () => one(['x', `peer-of-${third}`]) } }),
    // The consent inside swapped or altered
    () => ({ compact: granted({ cst: carried(other) }) }),
    () => ({ compact: granted({ cst: { ...claims.cst, statement: other.compact } }) }),
    () => ({ compact: granted({ cst: carried(consented({ patientKeys: [{ key: 'Q'.repeat(43), epoch: '1' }] })) }) }),
    () => ({ compact: granted({ cst: carried(consented({ provision: { ...consentClaims.provision, modalities: ['MR'] } })) }) }),
    () => ({ compact: granted({ cst: carried(consented({ status: one(['revoked', 'refused']) })) }) }),
    () => ({ compact: granted({ cst: carried(consented({}, one([indexKey, thirdKey, strangerKey]))) }) }),
    () => {
      const at = pick(consent.compact.length);
      const statement = `${consent.compact.slice(0, at)}${consent.compact[at] === 'B' ? 'C' : 'B'}${consent.compact.slice(at + 1)}`;
      return { compact: granted({ cst: { ...claims.cst, statement } }) };
    },
    () => ({ compact: one<unknown>([undefined, null, 7, {}, [], Buffer.from(input.compact)]) }),
  ];
  const outcomes = new Map<string, number>();
  for (let count = 0; count < 5_000; count += 1) {
    const { compact, change } = (mutations[count % mutations.length] as (typeof mutations)[number])();
    const check = checkGrant({ ...input, ...change, compact: compact as string });
    const outcome = check.allow ? `accepted ${count % mutations.length}` : check.reason;
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  expect([...outcomes.keys()].filter((outcome) => outcome.startsWith('accepted'))).toEqual([]);
  expect(outcomes.size).toBeGreaterThanOrEqual(10);
  expect([...outcomes.values()].reduce((sum, n) => sum + n, 0)).toBe(5_000);
});
