import { expect, test } from '@jest/globals';
import { createHash } from 'node:crypto';
import {
  evaluateConsent,
  openConsent,
  readConsent,
  signConsent,
  type ConsentClaims,
  type ConsentProvision,
  type ConsentRequest,
  type ConsentStatement,
} from './consent.ts';
import type { NodeId } from './identifiers.ts';
import { createSigningKey, signingKeyFromSeed } from './signed-object.ts';

const asker = 'n-aaaaaaaaaaaaaaaa' as NodeId;
const holder = 'n-bbbbbbbbbbbbbbbb' as NodeId;
const third = 'n-cccccccccccccccc' as NodeId;
const now = Date.UTC(2026, 0, 15);
const day = 86_400_000;
const hashOf = (name: string): string => createHash('sha256').update(name).digest('hex');

const everything: ConsentProvision = { grantee: { kind: 'any-treating' }, purposes: ['TREAT', 'ETREAT', 'BTG', 'PATRQT', 'HOPERAT'] };
const treat: ConsentProvision = { grantee: { kind: 'hospital', nodeId: asker }, purposes: ['TREAT'] };

let counter = 0;
function statement(change: Partial<ConsentStatement> & { name?: string } = {}): ConsentStatement {
  counter += 1;
  const { name = `s${counter}`, ...rest } = change;
  return {
    hash: hashOf(name),
    compact: name,
    writer: asker,
    seq: counter,
    consentId: 'consent-1',
    patientKeys: [{ key: 'A'.repeat(43), epoch: '1' }],
    status: 'active',
    provision: treat,
    issuedAtEpochMs: now - day,
    validFromEpochMs: now - day,
    validUntilEpochMs: now + day,
    basis: 'operator-recorded',
    clerk: 'clerk-7',
    causes: [],
    ...rest,
  };
}
function request(change: Partial<Omit<ConsentRequest, 'study'>> & { study?: Partial<ConsentRequest['study']> } = {}): ConsentRequest {
  const { study, ...rest } = change;
  return {
    askingNode: asker,
    holderNode: holder,
    purpose: 'TREAT',
    atEpochMs: now,
    ...rest,
    study: { studyInstanceUid: '1.2.3', studyDate: '20250601', modalities: ['CT'], ...study },
  };
}

type Row = readonly [
  title: string,
  statements: readonly ConsentStatement[],
  request: ConsentRequest,
  expected: 'allow' | 'NO_CONSENT' | 'CONSENT_REVOKED' | 'CONSENT_EXPIRED' | 'CONSENT_OUT_OF_SCOPE' | 'CONSENT_REFUSED',
];
const scoped = (provision: Partial<ConsentProvision>): ConsentStatement[] => [statement({ provision: { ...treat, ...provision } })];
const given = (change: Partial<ConsentStatement> = {}): ConsentStatement => statement({ name: 'given', seq: 10, ...change });
const refusalBy = (change: Partial<ConsentStatement> = {}): ConsentStatement =>
  statement({ name: 'refusal', status: 'refused', consentId: 'refusal-1', writer: third, seq: 1, provision: everything, ...change });

const rows: Row[] = [
  ['nothing is known', [], request(), 'NO_CONSENT'],
  ['one consent that covers', [statement()], request(), 'allow'],
  ['a repeated statement counts once', [given(), given()], request(), 'allow'],
  // Grantee, holder, purpose
  ['another hospital asks', [statement()], request({ askingNode: third }), 'CONSENT_OUT_OF_SCOPE'],
  ['any treating hospital', scoped({ grantee: { kind: 'any-treating' } }), request({ askingNode: third }), 'allow'],
  [
    'any treating hospital, other purpose',
    scoped({ grantee: { kind: 'any-treating' } }),
    request({ purpose: 'PATRQT' }),
    'CONSENT_OUT_OF_SCOPE',
  ],
  ['purpose listed among several', scoped({ purposes: ['ETREAT', 'TREAT'] }), request(), 'allow'],
  ['emergency is not routine treatment', [statement()], request({ purpose: 'ETREAT' }), 'CONSENT_OUT_OF_SCOPE'],
  ['break-glass is never implied', [statement()], request({ purpose: 'BTG' }), 'CONSENT_OUT_OF_SCOPE'],
  ['operations are never implied', [statement()], request({ purpose: 'HOPERAT' }), 'CONSENT_OUT_OF_SCOPE'],
  ['a purpose of its own', scoped({ purposes: ['PATRQT'] }), request({ purpose: 'PATRQT' }), 'allow'],
  ['this holder may release', scoped({ holders: [holder] }), request(), 'allow'],
  ['one of several holders', scoped({ holders: [third, holder] }), request(), 'allow'],
  ['another holder', scoped({ holders: [third] }), request(), 'CONSENT_OUT_OF_SCOPE'],
  // Modalities
  ['modality in scope', scoped({ modalities: ['CT'] }), request(), 'allow'],
  ['modality out of scope', scoped({ modalities: ['MR'] }), request(), 'CONSENT_OUT_OF_SCOPE'],
  ['every modality in scope', scoped({ modalities: ['CT', 'PT'] }), request({ study: { modalities: ['PT', 'CT'] } }), 'allow'],
  [
    'one modality of two out of scope',
    scoped({ modalities: ['CT'] }),
    request({ study: { modalities: ['CT', 'PT'] } }),
    'CONSENT_OUT_OF_SCOPE',
  ],
  [
    'a study without modality, modalities restricted',
    scoped({ modalities: ['CT'] }),
    request({ study: { modalities: [] } }),
    'CONSENT_OUT_OF_SCOPE',
  ],
  ['a study without modality, not restricted', [statement()], request({ study: { modalities: [] } }), 'allow'],
  // Dates
  ['on the first day', scoped({ studyDateFrom: '20250601' }), request(), 'allow'],
  ['before the first day', scoped({ studyDateFrom: '20250602' }), request(), 'CONSENT_OUT_OF_SCOPE'],
  ['on the last day', scoped({ studyDateTo: '20250601' }), request(), 'allow'],
  ['after the last day', scoped({ studyDateTo: '20250531' }), request(), 'CONSENT_OUT_OF_SCOPE'],
  ['inside a range', scoped({ studyDateFrom: '20250101', studyDateTo: '20251231' }), request(), 'allow'],
  ['outside a range', scoped({ studyDateFrom: '20240101', studyDateTo: '20241231' }), request(), 'CONSENT_OUT_OF_SCOPE'],
  ['no study date, first day given', scoped({ studyDateFrom: '19000101' }), request({ study: { studyDate: '' } }), 'CONSENT_OUT_OF_SCOPE'],
  ['no study date, last day given', scoped({ studyDateTo: '29991231' }), request({ study: { studyDate: '' } }), 'CONSENT_OUT_OF_SCOPE'],
  ['no study date, no range', [statement()], request({ study: { studyDate: '' } }), 'allow'],
  // Single studies
  ['named study', scoped({ studyInstanceUids: ['1.2.3'] }), request(), 'allow'],
  ['one of several named studies', scoped({ studyInstanceUids: ['9.9', '1.2.3'] }), request(), 'allow'],
  ['a study that is not named', scoped({ studyInstanceUids: ['1.2.4'] }), request(), 'CONSENT_OUT_OF_SCOPE'],
  [
    'a longer UID is another study',
    scoped({ studyInstanceUids: ['1.2.3'] }),
    request({ study: { studyInstanceUid: '1.2.3.1' } }),
    'CONSENT_OUT_OF_SCOPE',
  ],
  // Validity
  ['at the first instant', [statement({ validFromEpochMs: now })], request(), 'allow'],
  ['one millisecond early', [statement({ validFromEpochMs: now + 1 })], request(), 'CONSENT_OUT_OF_SCOPE'],
  ['at the last instant', [statement({ validUntilEpochMs: now + 1 })], request(), 'allow'],
  ['at its end', [statement({ validUntilEpochMs: now })], request(), 'CONSENT_EXPIRED'],
  ['long over', [statement({ validUntilEpochMs: now - 1 })], request(), 'CONSENT_EXPIRED'],
  ['expired and out of scope', [statement({ validUntilEpochMs: now - 1 })], request({ askingNode: third }), 'CONSENT_OUT_OF_SCOPE'],
  ['one expired, one in force', [statement({ validUntilEpochMs: now - 1 }), statement({ consentId: 'consent-2' })], request(), 'allow'],
  // Revocation under the same id
  ['revoked', [given(), statement({ status: 'revoked' })], request(), 'CONSENT_REVOKED'],
  ['revoked by another node', [given(), statement({ status: 'revoked', writer: third })], request(), 'CONSENT_REVOKED'],
  ['revoked, dated before the consent', [given(), statement({ status: 'revoked', issuedAtEpochMs: 1 })], request(), 'CONSENT_REVOKED'],
  [
    'a later version does not revive a revoked id',
    [given(), statement({ status: 'revoked', seq: 11 }), statement({ seq: 12 })],
    request(),
    'CONSENT_REVOKED',
  ],
  [
    'a revocation past its own validity still holds',
    [given(), statement({ status: 'revoked', validUntilEpochMs: now - 1 })],
    request(),
    'CONSENT_REVOKED',
  ],
  ['only the revocation is known', [statement({ status: 'revoked' })], request(), 'CONSENT_REVOKED'],
  ['only a foreign revocation is known', [statement({ status: 'revoked' })], request({ askingNode: third }), 'NO_CONSENT'],
  ['one revoked, another covers', [given(), statement({ status: 'revoked' }), statement({ consentId: 'consent-2' })], request(), 'allow'],
  [
    'one revoked, another out of scope',
    [given(), statement({ status: 'revoked' }), statement({ consentId: 'consent-2', provision: { ...treat, modalities: ['MR'] } })],
    request(),
    'CONSENT_REVOKED',
  ],
  ['a refusal under the same id', [given(), statement({ status: 'refused' })], request(), 'CONSENT_REFUSED'],
  // Refusals of other ids
  ['a refusal alone', [refusalBy()], request(), 'CONSENT_REFUSED'],
  ['a concurrent refusal wins', [given(), refusalBy()], request(), 'CONSENT_REFUSED'],
  ['a later refusal wins', [given(), refusalBy({ causes: [hashOf('given')] })], request(), 'CONSENT_REFUSED'],
  ['a concurrent refusal wins whatever its clock says', [given(), refusalBy({ issuedAtEpochMs: 1 })], request(), 'CONSENT_REFUSED'],
  ['a consent by somebody who had seen the refusal', [given({ causes: [hashOf('refusal')] }), refusalBy()], request(), 'allow'],
  ['the same writer had seen its own refusal', [given({ seq: 11 }), refusalBy({ writer: asker, seq: 10 })], request(), 'allow'],
  ['the same writer refuses later', [given({ seq: 10 }), refusalBy({ writer: asker, seq: 11 })], request(), 'CONSENT_REFUSED'],
  [
    'seen through a third statement',
    [
      given({ causes: [hashOf('between')] }),
      statement({ name: 'between', consentId: 'x', writer: third, seq: 2, provision: { ...treat, modalities: ['US'] } }),
      refusalBy(),
    ],
    request(),
    'allow',
  ],
  ['a cause that is not known here proves nothing', [given({ causes: [hashOf('lost')] }), refusalBy()], request(), 'CONSENT_REFUSED'],
  [
    'a refusal for another hospital',
    [given(), refusalBy({ provision: { ...everything, grantee: { kind: 'hospital', nodeId: third } } })],
    request(),
    'allow',
  ],
  ['a refusal for another purpose', [given(), refusalBy({ provision: { ...everything, purposes: ['PATRQT'] } })], request(), 'allow'],
  ['a refusal of another modality', [given(), refusalBy({ provision: { ...everything, modalities: ['MR'] } })], request(), 'allow'],
  [
    'a refusal of one modality of two',
    [given(), refusalBy({ provision: { ...everything, modalities: ['PT'] } })],
    request({ study: { modalities: ['CT', 'PT'] } }),
    'CONSENT_REFUSED',
  ],
  [
    'a refusal by modality of a study that names none',
    [given(), refusalBy({ provision: { ...everything, modalities: ['PT'] } })],
    request({ study: { modalities: [] } }),
    'CONSENT_REFUSED',
  ],
  ['a refusal of later studies', [given(), refusalBy({ provision: { ...everything, studyDateFrom: '20250602' } })], request(), 'allow'],
  [
    'a refusal by date of a study without date',
    [given(), refusalBy({ provision: { ...everything, studyDateFrom: '20250602' } })],
    request({ study: { studyDate: '' } }),
    'CONSENT_REFUSED',
  ],
  ['a refusal of another study', [given(), refusalBy({ provision: { ...everything, studyInstanceUids: ['7'] } })], request(), 'allow'],
  [
    'a refusal of this study',
    [given(), refusalBy({ provision: { ...everything, studyInstanceUids: ['1.2.3'] } })],
    request(),
    'CONSENT_REFUSED',
  ],
  ['a refusal of another holder', [given(), refusalBy({ provision: { ...everything, holders: [third] } })], request(), 'allow'],
  ['a refusal that has run out', [given(), refusalBy({ validUntilEpochMs: now })], request(), 'allow'],
  ['a refusal that begins later', [given(), refusalBy({ validFromEpochMs: now + 1 })], request(), 'allow'],
  [
    'a refusal taken back by somebody who had seen it',
    [given(), refusalBy(), statement({ status: 'revoked', consentId: 'refusal-1', causes: [hashOf('refusal')] })],
    request(),
    'allow',
  ],
  [
    'a refusal taken back by its own writer',
    [given(), refusalBy(), statement({ status: 'revoked', consentId: 'refusal-1', writer: third, seq: 2 })],
    request(),
    'allow',
  ],
  [
    'taken back by somebody who had not seen it',
    [given(), refusalBy(), statement({ status: 'revoked', consentId: 'refusal-1' })],
    request(),
    'CONSENT_REFUSED',
  ],
  // Versions of one consent
  [
    'the newer version widens',
    [statement({ seq: 10, provision: { ...treat, modalities: ['MR'] } }), statement({ seq: 11 })],
    request(),
    'allow',
  ],
  [
    'the newer version narrows',
    [statement({ seq: 10 }), statement({ seq: 11, provision: { ...treat, modalities: ['MR'] } })],
    request(),
    'CONSENT_OUT_OF_SCOPE',
  ],
  [
    'concurrent versions: the narrower wins',
    [given(), statement({ writer: third, provision: { ...treat, modalities: ['MR'] } })],
    request(),
    'CONSENT_OUT_OF_SCOPE',
  ],
  ['concurrent versions that both cover', [given(), statement({ writer: third })], request(), 'allow'],
  [
    'another writer who had seen it replaces it',
    [given({ provision: { ...treat, modalities: ['MR'] } }), statement({ writer: third, causes: [hashOf('given')] })],
    request(),
    'allow',
  ],
  [
    'the same number twice: both must cover',
    [statement({ seq: 10 }), statement({ seq: 10, provision: { ...treat, modalities: ['MR'] } })],
    request(),
    'CONSENT_OUT_OF_SCOPE',
  ],
  [
    'causes that run in a circle',
    [
      statement({ name: 'p', causes: [hashOf('q')], writer: third, provision: { ...treat, modalities: ['MR'] } }),
      statement({ name: 'q', causes: [hashOf('p')] }),
    ],
    request(),
    'CONSENT_OUT_OF_SCOPE',
  ],
];

test.each(rows)('consent: %s', (_title, statements, asked, expected) => {
  for (const order of [statements, statements.toReversed()]) {
    const decision = evaluateConsent({ statements: order, request: asked });
    expect(decision.allow ? 'allow' : decision.reason).toBe(expected);
  }
});

test('the table is not a token one', () => expect(rows.length).toBeGreaterThanOrEqual(60));

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

/** The rule once more, as plain quantifiers over a reachability matrix. */
function oracle(statements: readonly ConsentStatement[], asked: ConsentRequest): boolean {
  const all = statements.filter((s, i) => statements.findIndex((other) => other.hash === s.hash) === i);
  const size = all.length;
  const before = all.map((a) => all.map((b) => b.causes.includes(a.hash) || (a.writer === b.writer && a.seq < b.seq)));
  for (let k = 0; k < size; k += 1)
    for (let i = 0; i < size; i += 1)
      for (let j = 0; j < size; j += 1) if (before[i]?.[k] && before[k]?.[j]) (before[i] as boolean[])[j] = true;
  const saw = (late: ConsentStatement, early: ConsentStatement): boolean =>
    early !== late && before[all.indexOf(early)]?.[all.indexOf(late)] === true;
  const addressed = (p: ConsentProvision): boolean =>
    (p.grantee.kind === 'any-treating' || p.grantee.nodeId === asked.askingNode) &&
    p.purposes.some((purpose) => purpose === asked.purpose) &&
    (p.holders?.some((node) => node === asked.holderNode) ?? true) &&
    (p.studyInstanceUids?.some((uid) => uid === asked.study.studyInstanceUid) ?? true);
  const { modalities, studyDate } = asked.study;
  const carries = (p: ConsentProvision): boolean =>
    addressed(p) &&
    (p.modalities === undefined || (modalities.length > 0 && modalities.filter((m) => !p.modalities?.includes(m)).length === 0)) &&
    (p.studyDateFrom === undefined || (studyDate !== '' && Number(studyDate) >= Number(p.studyDateFrom))) &&
    (p.studyDateTo === undefined || (studyDate !== '' && Number(studyDate) <= Number(p.studyDateTo)));
  const touches = (p: ConsentProvision): boolean =>
    addressed(p) &&
    (p.modalities === undefined || modalities.length === 0 || modalities.filter((m) => p.modalities?.includes(m)).length > 0) &&
    (studyDate === '' ||
      ((p.studyDateFrom === undefined || Number(studyDate) >= Number(p.studyDateFrom)) &&
        (p.studyDateTo === undefined || Number(studyDate) <= Number(p.studyDateTo))));
  const current = (s: ConsentStatement): boolean => asked.atEpochMs >= s.validFromEpochMs && asked.atEpochMs < s.validUntilEpochMs;
  const standing = all.filter(
    (r) =>
      r.status === 'refused' &&
      current(r) &&
      touches(r.provision) &&
      !all.some((w) => w.status === 'revoked' && w.consentId === r.consentId && saw(w, r)),
  );
  return [...new Set(all.map((s) => s.consentId))].some((id) => {
    const own = all.filter((s) => s.consentId === id);
    if (own.some((s) => s.status !== 'active')) return false;
    const tips = own.filter((s) => !own.some((other) => saw(other, s)));
    const heads = tips.length === 0 ? own : tips;
    return heads.every((s) => carries(s.provision) && current(s)) && standing.every((r) => heads.every((s) => saw(s, r)));
  });
}

test('property: the evaluator agrees with a brute-force oracle, whatever the order of arrival', () => {
  const pick = seeded(20260115);
  const one = <T>(items: readonly T[]): T => items[pick(items.length)] as T;
  let allowed = 0;
  for (let round = 0; round < 6_000; round += 1) {
    const size = 1 + pick(6);
    const names = Array.from({ length: size }, (_, index) => `r${round}-${index}`);
    const statements = names.map((name) => {
      const provision: ConsentProvision = {
        grantee: one([{ kind: 'any-treating' } as const, { kind: 'hospital', nodeId: asker } as const, { kind: 'any-treating' } as const]),
        purposes: one([['TREAT'], ['TREAT', 'ETREAT'], ['TREAT', 'PATRQT'], ['ETREAT']]),
        ...one([
          {},
          {},
          {},
          { modalities: ['CT'] },
          { modalities: ['MR', 'CT'] },
          { studyDateFrom: '20250601' },
          { studyDateTo: '20250601' },
          { holders: [holder] },
          { studyInstanceUids: ['1.2.3'] },
        ]),
      };
      return statement({
        name,
        writer: one([asker, holder, third]),
        seq: 1 + pick(4),
        consentId: one(['a', 'b', 'c', 'd']),
        status: one(['active', 'active', 'active', 'active', 'active', 'revoked', 'refused']),
        provision,
        validFromEpochMs: now - 10 + pick(12),
        validUntilEpochMs: now + 1 + pick(20) - pick(4),
        causes: names.filter(() => pick(4) === 0).map(hashOf),
      });
    });
    const asked = request({
      askingNode: one([asker, asker, third]),
      purpose: one(['TREAT', 'TREAT', 'ETREAT']),
      study: { studyDate: one(['20250601', '20250601', '20250531', '']), modalities: one([['CT'], ['CT'], ['CT', 'MR'], []]) },
    });
    const expected = oracle(statements, asked);
    const shuffled = statements.toSorted(() => pick(3) - 1);
    expect({ round, allow: evaluateConsent({ statements: shuffled, request: asked }).allow }).toEqual({ round, allow: expected });
    expect(evaluateConsent({ statements, request: asked })).toEqual(evaluateConsent({ statements: shuffled, request: asked }));
    allowed += Number(expected);
  }
  expect(allowed).toBeGreaterThan(600);
  expect(allowed).toBeLessThan(5_400);
});

const claims: ConsentClaims = {
  writer: asker,
  seq: 3,
  consentId: 'consent-1',
  patientKeys: [{ key: 'A'.repeat(43), epoch: '1' }],
  status: 'active',
  provision: { ...treat, modalities: ['CT'] },
  issuedAtEpochMs: now + 7,
  validFromEpochMs: now + 7,
  validUntilEpochMs: now + day,
  basis: 'operator-recorded',
  clerk: 'clerk-7',
  formHash: hashOf('form'),
  causes: [hashOf('x')],
};

test('a statement comes back from its JWS as it was signed, and only under the key that signed it', () => {
  const key = createSigningKey();
  const compact = signConsent(claims, key);
  const opened = openConsent(compact, [createSigningKey().publicKey, key.publicKey]);
  expect(opened).toEqual({ ...claims, compact, hash: hashOf(compact) });
  expect(readConsent(compact)).toEqual(opened);
  expect(() => openConsent(compact, [createSigningKey().publicKey])).toThrow(
    expect.objectContaining({ code: 'UNAUTHENTICATED', reason: 'CONSENT_SIGNATURE' }),
  );
  expect(() => openConsent(compact, [])).toThrow(expect.objectContaining({ reason: 'CONSENT_SIGNATURE' }));
});

test('what is malformed is refused as malformed, before and after signing', () => {
  const key = signingKeyFromSeed(Buffer.alloc(32, 7));
  const compact = signConsent(claims, key);
  const [, payload, signature] = compact.split('.') as [string, string, string];
  const header = (fields: object): string => `${Buffer.from(JSON.stringify(fields)).toString('base64url')}.${payload}.${signature}`;
  const body = (change: object): string => {
    const altered = { ...(JSON.parse(Buffer.from(payload, 'base64url').toString()) as object), ...change };
    const input = `${compact.split('.')[0]}.${Buffer.from(JSON.stringify(altered)).toString('base64url')}`;
    return `${input}.${Buffer.from(key.sign(Buffer.from(input))).toString('base64url')}`;
  };
  const kid = key.keyId;
  const hostile = [
    '',
    '.',
    '..',
    'a.b.c',
    `${compact}.x`,
    `${compact}=`,
    ` ${compact}`,
    `${compact}A`,
    'x'.repeat(20_000),
    header({ alg: 'none', typ: 'meridian-consent+jwt', kid }),
    header({ alg: 'HS256', typ: 'meridian-consent+jwt', kid }),
    header({ alg: 'EdDSA', typ: 'JWT', kid }),
    header({ alg: 'EdDSA', kid }),
    header({ alg: 'EdDSA', typ: 'meridian-consent+jwt', kid, crit: ['x'] }),
    header({ alg: 'EdDSA', typ: 'meridian-consent+jwt', kid, jwk: {} }),
    header([]),
    body({ v: 2 }),
    body({ iss: 'somebody' }),
    body({ seq: 0 }),
    body({ seq: 1.5 }),
    body({ status: 'unknown' }),
    body({ basis: 'patient-signed' }),
    body({ patient: [] }),
    body({ patient: [{ key: 'short', epoch: '1' }] }),
    body({ exp: 1, nbf: 2 }),
    body({ exp: 'never' }),
    body({ iat: -1 }),
    body({ clerk: '' }),
    body({ form: 'zz' }),
    body({ causes: ['x'] }),
    body({ causes: Array.from({ length: 65 }, () => hashOf('c')) }),
    body({ provision: { ...treat, purposes: [] } }),
    body({ provision: { ...treat, purposes: ['ANY'] } }),
    body({ provision: { ...treat, sensitivity: 'R' } }),
    body({ provision: { ...treat, grantee: { kind: 'everybody' } } }),
    body({ provision: { ...treat, grantee: { kind: 'any-treating', except: 'x' } } }),
    body({ provision: { ...treat, modalities: [] } }),
    body({ provision: { ...treat, studyDateFrom: '2025' } }),
    body({ provision: { ...treat, holders: ['x'] } }),
    body({ provision: null }),
    body({ provision: [] }),
  ];
  for (const text of hostile) {
    expect(() => openConsent(text, [key.publicKey])).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', reason: 'CONSENT_MALFORMED' }),
    );
  }
  expect(openConsent(body({ note: 'a claim of a later version' }), [key.publicKey]).seq).toBe(3);
  expect(() => signConsent({ ...claims, validUntilEpochMs: now }, key)).toThrow(expect.objectContaining({ reason: 'CONSENT_MALFORMED' }));
});
