import { createHash } from 'node:crypto';
import { expect, test } from '@jest/globals';
import type { InstanceEntry } from '@meridian/shared/generated/meridian/v1/manifest';
import { parseNodeId, parsePersonId } from '@meridian/shared/identifiers';
import { systemRandom } from '@meridian/shared/platform/random';
import type { Store } from '../store/store.ts';
import { coerceDataset } from '../dicom/coerce.ts';
import type { PatientRow, StudyRow } from '../store/rows.ts';
import { CT_IMAGE_STORAGE, EXPLICIT_LE, makeHeader, makeInstance } from '../store/testing/data-sets.ts';
import { manualClock, send, usingStore } from '../store/testing/stores.ts';
import { coercionFor } from './coercion.ts';
import { compareDemographics } from './demographics.ts';
import { openPatients } from './patients.ts';

const HOLDER = parseNodeId('n-aaaaaaaaaaaaaaaa');
const PERSON = parsePersonId('11010519491231002X');
const consentHash = 'c'.repeat(64);

const instance = (n: number): Buffer =>
  makeInstance({
    study: '7',
    series: '7.1',
    sop: `7.1.${n}`,
    instanceNumber: n,
    patientId: 'P1',
    patientName: 'Zhao^Si=赵^四',
    residentId: PERSON.value,
  });

function entry(n: number): InstanceEntry {
  const bytes = instance(n);
  return {
    seriesInstanceUid: '7.1',
    sopInstanceUid: `7.1.${n}`,
    sopClassUid: CT_IMAGE_STORAGE,
    transferSyntaxUid: EXPLICIT_LE,
    bytes: BigInt(bytes.length),
    sha256: createHash('sha256').update(bytes).digest(),
    pixelSha256: Buffer.alloc(0),
    instanceNumber: n,
    chunkSha256: Buffer.alloc(0),
  };
}

const fetchOf = (localPatientPk: number, version = 1): Parameters<Store['fetched']['begin']>[0] => ({
  studyInstanceUid: '7',
  holderNode: HOLDER,
  manifest: Buffer.from(`manifest ${version}`),
  manifestSha256: createHash('sha256').update(`manifest ${version}`).digest(),
  version,
  expected: { instances: Array.from({ length: 2 + version }, (_, n) => entry(n + 1)) },
  consentHash,
  localPatientPk,
});
const fromPeer = {
  door: 'peer' as const,
  assigningAuthority: HOLDER,
  provenance: { holderNode: HOLDER, manifestSha256: Buffer.alloc(32), jti: 'j', consentHash },
};

test('a fetched copy is filed under the local patient it was fetched for, resumes, is completed, locked and unlocked', () =>
  usingStore({}, async (store, { reopen }) => {
    await send(store, makeInstance({ residentId: PERSON.value }));
    const own = await openPatients({ store, assigningAuthority: 'HOSPITAL', random: systemRandom }).localPatientFor(PERSON);
    expect(own).toMatchObject({ patientId: 'P1', assigningAuthority: 'HOSPITAL' });
    await store.fetched.begin(fetchOf(own.pk));
    expect((await store.fetched.missing('7')).map(({ sopInstanceUid }) => sopInstanceUid)).toEqual(['7.1.1', '7.1.2', '7.1.3']);
    await send(store, instance(2), fromPeer);
    store = await reopen();
    const patients = openPatients({ store, assigningAuthority: 'HOSPITAL', random: systemRandom });
    await store.fetched.begin(fetchOf(own.pk));
    expect(await store.fetched.missing('7')).toEqual([entry(1), entry(3)]);
    expect(await store.fetched.progress('7')).toEqual({
      expected: 3,
      verified: 1,
      bytesExpected: 3 * instance(1).length,
      bytesVerified: instance(1).length,
    });
    await expect(store.fetched.complete('7')).rejects.toMatchObject({ reason: 'COPY_INCOMPLETE' });
    expect((await store.studies.study('7'))?.complete).toBe(false);
    await send(store, instance(1), fromPeer);
    await send(store, instance(3), fromPeer);
    await store.fetched.complete('7');
    const study = await store.studies.study('7');
    // Both hospitals call their patient P1; they stay two people in the tables.
    expect(study).toMatchObject({
      complete: true,
      state: 'settled',
      locked: false,
      copyOf: { holderNode: HOLDER, manifestVersion: 1 },
      patient: { assigningAuthority: HOLDER, patientId: 'P1' },
      linkedPatient: { pk: own.pk, patientId: 'P1', assigningAuthority: 'HOSPITAL' },
    });
    if (study === undefined) throw new Error('no study');
    expect((await store.studies.studiesOfPerson(PERSON)).map(({ studyInstanceUid }) => studyInstanceUid).sort()).toEqual(['1.2.3', '7']);
    expect((await store.studies.findStudies({ patientName: '王*' })).length).toBe(2);
    expect(patients.mismatchesOf(study)).toEqual([{ field: 'name', local: 'Wang^XiaoMing = 王^小明', fetched: 'Zhao^Si = 赵^四' }]);
    expect(patients.coercionFor(study)).toMatchObject({
      replace: { patientId: 'P1', issuerOfPatientId: 'HOSPITAL' },
      sourceOfPreviousValues: HOLDER,
      at: expect.stringMatching(/^\d{14}\+0000$/),
    });
    const local = await store.studies.study('1.2.3');
    expect(local === undefined ? 'none' : patients.coercionFor(local)).toBeUndefined();

    expect(await store.fetched.lock(consentHash)).toEqual(['7']);
    expect(await store.fetched.lock(consentHash)).toEqual([]);
    expect((await store.studies.study('7'))?.locked).toBe(true);
    await store.fetched.begin(fetchOf(own.pk));
    expect(await store.fetched.get('7')).toMatchObject({ locked: true, complete: true, version: 1, localPatientPk: own.pk });
    expect(await store.fetched.unlock(consentHash)).toEqual(['7']);
    await store.fetched.begin(fetchOf(own.pk, 2));
    expect(await store.fetched.list()).toMatchObject([{ studyInstanceUid: '7', version: 2, complete: false }]);
    expect((await store.fetched.missing('7')).map(({ sopInstanceUid }) => sopInstanceUid)).toEqual(['7.1.4']);
    expect((await store.changes.after(0, 100)).map(({ kind }) => kind)).toEqual([
      'copy-complete',
      'study-settled',
      'copy-locked',
      'copy-unlocked',
    ]);
  }));

test('a person whom this hospital does not know yet gets one patient, named by the first copy', () =>
  usingStore({}, async (store) => {
    const patients = openPatients({ store, assigningAuthority: 'HOSPITAL', random: systemRandom });
    const [made, again] = await Promise.all([patients.localPatientFor(PERSON), patients.localPatientFor(PERSON)]);
    expect(made).toEqual(again);
    expect(made).toMatchObject({ patientId: expect.stringMatching(/^M[A-Z2-7]{16}$/), name: { alphabetic: '' } });
    await store.fetched.begin(fetchOf(made.pk));
    await send(store, instance(1), fromPeer);
    expect((await store.studies.study('7'))?.linkedPatient).toMatchObject({ pk: made.pk, name: { ideographic: '赵^四' } });
    const named = await patients.localPatientFor(PERSON, { patientId: 'OWN-5' });
    expect(named).toMatchObject({ patientId: 'OWN-5', assigningAuthority: 'HOSPITAL' });
    await patients.linkFetchedStudy('7', named.pk);
    expect((await store.studies.study('7'))?.linkedPatient).toMatchObject({ patientId: 'OWN-5' });
    expect((await store.studies.findStudies({ patientId: 'OWN-5' })).length).toBe(1);
    await expect(patients.localPatientFor(parsePersonId('110101900307001'), { patientId: 'OWN-5' })).rejects.toMatchObject({
      reason: 'PATIENT_IS_ANOTHER_PERSON',
    });
    await expect(patients.linkFetchedStudy('8', named.pk)).rejects.toMatchObject({ reason: 'STUDY_UNKNOWN' });
    await expect(patients.linkFetchedStudy('7', 999)).rejects.toMatchObject({ reason: 'PATIENT_UNKNOWN' });
  }));

test('a copy is served whatever the hospitals call themselves: only ASCII goes into its data set', () => {
  const named = (assigningAuthority: string): PatientRow => ({
    pk: 1,
    assigningAuthority,
    patientId: 'C-77',
    name: { alphabetic: '', ideographic: '', phonetic: '' },
    birthDate: '',
    sex: '',
  });
  const study = {
    patient: named(`${HOLDER}/仁济`),
    linkedPatient: named('仁济'),
    copyOf: { holderNode: HOLDER, manifestVersion: 1 },
    firstReceivedAt: 0,
  } as StudyRow;
  const coercion = coercionFor(study, '上海仁济医院');
  expect(coercion).toMatchObject({
    replace: { patientId: 'C-77', issuerOfPatientId: '' },
    modifyingSystem: 'MERIDIAN',
    sourceOfPreviousValues: HOLDER,
  });
  // No Specific Character Set: ASCII alone.
  const header = makeHeader({ patientName: 'Wang^A', description: 'CT' }).subarray(8 + 'ISO_IR 192'.length, -12);
  if (coercion === undefined) throw new Error('no coercion');
  expect(coerceDataset({ ...coercion, headerBytes: header, transferSyntaxUid: EXPLICIT_LE }).includes('C-77')).toBe(true);
});

test('demographics: gaps and spellings are no mismatch, other ideographs, sex and birth dates are', () => {
  const person = (alphabetic: string, ideographic = '', birthDate = '19900307', sex = 'M'): Parameters<typeof compareDemographics>[0] => ({
    pk: 1,
    assigningAuthority: 'A',
    patientId: '1',
    name: { alphabetic, ideographic, phonetic: '' },
    birthDate,
    sex,
  });
  expect(compareDemographics(person('Wang^XiaoMing', '王^小明'), person('WANG^Xiao Ming'))).toEqual([]);
  expect(compareDemographics(person('Wang^Xiao-Ming'), person('王小明'))).toHaveLength(1);
  expect(compareDemographics(person('', '王^小明'), person('王小明'))).toEqual([]);
  expect(compareDemographics(person('Wang^X', '王^小明'), person('Wang^Xiaoming', '王小明'))).toEqual([]);
  expect(compareDemographics(person('', '', '', ''), person('Wang', '王', '19900307', 'M'))).toEqual([]);
  expect(compareDemographics(person('Müller^Jörg'), person('MULLER^JORG', '', '19910307', 'F')).map(({ field }) => field)).toEqual([
    'sex',
    'birthDate',
  ]);
});

test('a typed local id links the copy alone: the patient who has it gets no person id by a fetch', () =>
  usingStore({}, async (store) => {
    await send(store, makeInstance({ patientId: 'P7', patientName: 'Zhao^Liu=赵^六' }));
    const zhao = await openPatients({ store, assigningAuthority: 'HOSPITAL', random: systemRandom }).localPatientFor(PERSON, {
      patientId: 'P7',
    });
    expect(zhao.patientId).toBe('P7');
    expect(await store.studies.personIdsOfPatient(zhao.pk)).toEqual([]);
    expect(await store.studies.studiesOfPerson(PERSON)).toEqual([]);
  }));

test('a copy may be read as long as its consent carries it, and again on a later one', () => {
  const clock = manualClock();
  return usingStore({ clock }, async (store, { reopen }) => {
    await send(store, makeInstance({ residentId: PERSON.value }));
    const own = await openPatients({ store, assigningAuthority: 'HOSPITAL', random: systemRandom }).localPatientFor(PERSON);
    const validUntilEpochMs = clock.now() + 60_000;
    await store.fetched.begin({ ...fetchOf(own.pk), consentId: 'c-1', validUntilEpochMs });
    await send(store, instance(1), fromPeer);
    expect(await store.studies.study('7')).toMatchObject({ locked: false });
    expect(await store.fetched.get('7')).toMatchObject({ consentHash, consentId: 'c-1', validUntilEpochMs, locked: false });
    expect(await store.fetched.lockExpired()).toEqual([]);
    clock.advance(60_000);
    // Refused in the very instant, before anything has marked it.
    expect(await store.studies.study('7')).toMatchObject({ locked: true, lockReason: 'CONSENT_EXPIRED' });
    expect(await store.fetched.lockExpired()).toEqual(['7']);
    expect(await store.fetched.lockExpired()).toEqual([]);
    store = await reopen();
    expect(await store.studies.study('7')).toMatchObject({ locked: true, lockReason: 'CONSENT_EXPIRED' });
    // The very consent does not open it again, a later one does.
    await store.fetched.begin({ ...fetchOf(own.pk), consentId: 'c-1', validUntilEpochMs });
    expect(await store.studies.study('7')).toMatchObject({ locked: true });
    await store.fetched.rest('7', { consentHash: 'd'.repeat(64), consentId: 'c-2', validUntilEpochMs: validUntilEpochMs + 120_000 });
    const study = await store.studies.study('7');
    expect([study?.locked, study?.lockReason]).toEqual([false, undefined]);
    expect(await store.fetched.lock(consentHash)).toEqual([]);
    expect(await store.fetched.lock('d'.repeat(64), 'CONSENT_REFUSED')).toEqual(['7']);
    expect(await store.studies.study('7')).toMatchObject({ locked: true, lockReason: 'CONSENT_REFUSED' });
  });
});
