import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { joinFederation } from '@meridian/node/federation/join';
import { openPeerHost, type PeerHost } from '@meridian/node/peer/peer-host';
import { decodeStep, encodeStep, type Step } from '@meridian/node/transfer/codec';
import { TRANSFER_PROTOCOL } from '@meridian/node/transfer/limits';
import { readConsent, signConsent, type ConsentClaims } from '@meridian/shared/consent';
import { PurposeOfUse } from '@meridian/shared/generated/meridian/v1/common';
import { type GrantClaims, readGrant, signGrant } from '@meridian/shared/grant';
import { type NodeId, parsePersonId } from '@meridian/shared/identifiers';
import { signJws } from '@meridian/shared/jws';
import { systemClock } from '@meridian/shared/platform/clock';
import { systemRandom } from '@meridian/shared/platform/random';
import { createSigningKey, loadSigningKey, type SigningKey } from '@meridian/shared/signed-object';
import { madeUpResidentId } from '../src/data/person-ids.ts';
import type { Person } from '../src/data/studies.ts';
import { type Network, openNetwork } from '../src/network.ts';
import type { JoinedRooms } from '@meridian/node/node';
import { image, keepLog, leaks, leaksIn, Ledger, postJson, study, until, wordsOf } from './hostile-parts.ts';

const ZHAO: Person & { residentId: string } = {
  name: 'Zhao^Guoqiang=赵^国强',
  birthDate: '19480529',
  sex: 'M',
  residentId: madeUpResidentId('19480529', 331),
};
const QIAN: Person & { residentId: string } = {
  name: 'Qian^Meihua=钱^美华',
  birthDate: '19850711',
  sex: 'F',
  residentId: madeUpResidentId('19850711', 448),
};
const WORDS = [...wordsOf(ZHAO, 'GR-55120-A'), ...wordsOf(QIAN, 'GR-55121-B')];
const PLAN = [
  { key: 'a', name: 'Hospital A', assigningAuthority: 'AAA', aeTitle: 'HOSPITAL_A' },
  { key: 'b', name: 'Hospital B', assigningAuthority: 'BBB', aeTitle: 'HOSPITAL_B' },
  { key: 'c', name: 'Hospital C', assigningAuthority: 'CCC', aeTitle: 'HOSPITAL_C' },
] as const;

const log = keepLog('node');
const ledger = new Ledger();
const HERS = study({ study: 'granted', count: 4, person: ZHAO, patientId: 'GR-55120-A' });
const OTHER = study({ study: 'not granted', count: 2, person: ZHAO, patientId: 'GR-55120-A' });
const STRANGERS = study({ study: 'another patient', count: 2, person: QIAN, patientId: 'GR-55121-B' });
const STUDY = HERS[0]!.studyInstanceUid;
let folder = '';
let network: Network<'a' | 'b' | 'c'>;
let indexKey: SigningKey;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'meridian-grants-'));
  network = await openNetwork({ folder, hospitals: PLAN, parts: { log: log.log }, indexLog: log.log });
  indexKey = loadSigningKey(readFileSync(join(folder, 'index/signing-key.pem'), 'utf8'));
  for (const images of [HERS, OTHER, STRANGERS]) await ledger.send(network.hospital('a'), images);
  await ledger.send(network.hospital('b'), study({ study: 'at B', count: 1, person: ZHAO, patientId: 'B-1' }));
  await network.settle();
}, 60_000);

afterAll(async () => {
  await network?.close();
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

const rooms = (key: 'a' | 'b' | 'c'): JoinedRooms => network.hospital(key).node.joined!;
const nodeId = (key: 'a' | 'b' | 'c'): NodeId => rooms(key).federation.nodeId;

/** A grant as the index gives it to C for A's study. */
async function realGrant(): Promise<string> {
  const { federation } = rooms('c');
  const answer = await federation.channel.call('grants', 'issueGrant', {
    patientKeys: await federation.patientKeys([parsePersonId(ZHAO.residentId)]),
    holderNode: nodeId('a'),
    studyInstanceUids: [STUDY],
    purposeOfUse: PurposeOfUse.PURPOSE_OF_USE_TREAT,
    subject: 'local-operator',
    role: 'viewer',
  });
  return answer.grant!.compact;
}

/** What A answers to HELLO with this grant, and how many bytes of pixels came before the end. */
async function present(from: PeerHost, compact: string, studyInstanceUid = STUDY): Promise<{ answer: string; dataBytes: number }> {
  const stream = await from.dial(nodeId('a'), TRANSFER_PROTOCOL, AbortSignal.timeout(10_000));
  let answer = 'nothing';
  let dataBytes = 0;
  try {
    stream.send(encodeStep({ $case: 'hello', value: { grant: { compact }, studyInstanceUid, codings: ['identity'] } }));
    // Asked for at once, as somebody does who hopes that the check comes late.
    for (const [at, one] of [...HERS, ...OTHER, ...STRANGERS].entries())
      stream.send(encodeStep({ $case: 'get', value: { requestId: at + 1, sopInstanceUid: one.sopInstanceUid, offset: 0n, length: 0n } }));
    for await (const frame of stream.messages()) {
      const step: Step | undefined = decodeStep(frame);
      if (step?.$case === 'close') answer = step.value.reason;
      if (step?.$case === 'accept') {
        answer = 'ACCEPTED';
        break;
      }
      if (step?.$case === 'data') dataBytes += step.value.bytes.length;
    }
  } catch (thrown) {
    if (answer === 'nothing') throw thrown;
  } finally {
    stream.abort('done');
  }
  return { answer, dataBytes };
}

function auditOf(key: 'a' | 'b' | 'c'): { type: string; reason?: string; jti?: string }[] {
  const text = readFileSync(join(folder, key, 'audit/audit.jsonl'), 'utf8');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const record = JSON.parse(line) as { event?: { type: string } };
      return (record.event ?? record) as { type: string; reason?: string; jti?: string };
    });
}

test('without consent the index gives no grant: PERMISSION_DENIED and the reason, at the page as well', async () => {
  const c = network.hospital('c');
  await expect(realGrant()).rejects.toMatchObject({ code: 'PERMISSION_DENIED', reason: 'NO_CONSENT' });
  await expect(c.client.fetchStudy({ personId: ZHAO.residentId, studyInstanceUid: STUDY })).rejects.toMatchObject({ reason: 'NO_CONSENT' });
  // Asked again in the very moment of the refusal, it is refused again, and never waits for nothing.
  for (let again = 0; again < 25; again += 1)
    await expect(c.client.fetchStudy({ personId: ZHAO.residentId, studyInstanceUid: STUDY })).rejects.toMatchObject({
      reason: 'NO_CONSENT',
    });
  expect(await c.client.instancesOf(STUDY)).toEqual([]);
  expect(auditOf('c').some((event) => event.type === 'DENY' && event.reason === 'NO_CONSENT')).toBe(true);
});

test('an expired, foreign, forged, stolen or replayed grant gets CLOSE with its reason and not a byte; the holder logs and audits it', async () => {
  await network.hospital('c').client.recordConsent({ personId: ZHAO.residentId });
  const real = await realGrant();
  const claims = readGrant(real);
  const second = Math.floor(Date.now() / 1000);
  const of = (change: Partial<GrantClaims>): GrantClaims => ({ ...claims, jti: systemRandom.uuid(), ...change });
  const forged = (change: Partial<GrantClaims>, key = indexKey): string => signGrant(of(change), key);
  const stranger = createSigningKey();
  const posing: SigningKey = { ...stranger, keyId: indexKey.keyId, sign: stranger.sign };
  const consent = readConsent(claims.cst.statement);
  const consentBy = (key: SigningKey, change: Partial<ConsentClaims> = {}): GrantClaims['cst'] => {
    const { hash: _hash, compact: _compact, ...stated } = consent;
    const statement = signConsent({ ...stated, ...change }, key);
    return { hash: readConsent(statement).hash, seq: readConsent(statement).seq, statement };
  };
  const cases: readonly (readonly [what: string, from: PeerHost, compact: string, reason: string, study?: string])[] = [
    ['expired', rooms('c').peerHost, forged({ iat: second - 400, nbf: second - 400, exp: second - 101 }), 'GRANT_EXPIRED'],
    ['from the future', rooms('c').peerHost, forged({ iat: second + 120, nbf: second + 120, exp: second + 300 }), 'CLOCK_SKEW'],
    ['not yet valid', rooms('c').peerHost, forged({ nbf: second + 120 }), 'GRANT_NOT_YET_VALID'],
    ['valid for a day', rooms('c').peerHost, forged({ exp: second + 86_400 }), 'GRANT_MALFORMED'],
    ['for another holder', rooms('c').peerHost, forged({ aud: nodeId('b') }), 'GRANT_AUDIENCE'],
    ['signed by a stranger', rooms('c').peerHost, forged({}, stranger), 'GRANT_ISSUER'],
    ['signed by a stranger under the index’s name', rooms('c').peerHost, forged({}, posing), 'GRANT_ISSUER'],
    ['signed by the asker', rooms('c').peerHost, forged({}, rooms('c').federation.signingKey), 'GRANT_ISSUER'],
    [
      'altered',
      rooms('c').peerHost,
      real.replace(
        /\.([^.]+)\./,
        (_whole, payload: string) =>
          `.${Buffer.from(Buffer.from(payload, 'base64url').toString().replace('"pou":"TREAT"', '"pou":"ETREAT"')).toString('base64url')}.`,
      ),
      'GRANT_ISSUER',
    ],
    ['of another kind', rooms('c').peerHost, signJws('meridian-consent+jwt', { ...of({}) }, indexKey), 'GRANT_ALG'],
    [
      'unsigned',
      rooms('c').peerHost,
      `${Buffer.from(JSON.stringify({ alg: 'none', typ: 'meridian-grant+jwt', kid: indexKey.keyId })).toString('base64url')}.${Buffer.from(JSON.stringify(of({}))).toString('base64url')}.AA`,
      'GRANT_ALG',
    ],
    ['no grant', rooms('c').peerHost, 'no grant', 'GRANT_MALFORMED'],
    ['empty', rooms('c').peerHost, '', 'GRANT_MALFORMED'],
    ['stolen by B before its use', rooms('b').peerHost, real, 'GRANT_PEER'],
    [
      'stolen by B, which claims to be the asker',
      rooms('b').peerHost,
      forged({ cnf: { peerId: rooms('b').peerHost.peerId } }),
      'GRANT_PEER',
    ],
    ['resting on a consent that the index made up', rooms('c').peerHost, forged({ cst: consentBy(indexKey) }), 'CONSENT_SIGNATURE'],
    ['resting on a consent that a stranger signed', rooms('c').peerHost, forged({ cst: consentBy(stranger) }), 'CONSENT_SIGNATURE'],
    [
      'resting on another consent than it says',
      rooms('c').peerHost,
      forged({ cst: { ...claims.cst, hash: '0'.repeat(64) } }),
      'CONSENT_SIGNATURE',
    ],
    ['for one study, shown for another', rooms('c').peerHost, forged({}), 'CONSENT_SCOPE', OTHER[0]!.studyInstanceUid],
    [
      'for another patient’s study under this one’s consent',
      rooms('c').peerHost,
      forged({ studies: [STRANGERS[0]!.studyInstanceUid] }),
      'CONSENT_SCOPE',
      STRANGERS[0]!.studyInstanceUid,
    ],
    ['for a study that nobody holds', rooms('c').peerHost, forged({ studies: ['1.2.3.4'] }), 'CONSENT_SCOPE', '1.2.3.4'],
    [
      'for B under a consent for C',
      rooms('b').peerHost,
      forged({ azp: nodeId('b'), cnf: { peerId: rooms('b').peerHost.peerId } }),
      'CONSENT_SCOPE',
    ],
  ];
  for (const [what, from, compact, reason, studyInstanceUid] of cases) {
    log.news();
    const before = auditOf('a').length;
    expect({ what, ...(await present(from, compact, studyInstanceUid)) }).toEqual({ what, answer: reason, dataBytes: 0 });
    expect({
      what,
      logged: log.news().filter((line) => line.includes('"event":"transfer.refused"') && line.includes(`"${reason}"`)).length,
    }).toEqual({ what, logged: 1 });
    expect({
      what,
      audited: auditOf('a')
        .slice(before)
        .map(({ type, reason: told }) => `${type} ${told}`),
    }).toEqual({ what, audited: [`DENY ${reason}`] });
  }
  // Grants and what they rest on are keys: no line holds one.
  expect(
    leaks(
      log.lines,
      [real, claims.cst.statement].map((text) => Buffer.from(text.slice(0, 200))),
    ),
  ).toEqual([]);

  // The true one is taken still, also again by its own peer; then nobody else can use its number.
  expect((await present(rooms('c').peerHost, real)).answer).toBe('ACCEPTED');
  expect((await present(rooms('c').peerHost, real)).answer).toBe('ACCEPTED');
  const anybody = await rooms('c').consent.record({
    personId: parsePersonId(ZHAO.residentId),
    provision: { grantee: { kind: 'any-treating' }, purposes: ['TREAT'] },
    validForMs: 60_000,
    clerk: 'clerk',
  });
  const replayed = {
    azp: nodeId('b'),
    cnf: { peerId: rooms('b').peerHost.peerId },
    jti: claims.jti,
    cst: { hash: anybody.hash, seq: anybody.seq, statement: anybody.compact },
  };
  expect(await present(rooms('b').peerHost, forged(replayed))).toEqual({ answer: 'GRANT_REPLAYED', dataBytes: 0 });
  // That a fresh number would do shows that nothing else stopped it.
  expect((await present(rooms('b').peerHost, forged({ ...replayed, jti: systemRandom.uuid() }))).answer).toBe('ACCEPTED');
  expect((await present(rooms('c').peerHost, real)).answer).toBe('ACCEPTED');

  // A restart of the holder forgets no number.
  await network.hospital('a').restart();
  await until(() => rooms('a').federation.trust() !== undefined, 'the trust list');
  await until(
    async () => (await present(rooms('b').peerHost, forged(replayed)).catch(() => ({ answer: '' }))).answer === 'GRANT_REPLAYED',
    'the refusal after the restart',
  );
}, 60_000);

test('frames that are no HELLO get CLOSE and nothing else', async () => {
  const frames: readonly (readonly [string, Uint8Array, string])[] = [
    ['garbage', Buffer.alloc(3000, 0xff), 'FRAME_INVALID'],
    [
      'GET first',
      encodeStep({ $case: 'get', value: { requestId: 1, sopInstanceUid: HERS[0]!.sopInstanceUid, offset: 0n, length: 0n } }),
      'HELLO_MISSING',
    ],
    [
      'a study that is no UID',
      encodeStep({ $case: 'hello', value: { grant: { compact: 'x' }, studyInstanceUid: '../../etc/passwd', codings: ['identity'] } }),
      'UID_INVALID',
    ],
  ];
  for (const [what, frame, reason] of frames) {
    log.news();
    const stream = await rooms('c').peerHost.dial(nodeId('a'), TRANSFER_PROTOCOL, AbortSignal.timeout(10_000));
    stream.send(frame);
    const answers: (string | undefined)[] = [];
    for await (const answer of stream.messages()) {
      const step = decodeStep(answer);
      answers.push(step?.$case === 'close' ? step.value.reason : step?.$case);
    }
    expect({ what, answers }).toEqual({ what, answers: [reason] });
    expect(log.news().some((line) => line.includes('"event":"transfer.refused"') && line.includes(reason))).toBe(true);
    stream.abort('done');
  }
});

test('a machine that is not on the trust list gets no stream at all, even with a stolen grant', async () => {
  const grant = await realGrant();
  const outsider = await openPeerHost({
    federation: { peerPrivateKey: systemRandom.bytes(32), trust: () => rooms('c').federation.trust() },
    config: { host: '127.0.0.1', port: 0 },
    clock: systemClock,
    log: log.log,
  });
  try {
    await expect(present(outsider, grant)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  } finally {
    await outsider.close();
  }
});

test('a code joins one node: the second is told that it was used, and nothing of it is left', async () => {
  const { joinLink } = await network.index.addHospital({ name: 'Hospital E' });
  const joined = await joinFederation({ link: joinLink, folder: join(folder, 'e') });
  log.news();
  await expect(joinFederation({ link: joinLink, folder: join(folder, 'f') })).rejects.toMatchObject({
    code: 'UNAUTHENTICATED',
    reason: 'JOIN_CODE_USED',
  });
  expect(log.news().some((line) => line.includes('"event":"call-refused"') && line.includes('JOIN_CODE_USED'))).toBe(true);
  await expect(joinFederation({ link: joinLink.replace(/#.{26}/, `#${'A'.repeat(26)}`), folder: join(folder, 'f') })).rejects.toMatchObject(
    { code: 'UNAUTHENTICATED', reason: 'JOIN_CODE_UNKNOWN' },
  );
  await expect(joinFederation({ link: joinLink, folder: join(folder, 'e') })).rejects.toMatchObject({ reason: 'NODE_ALREADY_JOINED' });
  const code = /#([^.]+)\./.exec(joinLink)![1]!;
  expect(leaks(log.lines, [Buffer.from(code)])).toEqual([]);
  await until(() => rooms('a').federation.entryOf(joined.nodeId) !== undefined, 'the new member on the trust list');
});

test('while the index is down ingest goes on, the history is local and says so, consent is kept and delivered later', async () => {
  const [a, c] = [network.hospital('a'), network.hospital('c')];
  await c.client.revokeConsent({ personId: ZHAO.residentId });
  await network.settle();
  await a.client.history(ZHAO.residentId);
  await network.stopIndex();
  await until(
    () => rooms('c').federation.channel.state().state === 'unreachable' && rooms('a').federation.channel.state().state === 'unreachable',
    'the nodes notice',
  );
  log.news();

  const late = study({ study: 'during the outage', count: 3, person: ZHAO, patientId: 'GR-55120-A', date: '20260701' });
  await ledger.send(a, late);
  const history = await a.client.history(ZHAO.residentId);
  expect(history.studies.map((one) => one.studyInstanceUid)).toEqual(expect.arrayContaining([STUDY, late[0]!.studyInstanceUid]));
  expect(history.studies.every((one) => one.holders.every((holder) => holder.self))).toBe(true);
  expect(history.coverage).toMatchObject({ indexReachable: false, answered: 1 });
  expect(history.coverage.notAsked).toBeGreaterThanOrEqual(2);
  expect(log.news().some((line) => line.includes('"event":"retrieve.index-away"'))).toBe(true);

  const consent = await c.client.recordConsent({ personId: ZHAO.residentId });
  expect((await rooms('c').consent.outbox()).pending).toBe(1);
  // Somebody who was never asked for here: the pseudonym cannot be made without the index, and that is said.
  const unknown = await postJson(c, '/api/v1/consents', {
    personId: madeUpResidentId('19710101', 111),
    grantee: { kind: 'this-hospital' },
    validForMs: 60_000,
    clerk: 'clerk',
  });
  expect([unknown.status, unknown.contentType, unknown.body['reason']]).toEqual([
    503,
    'application/problem+json; charset=utf-8',
    'PATIENT_KEY_UNAVAILABLE',
  ]);
  expect(log.news().some((line) => /"event":"http-(refused|failed)"/.test(line) && line.includes('PATIENT_KEY_UNAVAILABLE'))).toBe(true);

  await a.restart();
  await c.restart();
  expect((await rooms('c').consent.outbox()).pending).toBe(1);
  expect(rooms('a').advertise.status().pending + (await a.client.node()).storage.studies).toBeGreaterThan(0);
  await network.startIndex();
  await until(async () => (await rooms('c').consent.outbox()).pending === 0, 'the consent is delivered');
  await network.settle();
  expect(rooms('a').advertise.status().pending).toBe(0);
  // B's channel to the index comes back in its own time.
  await until(
    async () =>
      (await rooms('b').consent.list(parsePersonId(ZHAO.residentId))).some((statement) => statement.consentId === consent.consentId),
    'the consent reaches another hospital',
  );

  await until(
    () => rooms('c').federation.entryOf(nodeId('a'))?.addresses.join(' ') === rooms('a').peerHost.addresses.join(' '),
    'the address that A took at its restart',
  );
  const after = await c.client.history(ZHAO.residentId);
  expect(after.coverage).toMatchObject({ indexReachable: true });
  expect(after.studies.find((one) => one.studyInstanceUid === late[0]!.studyInstanceUid)).toMatchObject({
    instanceCount: 3,
    consent: 'allowed',
  });
  await c.client.fetchStudy({ personId: ZHAO.residentId, studyInstanceUid: late[0]!.studyInstanceUid });
  expect(await c.client.instancesOf(late[0]!.studyInstanceUid)).toHaveLength(3);
}, 60_000);

test('after all of it nothing that was accepted is lost, and no line of any log tells of a patient', async () => {
  expect(await ledger.assertNothingLost()).toBe(12);
  expect(leaks(log.lines, WORDS)).toEqual([]);
  expect(
    leaksIn([...PLAN.map(({ key }) => join(folder, key, 'audit/audit.jsonl')), join(folder, 'index/audit/audit.jsonl')], WORDS),
  ).toEqual([]);
  expect(
    leaks(
      [`x ${image({ study: 'control', person: ZHAO, patientId: 'GR-55120-A' }).dataSet.toString('latin1')}`],
      [Buffer.from('GR-55120-A')],
    ),
  ).toHaveLength(1);
});
