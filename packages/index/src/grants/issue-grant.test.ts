import { readFile } from 'node:fs/promises';
import { expect, test } from '@jest/globals';
import { PurposeOfUse } from '@meridian/shared/generated/meridian/v1/common';
import type { IssueGrantRequest, IssueGrantResponse } from '@meridian/shared/generated/meridian/v1/grant';
import { ManifestStatus } from '@meridian/shared/generated/meridian/v1/manifest';
import { checkGrant, readGrant, type GrantCheck } from '@meridian/shared/grant';
import { openConsent } from '@meridian/shared/consent';
import { callUnary } from '@meridian/shared/grpc';
import { verifyTrustList } from '@meridian/shared/trust-list';
import { reasonOf, withIndex, type TestNode } from '../test-network.ts';

const PATIENT = Buffer.alloc(32, 1);
const STRANGER = Buffer.alloc(32, 3);
const OTHER_ID = Buffer.alloc(32, 4);

const record = (node: TestNode, compact: string): Promise<unknown> =>
  callUnary(node.clients.consents.recordConsent.bind(node.clients.consents), { statement: { compact } });

function ask(asker: TestNode, holder: TestNode, changes: Partial<IssueGrantRequest> = {}): Promise<IssueGrantResponse> {
  return callUnary(asker.clients.grants.issueGrant.bind(asker.clients.grants), {
    patientKeys: [{ key: PATIENT, epoch: 'e1' }],
    holderNode: holder.nodeId,
    studyInstanceUids: ['1.2.1'],
    purposeOfUse: PurposeOfUse.PURPOSE_OF_USE_TREAT,
    subject: 'doctor-1',
    role: 'radiologist',
    ...changes,
  });
}

async function hold(node: TestNode, count: number): Promise<void> {
  const feed = await node.feed();
  for (let seq = 1; seq <= count; seq += 1)
    feed.send(seq, node.manifest({ studyInstanceUid: `1.2.${seq}`, patientKeys: [{ key: PATIENT, epoch: 'e1' }] }));
  await feed.acknowledged(count);
  feed.end();
}

test('a grant rests on a consent that it carries, and the holder accepts it offline', async () => {
  await withIndex(async ({ addNode, index }) => {
    const [holder, asker, third] = [await addNode('A'), await addNode('B'), await addNode('C')];
    await hold(holder, 2);
    expect(await reasonOf(ask(asker, holder))).toBe('PERMISSION_DENIED NO_CONSENT');
    const compact = asker.consent({ patientKey: PATIENT, provision: { grantee: { kind: 'hospital', nodeId: asker.nodeId } } });
    await record(asker, compact);
    const { grant, manifests, expiresAtEpochMs } = await ask(asker, holder, { studyInstanceUids: ['1.2.1', '1.2.2'] });
    expect(manifests).toHaveLength(2);
    const claims = readGrant(grant?.compact ?? '');
    expect(claims).toMatchObject({
      aud: holder.nodeId,
      azp: asker.nodeId,
      cnf: { peerId: asker.peerId },
      studies: ['1.2.1', '1.2.2'],
      pou: 'TREAT',
      sub: 'doctor-1',
      cst: { statement: compact },
    });
    expect(claims.exp - claims.iat).toBe(300);
    expect(Number(expiresAtEpochMs)).toBe(claims.exp * 1000);
    expect(claims.bytes).toBeGreaterThanOrEqual(4096);

    const { head, segments } = await callUnary(holder.clients.trust.getTrustList.bind(holder.clients.trust), { haveSeq: 0n });
    const trust = verifyTrustList({ head, segments }, [holder.joined.indexSigningPublicKey], Date.now());
    const check = (livePeerId: string, self: TestNode): GrantCheck =>
      checkGrant({
        compact: grant?.compact ?? '',
        now: Date.now(),
        indexKeys: trust.indexSigningKeys,
        self: self.nodeId,
        livePeerId,
        trust,
        knownConsents: () => [openConsent(compact, [asker.key.publicKey])],
        denied: () => false,
        seenJti: () => undefined,
        studyOf: () => ({ modalities: ['CT'], studyDate: '20260102', patientKeys: [{ key: PATIENT.toString('base64url'), epoch: 'e1' }] }),
      });
    expect(check(asker.peerId, holder).allow).toBe(true);
    expect(check(third.peerId, holder)).toMatchObject({ allow: false, reason: 'GRANT_PEER' });
    expect(check(asker.peerId, third)).toMatchObject({ allow: false, reason: 'GRANT_AUDIENCE' });
    const audit = await readFile(`${index.auditFolder}/audit.jsonl`, 'utf8');
    expect(audit).toMatch(/"type":"DENY".*"reason":"NO_CONSENT"/);
    expect(audit).toContain(`"jti":"${claims.jti}"`);
  });
});

test('each refusal has its reason', async () => {
  await withIndex(async ({ addNode, index }) => {
    const [holder, asker, other] = [await addNode('A'), await addNode('B'), await addNode('C')];
    await hold(holder, 3);
    await hold(other, 1);
    const feed = await other.feed(Buffer.alloc(16, 5));
    feed.send(
      1,
      other.manifest({
        studyInstanceUid: '1.9.9',
        status: ManifestStatus.MANIFEST_STATUS_REJECTED,
        patientKeys: [{ key: PATIENT, epoch: 'e1' }],
      }),
    );
    await feed.acknowledged(1);

    // Another person's consent, named beside the right key, opens nothing.
    await record(asker, asker.consent({ patientKey: STRANGER }));
    expect(
      await reasonOf(
        ask(asker, holder, {
          patientKeys: [
            { key: STRANGER, epoch: 'e1' },
            { key: PATIENT, epoch: 'e1' },
          ],
        }),
      ),
    ).toBe('PERMISSION_DENIED NO_CONSENT');

    const scoped = asker.consent({ patientKey: PATIENT, consentId: 'c-1', provision: { modalities: ['MR'] } });
    await record(asker, scoped);
    expect(await reasonOf(ask(asker, holder))).toBe('PERMISSION_DENIED CONSENT_OUT_OF_SCOPE');
    await record(
      asker,
      asker.consent({ patientKey: PATIENT, consentId: 'c-2', validFromEpochMs: Date.now() - 9000, validUntilEpochMs: Date.now() - 1000 }),
    );
    expect(await reasonOf(ask(asker, holder))).toBe('PERMISSION_DENIED CONSENT_EXPIRED');
    await record(asker, asker.consent({ patientKey: PATIENT, consentId: 'c-3' }));
    expect(await reasonOf(ask(asker, holder))).toBe('nothing thrown');
    expect(await reasonOf(ask(asker, holder, { purposeOfUse: PurposeOfUse.PURPOSE_OF_USE_HOPERAT }))).toMatch(
      /^PERMISSION_DENIED CONSENT_/,
    );
    // Any hospital may withdraw it.
    await record(holder, holder.consent({ patientKey: PATIENT, consentId: 'c-3', status: 'revoked' }));
    expect(await reasonOf(ask(asker, holder))).toBe('PERMISSION_DENIED CONSENT_REVOKED');
    await record(asker, asker.consent({ patientKey: PATIENT, consentId: 'c-4', provision: { studyInstanceUids: ['1.2.1'] } }));
    await record(asker, asker.consent({ patientKey: PATIENT, consentId: 'c-5', provision: { studyInstanceUids: ['1.2.2'] } }));
    expect(await reasonOf(ask(asker, holder, { studyInstanceUids: ['1.2.1', '1.2.2'] }))).toBe('FAILED_PRECONDITION CONSENTS_DIFFER');
    expect(await reasonOf(ask(asker, holder, { studyInstanceUids: ['1.2.2'] }))).toBe('nothing thrown');
    await record(holder, holder.consent({ patientKey: PATIENT, status: 'refused' }));
    expect(await reasonOf(ask(asker, holder))).toBe('PERMISSION_DENIED CONSENT_REFUSED');

    expect(await reasonOf(ask(asker, holder, { studyInstanceUids: ['1.2.99'] }))).toBe('NOT_FOUND STUDY_UNKNOWN');
    expect(await reasonOf(ask(asker, other, { studyInstanceUids: ['1.9.9'] }))).toBe('NOT_FOUND STUDY_UNKNOWN');
    expect(await reasonOf(ask(asker, holder, { patientKeys: [{ key: STRANGER, epoch: 'e1' }] }))).toBe('NOT_FOUND STUDY_UNKNOWN');
    expect(await reasonOf(ask(asker, holder, { studyInstanceUids: Array.from({ length: 17 }, (_, place) => `1.2.${place}`) }))).toBe(
      'INVALID_ARGUMENT TOO_MANY_STUDIES',
    );
    expect(await reasonOf(ask(asker, holder, { studyInstanceUids: [] }))).toBe('INVALID_ARGUMENT TOO_MANY_STUDIES');
    expect(await reasonOf(ask(asker, holder, { studyInstanceUids: ["1' or '1'='1"] }))).toBe('INVALID_ARGUMENT UID_INVALID');
    expect(await reasonOf(ask(holder, holder))).toBe('INVALID_ARGUMENT OWN_STUDY');
    expect(await reasonOf(ask(asker, holder, { subject: '' }))).toBe('INVALID_ARGUMENT SUBJECT_INVALID');
    await index.revokeNode(other.nodeId);
    expect(await reasonOf(ask(asker, other))).toBe('FAILED_PRECONDITION HOLDER_NOT_ACTIVE');
  });
});

test('a refusal under one id of a person counts for a study that is known under another id too', async () => {
  await withIndex(async ({ addNode }) => {
    const [holder, asker] = [await addNode('A'), await addNode('B')];
    const keys = [
      { key: PATIENT, epoch: 'e1' },
      { key: OTHER_ID, epoch: 'e1' },
    ];
    const feed = await holder.feed();
    feed.send(1, holder.manifest({ studyInstanceUid: '1.2.1', patientKeys: keys }));
    await feed.acknowledged(1);
    await record(holder, holder.consent({ patientKey: PATIENT, status: 'refused' }));
    await record(asker, asker.consent({ patientKey: OTHER_ID }));
    const outlook = async (patientKeys: typeof keys): Promise<string[]> =>
      (
        await callUnary(asker.clients.query.patientHistory.bind(asker.clients.query), {
          patientKeys,
          purposeOfUse: PurposeOfUse.PURPOSE_OF_USE_TREAT,
          subject: 'doctor-1',
          pageToken: '',
          pageSize: 0,
        })
      ).entries.map(({ consentReason }) => consentReason);
    for (const key of keys) {
      expect(await reasonOf(ask(asker, holder, { patientKeys: [key] }))).toBe('PERMISSION_DENIED CONSENT_REFUSED');
      expect(await outlook([key])).toEqual(['CONSENT_REFUSED']);
    }
  });
});

test('consent statements are stored once, and forged, foreign or renumbered ones refused', async () => {
  await withIndex(async ({ addNode, index }) => {
    const [a, b, c] = [await addNode('A'), await addNode('B'), await addNode('C')];
    const compact = a.consent({ patientKey: PATIENT, consentId: 'c-1', seq: 7 });
    await Promise.all([record(a, compact), record(b, compact), record(a, compact)]);
    const { statements } = await callUnary(c.clients.consents.listConsents.bind(c.clients.consents), {
      patientKeys: [{ key: PATIENT, epoch: 'e1' }],
    });
    expect(statements.map((statement) => statement.compact)).toEqual([compact]);
    expect(await reasonOf(record(a, a.consent({ patientKey: PATIENT, seq: 7 })))).toBe('FAILED_PRECONDITION CONSENT_SEQ_REUSED');
    expect(await reasonOf(record(b, b.consent({ patientKey: PATIENT, consentId: 'c-1' })))).toBe(
      'PERMISSION_DENIED CONSENT_FOREIGN_WRITER',
    );
    expect(await reasonOf(record(b, b.consent({ patientKey: PATIENT, writer: a.nodeId })))).toBe('UNAUTHENTICATED CONSENT_SIGNATURE');
    expect(await reasonOf(record(b, b.consent({ patientKey: PATIENT, writer: 'n-aaaaaaaaaaaaaaaa' as never })))).toBe(
      'PERMISSION_DENIED CONSENT_SIGNER_UNKNOWN',
    );
    expect(await reasonOf(record(b, 'nonsense'))).toBe('INVALID_ARGUMENT CONSENT_MALFORMED');
    const late = c.consent({ patientKey: PATIENT });
    await index.revokeNode(c.nodeId);
    expect(await reasonOf(record(b, late))).toBe('PERMISSION_DENIED CONSENT_SIGNER_UNKNOWN');
  });
});
