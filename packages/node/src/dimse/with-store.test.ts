import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { silentLog } from '@meridian/shared/log';
import { systemClock } from '@meridian/shared/platform/clock';
import { systemRandom } from '@meridian/shared/platform/random';
import { openStore, type Store } from '../store/store.ts';
import { openDimse, type DimseServer } from './dimse-server.ts';
import { PDU } from './pdu.ts';
import { associateRequest, CT, dataPdu, RawPeer, RELEASE, storeCommand } from './testing/raw-peer.ts';

async function withStore(body: (door: { server: DimseServer; store: Store; folder: string }) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'meridian-dimse-store-'));
  const store = await openStore({
    folder,
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
    limits: { minimumFreeFraction: 0, quietTimeMs: 60_000, releasedQuietTimeMs: 50 },
  });
  const server = await openDimse({
    config: {
      host: '127.0.0.1',
      port: 0,
      aeTitle: 'MERIDIAN',
      assigningAuthority: 'HOSPITAL',
      allow: [{ aeTitle: 'MODALITY', assigningAuthority: 'RADIOLOGY' }],
      limits: { closeMs: 500 },
    },
    ingest: store.ingest,
    clock: systemClock,
    log: silentLog,
  });
  try {
    await body({ server, store, folder });
  } finally {
    await server.close();
    await store.close();
    await rm(folder, { recursive: true, force: true });
  }
}

/** A small CT in explicit VR little endian. */
function ct(sopInstanceUid: string, pixelByte: number): Buffer {
  const element = (group: number, number: number, vr: string, value: Buffer): Buffer => {
    const isLong = vr === 'OW';
    const head = Buffer.alloc(isLong ? 12 : 8);
    head.writeUInt16LE(group, 0);
    head.writeUInt16LE(number, 2);
    head.write(vr, 4, 'latin1');
    if (isLong) head.writeUInt32LE(value.length, 8);
    else head.writeUInt16LE(value.length, 6);
    return Buffer.concat([head, value]);
  };
  const text = (group: number, number: number, vr: string, value: string): Buffer =>
    element(group, number, vr, Buffer.from(value.length % 2 === 0 ? value : value + (vr === 'UI' ? '\0' : ' ')));
  return Buffer.concat([
    text(0x0008, 0x0016, 'UI', CT),
    text(0x0008, 0x0018, 'UI', sopInstanceUid),
    text(0x0008, 0x0060, 'CS', 'CT'),
    text(0x0010, 0x0010, 'PN', 'Test^Wire'),
    text(0x0010, 0x0020, 'LO', 'P1'),
    text(0x0020, 0x000d, 'UI', '1.2.3.100'),
    text(0x0020, 0x000e, 'UI', '1.2.3.100.1'),
    element(0x7fe0, 0x0010, 'OW', Buffer.alloc(4096, pixelByte)),
  ]);
}

async function send(
  peer: RawPeer,
  dataSet: Buffer,
  sopInstanceUid: string,
): Promise<{ status: number | undefined; comment: string | undefined }> {
  peer.send(dataPdu(1, 3, storeCommand({ sopInstanceUid })));
  for (let at = 0; at < dataSet.length; at += 1000)
    peer.send(dataPdu(1, at + 1000 >= dataSet.length ? 2 : 0, dataSet.subarray(at, at + 1000)));
  const { status, comment } = await peer.response();
  return { status, comment };
}

async function filesIn(folder: string): Promise<number> {
  return (await readdir(join(folder, 'blobs'), { recursive: true })).filter((name) => name.endsWith('.dcm')).length;
}

test('the real archive behind the door: stored, known again, kept aside, mismatched, unreadable, broken off', async () => {
  await withStore(async ({ server, store, folder }) => {
    const peer = await RawPeer.connect(server.port);
    try {
      peer.send(associateRequest());
      expect((await peer.next())?.type).toBe(PDU.ASSOCIATE_AC);
      const first = ct('1.2.3.100.1.1', 1);
      expect(await send(peer, first, '1.2.3.100.1.1')).toMatchObject({ status: 0 });
      expect(await send(peer, first, '1.2.3.100.1.1')).toMatchObject({ status: 0 });
      expect(await send(peer, ct('1.2.3.100.1.1', 2), '1.2.3.100.1.1')).toMatchObject({ status: 0xb000 });
      expect(await send(peer, ct('1.2.3.100.1.2', 1), '1.2.3.100.1.9')).toMatchObject({ status: 0xa900, comment: 'INSTANCE_MISMATCH' });
      const cut = await send(peer, ct('1.2.3.100.1.3', 1).subarray(0, 90), '1.2.3.100.1.3');
      expect([(cut.status ?? 0) & 0xf000, cut.comment]).toEqual([0xc000, expect.stringMatching(/^[A-Z_]+$/)]);
      expect(await store.usage()).toMatchObject({ studies: 1, instances: 1, quarantined: 1 });

      const [row] = await store.studies.findInstances({});
      expect(row?.bytes).toBe(first.length);
      expect(row && (await store.studies.readDataSet(row, 0, row.bytes)).equals(first)).toBe(true);
      const [study] = await store.studies.findStudies({});
      expect(study?.patient).toMatchObject({ assigningAuthority: 'RADIOLOGY', patientId: 'P1' });
      expect(study?.state).toBe('receiving');

      // A sender that breaks off leaves nothing behind.
      const broken = await RawPeer.connect(server.port);
      broken.send(
        associateRequest(),
        dataPdu(1, 3, storeCommand({ sopInstanceUid: '1.2.3.100.1.4' })),
        dataPdu(1, 0, ct('1.2.3.100.1.4', 1).subarray(0, 2000)),
      );
      expect((await broken.next())?.type).toBe(PDU.ASSOCIATE_AC);
      broken.close();
      while (server.associations() > 1) await new Promise((resolve) => setTimeout(resolve, 5));

      // A release tells the archive that the study is whole; an open association would have held it.
      peer.send(RELEASE);
      expect((await peer.next())?.type).toBe(PDU.RELEASE_RP);
      while ((await store.studies.findStudies({}))[0]?.state === 'receiving') await new Promise((resolve) => setTimeout(resolve, 10));
      await store.idle();
      expect(await filesIn(folder)).toBe(2);
    } finally {
      peer.close();
    }
  });
});
