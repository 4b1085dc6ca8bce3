import { expect, test } from '@jest/globals';
import { sql } from 'kysely';
import type { StudyQuery } from './study-query.ts';
import { makeInstance } from './testing/data-sets.ts';
import { send, usingStore } from './testing/stores.ts';

test('studies are found by every usual attribute, newest first, in pages that do not overlap', () =>
  usingStore({}, async (store) => {
    await send(store, makeInstance({ study: '1', series: '1.1', sop: '1.1.1', studyDate: '20260101', studyTime: '080000' }));
    await send(
      store,
      makeInstance({
        study: '2',
        series: '2.1',
        sop: '2.1.1',
        patientId: 'P2',
        patientName: 'Sima^Xiang=司马^相如',
        birthDate: '19700101',
        sex: 'F',
        studyDate: '20260315',
        studyTime: '103015',
        accession: 'B-77',
        modality: 'MR',
        description: 'Head 100% MR_1',
      }),
    );
    await send(
      store,
      makeInstance({ study: '2', series: '2.2', sop: '2.2.1', patientId: 'P2', seriesNumber: 2, modality: 'PR', instanceNumber: 5 }),
    );
    await send(store, makeInstance({ study: '3', series: '3.1', sop: '3.1.1', patientId: 'p_2', patientName: 'Abc^D', studyDate: '' }));
    const find = async (query: StudyQuery): Promise<string> =>
      (await store.studies.findStudies(query)).map(({ studyInstanceUid }) => studyInstanceUid).join(' ');
    const cases: [StudyQuery, string][] = [
      [{}, '2 1 3'],
      [{ limit: 1 }, '2'],
      [{ limit: 1, offset: 1 }, '1'],
      [{ limit: 5, offset: 2 }, '3'],
      [{ limit: 0 }, ''],
      [{ patientId: 'P2' }, '2'],
      [{ patientId: 'P*' }, '2 1 3'],
      [{ patientId: 'p_?' }, '3'],
      [{ patientId: 'none' }, ''],
      [{ patientName: 'sima^xiang' }, '2'],
      [{ patientName: '司马*' }, '2'],
      [{ patientName: '*相如' }, '2'],
      [{ patientName: '*司马*', limit: 1 }, '2'],
      [{ patientName: 'WANG*' }, '1'],
      [{ patientName: '王^小?' }, '1'],
      [{ patientName: 'Abc^D^^' }, '3'],
      [{ patientName: 'Wang' }, ''],
      [{ patientBirthDate: '19700101' }, '2'],
      [{ patientBirthDate: '-19800101' }, '2'],
      [{ patientSex: 'F' }, '2'],
      [{ studyDate: '20260101' }, '1'],
      [{ studyDate: '20260101-20260315' }, '2 1'],
      [{ studyDate: '-20260301' }, '1'],
      [{ studyDate: '20260301-' }, '2'],
      [{ studyDate: '2026*' }, '2 1'],
      [{ studyDate: '20260401-20270101' }, ''],
      [{ studyTime: '10' }, '2 3'],
      [{ studyTime: '1030-1031' }, '2'],
      [{ studyTime: '-09' }, '1'],
      [{ accessionNumber: 'B-77' }, '2'],
      [{ accessionNumber: 'B*' }, '2'],
      [{ studyDescription: '*100% MR_*' }, '2'],
      [{ studyDescription: '*100%MR*' }, ''],
      [{ studyDescription: '胸部*' }, '1 3'],
      [{ modalitiesInStudy: ['PR'] }, '2'],
      [{ modalitiesInStudy: ['CT', 'MR'] }, '2 1 3'],
      [{ modalitiesInStudy: ['M*'] }, '2'],
      [{ modalitiesInStudy: ['R'] }, ''],
      [{ studyInstanceUids: ['3', '1', '9'] }, '1 3'],
      [{ referringPhysicianName: 'DOC^TOR' }, '2 1 3'],
      [{ studyId: 'S1' }, '2 1 3'],
      [{ assigningAuthority: 'HOSPITAL', patientSex: 'M' }, '1 3'],
      [{ patientName: `'; DROP TABLE study; --` }, ''],
    ];
    for (const [query, expected] of cases) expect([query, await find(query)]).toEqual([query, expected]);
    expect(await store.studies.findStudies({ patientId: 'P2' })).toMatchObject([
      { modalities: ['MR', 'PR'], seriesCount: 2, instanceCount: 2 },
    ]);
    expect(
      (await store.studies.findSeries({ studyInstanceUids: ['2'] })).map(({ seriesInstanceUid, modality, seriesNumber, instanceCount }) => [
        seriesInstanceUid,
        modality,
        seriesNumber,
        instanceCount,
      ]),
    ).toEqual([
      ['2.1', 'MR', 1, 1],
      ['2.2', 'PR', 2, 1],
    ]);
    expect((await store.studies.findSeries({ modality: 'PR', patientId: 'P2' })).map(({ seriesInstanceUid }) => seriesInstanceUid)).toEqual(
      ['2.2'],
    );
    expect(
      (await store.studies.findInstances({ seriesInstanceUids: ['2.2'], instanceNumber: 5 })).map(({ sopInstanceUid }) => sopInstanceUid),
    ).toEqual(['2.2.1']);
    expect(await store.studies.findInstances({ sopClassUids: ['1.2'] })).toEqual([]);
    expect(await store.studies.instance('2', '2.2', '2.2.1')).toMatchObject({ instanceNumber: 5 });
    expect(await store.studies.instance('1', '2.2', '2.2.1')).toBeUndefined();
    expect(await store.studies.study('9')).toBeUndefined();
    expect((await store.studies.seriesOf('2')).length).toBe(2);
  }));

test('hot questions are answered from an index', () =>
  usingStore({}, async (store) => {
    const plan = async (text: string): Promise<string> =>
      (await sql<{ detail: string }>`EXPLAIN QUERY PLAN ${sql.raw(text)}`.execute(store.database.read)).rows
        .map(({ detail }) => detail)
        .join('; ');
    expect(await plan(`SELECT 1 FROM instance WHERE sop_instance_uid = 'x'`)).toMatch(/USING (COVERING )?INDEX/);
    expect(
      await plan(
        `SELECT 1 FROM instance i JOIN series s ON s.pk = i.series_pk JOIN study y ON y.pk = s.study_pk WHERE y.study_instance_uid = 'x'`,
      ),
    ).not.toMatch(/SCAN/);
    expect(await plan(`SELECT patient_pk FROM person_id WHERE value = 'v' AND type = 't' AND issuer = 'i'`)).toMatch(/PRIMARY KEY/);
    expect(await plan(`SELECT study_instance_uid FROM study WHERE arriving = 1`)).toMatch(/study_arriving/);
    expect(await plan(`SELECT * FROM study y ORDER BY y.study_date DESC, y.study_time DESC, y.pk DESC LIMIT 10`)).toMatch(/study_newest/);
  }));
