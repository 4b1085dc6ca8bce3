import { expect, test } from '@jest/globals';
import { ManifestStatus, StudyManifest } from '@meridian/shared/generated/meridian/v1/manifest';
import { openSqlite } from '@meridian/shared/database';
import { MANIFEST_TYPE } from '@meridian/shared/manifest';
import { signObject } from '@meridian/shared/signed-object';
import { indexMigrations, type IndexTables } from '../tables.ts';
import { withIndex, type TestNetwork } from '../test-network.ts';

const PATIENT = Buffer.alloc(32, 1);
const OTHER = Buffer.alloc(32, 2);
const keys = (...patientKeys: Buffer[]) => ({ patientKeys: patientKeys.map((key) => ({ key, epoch: 'e1' })) });

/** Reads the database of an index between two of its lives. */
async function rowsOf<Table extends keyof IndexTables>(network: TestNetwork, table: Table): Promise<IndexTables[Table][]> {
  let rows: unknown[] = [];
  await network.restart(async () => {
    const database = await openSqlite<IndexTables>({ file: network.index.databasePath, migrations: indexMigrations });
    rows = await database.read
      .selectFrom(table as 'study')
      .selectAll()
      .execute();
    await database.close();
  });
  return rows as IndexTables[Table][];
}

test('a feed is stored in order, once, over gaps, repeats and a restart of the index', async () => {
  await withIndex(async (network) => {
    const node = await network.addNode('A');
    const studyOf = (seq: number): StudyManifest => node.manifest({ studyInstanceUid: `1.2.${seq}`, ...keys(PATIENT) });
    const feed = await node.feed();
    expect(feed.firstAck).toBe(0);
    for (let seq = 1; seq <= 300; seq += 1) feed.send(seq, studyOf(seq));
    expect(await feed.acknowledged(300)).toBe(300);
    feed.send(250, studyOf(250));
    feed.send(302, studyOf(302));
    const gap = await feed.ended();
    expect(gap?.reason).toBe('FEED_GAP');
    expect(gap?.details['expectedSeq']).toBe('301');

    const resumed = await node.feed();
    expect(resumed.firstAck).toBe(300);
    resumed.send(301, studyOf(301));
    expect(await resumed.acknowledged(301)).toBe(301);
    const log = await rowsOf(network, 'feed_log');
    expect(log.map(({ seq }) => seq)).toEqual(Array.from({ length: 301 }, (_, place) => place + 1));
    expect(await rowsOf(network, 'study')).toHaveLength(301);
    await resumed.ended();

    const rebuilt = await node.feed(Buffer.alloc(16, 9));
    expect(rebuilt.firstAck).toBe(0);
    rebuilt.send(1, studyOf(1));
    expect(await rebuilt.acknowledged(1)).toBe(1);
    const after = await node.feed();
    expect(after.firstAck).toBe(301);
    expect((await rebuilt.ended())?.reason).toBe('SUPERSEDED');
    expect(await rowsOf(network, 'study')).toHaveLength(301);
  });
});

test('the newest version wins in any order, and a changed patient key moves the row', async () => {
  await withIndex(async (network) => {
    const node = await network.addNode('A');
    const feed = await node.feed();
    const version = (number: number, changes: Partial<StudyManifest>): StudyManifest =>
      node.manifest({ studyInstanceUid: '1.2.3', version: BigInt(number), ...changes });
    feed.send(1, version(3, keys(PATIENT, OTHER)));
    feed.send(2, version(2, keys(PATIENT)));
    await feed.acknowledged(2);
    expect((await rowsOf(network, 'study')).map((row) => [row.patient_key[0], row.version])).toEqual([
      [1, 3],
      [2, 3],
    ]);
    await feed.ended();
    const later = await node.feed();
    later.send(3, version(4, keys(OTHER)));
    later.send(4, version(3, keys(PATIENT)));
    await later.acknowledged(4);
    expect((await rowsOf(network, 'study')).map((row) => [row.patient_key[0], row.version])).toEqual([[2, 4]]);
    await later.ended();
    const last = await node.feed();
    last.send(5, version(5, { status: ManifestStatus.MANIFEST_STATUS_DELETED }));
    last.send(6, version(4, keys(PATIENT)));
    await last.acknowledged(6);
    expect(await rowsOf(network, 'study')).toEqual([]);
  });
});

test('an entry that is refused for good is named, and its number may be passed over', async () => {
  await withIndex(async (network) => {
    const node = await network.addNode('A');
    const studyOf = (seq: number): StudyManifest => node.manifest({ studyInstanceUid: `1.2.${seq}`, ...keys(PATIENT) });
    const tooLarge = {
      ...studyOf(3),
      series: Array.from({ length: 4096 }, (_, number) => ({
        seriesInstanceUid: `1.2.3.${number}`,
        modality: 'CT',
        bodyPartExamined: '胸'.repeat(64),
        instanceCount: 1,
        seriesNumber: number,
        laterality: '',
      })),
    };
    const feed = await node.feed();
    feed.send(1, studyOf(1));
    feed.send(2, studyOf(2));
    feed.sendSigned(3, signObject({ type: MANIFEST_TYPE, payload: StudyManifest.encode(tooLarge).finish(), key: node.key }));
    const refusal = await feed.ended();
    expect([refusal?.code, refusal?.reason, refusal?.details['refusedSeq']]).toEqual(['INVALID_ARGUMENT', 'MANIFEST_MALFORMED', '3']);

    const resumed = await node.feed();
    expect(resumed.firstAck).toBe(2);
    resumed.send(3);
    resumed.send(4, studyOf(4));
    expect(await resumed.acknowledged(4)).toBe(4);
    expect((await rowsOf(network, 'study')).map((row) => row.study_instance_uid)).toEqual(['1.2.1', '1.2.2', '1.2.4']);
    expect((await rowsOf(network, 'feed_log')).map(({ seq }) => seq)).toEqual([1, 2, 4]);
  });
});

test('a node speaks for itself, with its own signature, and says hello first', async () => {
  await withIndex(async ({ addNode }) => {
    const [a, b] = [await addNode('A'), await addNode('B')];
    const study = a.manifest({ studyInstanceUid: '1.2.3', ...keys(PATIENT) });
    const foreign = await b.feed();
    foreign.send(1, study);
    expect((await foreign.ended())?.reason).toBe('FOREIGN_CUSTODIAN');
    const forged = await a.feed();
    const stranger = await b.feed();
    stranger.send(1, { ...study, custodianNode: a.nodeId });
    expect((await stranger.ended())?.reason).toBe('FOREIGN_CUSTODIAN');
    forged.end();
    const call = a.clients.manifests.advertise();
    const ended = new Promise<string>((resolve) => call.once('error', (error) => resolve(error.message)));
    call.on('data', () => undefined);
    call.write({ step: { $case: 'heartbeat', value: { asOfEpochMs: 1n, pending: 0 } } });
    expect(await ended).toMatch(/says hello before/);
    const short = await a.feed(Buffer.alloc(3));
    expect((await short.ended())?.reason).toBe('FEED_ID_INVALID');
  });
});

test('a node leaves two feeds at the most behind, and begins a limited number a minute', async () => {
  await withIndex(async (network) => {
    const node = await network.addNode('A');
    let last;
    for (let number = 0; number < 5; number += 1) {
      last = await node.feed(Buffer.alloc(16, number));
      last.send(1, node.manifest({ studyInstanceUid: `1.2.${number}`, ...keys(PATIENT) }));
      await last.acknowledged(1);
    }
    const again = await node.feed(Buffer.alloc(16, 4));
    expect(again.firstAck).toBe(1);
    expect((await rowsOf(network, 'feed')).map(({ feed_id }) => Number(feed_id[0])).sort((a, b) => a - b)).toEqual([3, 4]);
    expect((await rowsOf(network, 'feed_log')).map(({ feed_id }) => feed_id[0])).toEqual([3, 4]);
    expect(await rowsOf(network, 'study')).toHaveLength(5);
    let refused;
    for (let number = 0; number < 61 && refused === undefined; number += 1) {
      const feed = await node.feed();
      if (feed.firstAck === -1) refused = await feed.ended();
    }
    expect(refused?.reason).toBe('TOO_MANY_ATTEMPTS');
  });
});
