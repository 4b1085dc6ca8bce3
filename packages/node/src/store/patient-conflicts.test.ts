import { expect, test } from '@jest/globals';
import { parsePersonId } from '@meridian/shared/identifiers';
import { systemRandom } from '@meridian/shared/platform/random';
import { openPatients } from '../patients/patients.ts';
import type { IngestSource } from './ingest.ts';
import type { Store } from './store.ts';
import { makeInstance, type MadeInstance } from './testing/data-sets.ts';
import { send, usingStore } from './testing/stores.ts';

const X = parsePersonId('11010519491231002X');
const Y = parsePersonId('440308199901101512');
const HOLDER = 'n-aaaaaaaaaaaaaaaa' as const;
const fromPeer = {
  door: 'peer',
  assigningAuthority: HOLDER,
  provenance: { holderNode: HOLDER as never, manifestSha256: Buffer.alloc(32, 1), jti: 'j', consentHash: 'ab' },
} as const satisfies Partial<IngestSource>;

const study = (uid: string, made: MadeInstance = {}): Buffer =>
  makeInstance({ study: uid, series: `${uid}.1`, sop: `${uid}.1.1`, patientId: '1001', ...made });
const uids = (rows: readonly { readonly studyInstanceUid: string }[]): string[] =>
  rows.map(({ studyInstanceUid }) => studyInstanceUid).toSorted();
const conflicts = async (store: Store): Promise<(string | number | undefined)[][]> =>
  (await store.changes.after(0, 100))
    .filter(({ kind }) => kind === 'patient-conflict')
    .map(({ studyInstanceUid, detail }) => [studyInstanceUid, detail['reason']]);

async function beginCopy(store: Store, uid: string): Promise<void> {
  const patients = openPatients({ store, assigningAuthority: 'HOSPITAL', random: systemRandom });
  const local = await patients.localPatientFor(X, { patientId: 'C-77' });
  await store.fetched.begin({
    studyInstanceUid: uid,
    holderNode: HOLDER as never,
    manifest: Buffer.from('m'),
    manifestSha256: Buffer.alloc(32, 1),
    version: 1,
    expected: { instances: [] },
    consentHash: 'ab',
    localPatientPk: local.pk,
  });
}

test('one PatientID with two national ids is two people, and later studies join the one they name', () =>
  usingStore({}, async (store) => {
    const white = { residentId: X.value, patientName: 'Wang^A' };
    const black = { residentId: Y.value, patientName: 'Li^B', birthDate: '19990110', sex: 'F' };
    for (const [uid, made] of [
      ['1.1', white],
      ['1.2', black],
      ['1.3', { ...black, birthDate: '', sex: '' }],
      ['1.4', white],
    ] as const) {
      expect(await send(store, study(uid, made))).toMatchObject({ outcome: 'stored' });
    }
    expect(uids(await store.studies.studiesOfPerson(X))).toEqual(['1.1', '1.4']);
    expect(uids(await store.studies.studiesOfPerson(Y))).toEqual(['1.2', '1.3']);
    // Answered as sent, whoever asks by the PatientID.
    expect(uids(await store.studies.findStudies({ patientId: '1001' }))).toEqual(['1.1', '1.2', '1.3', '1.4']);
    expect(await conflicts(store)).toEqual([['1.2', 'person-id']]);
    const patients = openPatients({ store, assigningAuthority: 'HOSPITAL', random: systemRandom });
    expect((await patients.localPatientFor(Y, { patientId: '1001' })).name.alphabetic).toBe('Li^B');
    // Without an id, birth date and sex tell which of them; nothing to tell by is a patient alone.
    await send(store, study('1.5', { birthDate: '19990110', sex: 'F' }));
    await send(store, study('1.6', { birthDate: '', sex: '' }));
    expect(uids(await store.studies.studiesOfPerson(Y))).toEqual(['1.2', '1.3', '1.5']);
    expect(uids(await store.studies.studiesOfPerson(X))).toEqual(['1.1', '1.4']);
    expect((await conflicts(store)).slice(1)).toEqual([['1.6', 'patient-id-of-several']]);
    // An instance of X's study that names Y is kept aside and changes nobody.
    expect(await send(store, study('1.1', { ...black, sop: '1.1.1.2' }))).toMatchObject({ outcome: 'quarantined' });
    expect(uids(await store.studies.studiesOfPerson(Y))).toEqual(['1.2', '1.3', '1.5']);
  }));

test('another birth date and another sex are another person; one of them alone, or another number of the hospital, is not', () =>
  usingStore({}, async (store) => {
    await send(store, study('2.1', { birthDate: '19900307', sex: 'M' }));
    await send(store, study('2.2', { birthDate: '19750101', sex: 'M' }));
    await send(store, study('2.3', { birthDate: '19900307', sex: 'F' }));
    await send(store, study('2.4', { birthDate: '19750101', sex: 'F', residentId: Y.value }));
    expect(await conflicts(store)).toEqual([['2.4', 'birth-date-and-sex']]);
    expect(uids(await store.studies.studiesOfPerson(Y))).toEqual(['2.4']);
    expect(new Set((await store.studies.findStudies({ patientId: '1001' })).map(({ patient }) => patient.pk)).size).toBe(2);
  }));

test('one study under two authorities is kept aside, but an import that was stopped goes on', () =>
  usingStore({}, async (store) => {
    const importing = (assigningAuthority: string): Partial<IngestSource> => ({ door: 'import', assigningAuthority });
    await send(store, study('3.1'));
    expect(await send(store, study('3.1', { sop: '3.1.1.2' }), importing('import/aaaaaaaa'))).toMatchObject({ outcome: 'quarantined' });
    expect(await send(store, study('3.2'), importing('import/aaaaaaaa'))).toMatchObject({ outcome: 'stored' });
    expect(await send(store, study('3.2', { sop: '3.2.1.2' }), importing('import/bbbbbbbb'))).toMatchObject({ outcome: 'stored' });
    expect(await send(store, study('3.2', { sop: '3.2.1.3' }))).toMatchObject({ outcome: 'quarantined' });
    expect((await store.studies.study('3.2'))?.patient).toMatchObject({ assigningAuthority: 'import/aaaaaaaa', patientId: '1001' });
    expect((await store.studies.study('3.1'))?.instanceCount).toBe(1);
  }));

test('what is made here from a linked copy carries the local id and is stored; the holder’s id is another patient here', () =>
  usingStore({}, async (store) => {
    await beginCopy(store, '4.1');
    await send(store, study('4.1', { patientId: 'B-1', residentId: X.value }), fromPeer);
    expect(await send(store, study('4.1', { patientId: 'C-77', series: '4.1.9', sop: '4.1.9.1', modality: 'PR' }))).toMatchObject({
      outcome: 'stored',
    });
    expect(await send(store, study('4.1', { patientId: 'C-77', series: '4.1.8', sop: '4.1.8.1', residentId: Y.value }))).toMatchObject({
      outcome: 'quarantined',
    });
    expect(await send(store, study('4.1', { patientId: 'B-1', series: '4.1.7', sop: '4.1.7.1' }))).toMatchObject({
      outcome: 'quarantined',
    });
    expect(await store.studies.study('4.1')).toMatchObject({
      patient: { patientId: 'B-1' },
      linkedPatient: { patientId: 'C-77' },
      instanceCount: 2,
    });
  }));

test('a peer adds nothing to a study of this hospital, also where that arrived while it was being fetched', () =>
  usingStore({}, async (store) => {
    await beginCopy(store, '5.1');
    const own = study('5.1', { patientId: 'A1' });
    await send(store, own);
    await expect(
      send(store, study('5.1', { patientId: 'ZZ', residentId: Y.value, series: '5.1.2', sop: '5.1.2.1' }), fromPeer),
    ).rejects.toMatchObject({ code: 'FAILED_PRECONDITION', reason: 'STUDY_HELD_HERE' });
    expect(await send(store, own, fromPeer)).toMatchObject({ outcome: 'duplicate' });
    const held = await store.studies.study('5.1');
    expect(held).toMatchObject({ instanceCount: 1, personIds: [], patient: { patientId: 'A1', assigningAuthority: 'HOSPITAL' } });
    expect(held?.copyOf).toBeUndefined();
    expect(await store.studies.studiesOfPerson(Y)).toEqual([]);
  }));

test('an object without an issuer belongs to the study of its PatientID, one that names another issuer does not', () =>
  usingStore({}, async (store) => {
    await send(store, study('5.1', { issuer: 'RENJI' }));
    expect(await send(store, study('5.1', { sop: '5.1.1.2' }))).toMatchObject({ outcome: 'stored' });
    expect(await send(store, study('5.1', { sop: '5.1.1.3', issuer: 'OTHER' }))).toMatchObject({ outcome: 'quarantined' });
    expect(await send(store, study('5.1', { sop: '5.1.1.4' }), { door: 'import', assigningAuthority: 'import/x' })).toMatchObject({
      outcome: 'quarantined',
    });
    // The other order: images without an issuer, then a report of another system of the house that names one.
    await send(store, study('5.2'));
    expect(await send(store, study('5.2', { sop: '5.2.1.2', issuer: 'HIS' }))).toMatchObject({ outcome: 'stored' });
  }));
