import { expect, test } from '@jest/globals';
import type { DicomIdentity } from '../dicom/identity.ts';
import { authorityOf } from './commit-record.ts';

const identity = (issuer: { issuerOfPatientId?: string; issuerUniversalEntityId?: string }): DicomIdentity => issuer as DicomIdentity;

test("what another hospital writes as issuer never names this hospital's authority", () => {
  const peer = { door: 'peer', assigningAuthority: 'n-abcdefghijklmnop' } as const;
  for (const issuer of [
    {},
    { issuerOfPatientId: 'BINHAI' },
    { issuerUniversalEntityId: 'BINHAI' },
    { issuerOfPatientId: 'X', issuerUniversalEntityId: 'BINHAI' },
  ]) {
    expect(authorityOf(peer, identity(issuer))).toMatch(/^n-abcdefghijklmnop(\/|$)/);
  }
});

test("a local sender's issuer is its own word, else the source's rule", () => {
  const local = { door: 'dimse', assigningAuthority: 'BINHAI' } as const;
  expect(authorityOf(local, identity({ issuerOfPatientId: 'OLD-HIS' }))).toBe('OLD-HIS');
  expect(authorityOf(local, identity({}))).toBe('BINHAI');
});
