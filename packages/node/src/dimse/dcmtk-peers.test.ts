import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from '@jest/globals';
import { MeshError } from '@meridian/shared/errors';
import { silentLog } from '@meridian/shared/log';
import { systemClock } from '@meridian/shared/platform/clock';
import { sharedDataFolder, testNeeding } from '@meridian/shared/testing/needs';
import { readPart10Start } from '../dicom/part10.ts';
import { openDimse, type DimseServer } from './dimse-server.ts';
import { dcmtk, openStoreScp, STORESCU_OPTION } from './testing/dcmtk.ts';
import { MemoryIngest } from './testing/memory-ingest.ts';

async function withDoor(
  body: (door: { server: DimseServer; ingest: MemoryIngest; folder: string; to: readonly string[] }) => Promise<void>,
): Promise<void> {
  const ingest = new MemoryIngest();
  const folder = await mkdtemp(join(tmpdir(), 'meridian-dimse-'));
  const server = await openDimse({
    config: { host: '127.0.0.1', port: 0, aeTitle: 'MERIDIAN', assigningAuthority: 'A', allow: [] },
    ingest,
    clock: systemClock,
    log: silentLog,
  });
  try {
    await body({ server, ingest, folder, to: ['-aec', 'MERIDIAN', '127.0.0.1', String(server.port)] });
  } finally {
    await server.close();
    await rm(folder, { recursive: true, force: true });
  }
}

const SAMPLES = [
  'CT/pydicom__IM000002.dcm',
  'CT/cornerstone3D__CTImage.dcm_BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2.dcm',
  'CT/cornerstone3D__CTImage.dcm_LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2.dcm',
  'CT/cornerstone3D__CTImage.dcm_LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1.dcm',
  'CT/cornerstone3D__CTImage.dcm_RLELosslessTransferSyntax_1.2.840.10008.1.2.5.dcm',
  'CT/cornerstone3D__CTImage.dcm_JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81.dcm',
  'CR/pydicom-data__RG1_J2KI.dcm',
  'CT/dicom-test-files__CT1_JPLL.dcm',
].map((path) => join(sharedDataFolder, path));

testNeeding('dcmtk', 'dcmtk asks whether we are there, in all its ways', async () => {
  await withDoor(async ({ server, ingest, to }) => {
    expect(await dcmtk('echoscu', to)).toMatchObject({ exitCode: 0 });
    expect(await dcmtk('echoscu', ['-pts', '38', '--propose-pc', '128', '--repeat', '20', ...to])).toMatchObject({ exitCode: 0 });
    expect(await dcmtk('echoscu', ['--abort', ...to])).toMatchObject({ exitCode: 0 });
    const wrong = await dcmtk('echoscu', ['-aec', 'OTHER', '127.0.0.1', String(server.port)]);
    expect(wrong.exitCode).not.toBe(0);
    expect(wrong.output).toMatch(/Called AE Title Not Recognized/i);
    await dcmtk('termscu', to);
    expect(await dcmtk('echoscu', to)).toMatchObject({ exitCode: 0 });
    expect(ingest.events.filter((event) => event.startsWith('opened')).length).toBe(
      ingest.events.filter((event) => /^(released|aborted)/.test(event)).length,
    );
    expect(server.associations()).toBe(0);
  });
});

testNeeding(
  ['dcmtk', 'shared data'],
  'what dcmtk sends arrives as storescp +B would write it, in each transfer syntax and PDU size',
  async () => {
    await withDoor(async ({ ingest, folder, to }) => {
      const reference = await openStoreScp({ folder: join(folder, 'reference') });
      try {
        const syntaxes = new Set<string>();
        for (const [at, file] of SAMPLES.entries()) {
          const start = readPart10Start(await readFile(file));
          if (start === 'need-more') throw new Error('no file');
          const size = ['--max-send-pdu', at % 2 === 0 ? '4096' : '131072'];
          const option = STORESCU_OPTION[start.transferSyntaxUid] ?? '-xe';
          expect(await dcmtk('storescu', [...size, option, ...to, file])).toMatchObject({ exitCode: 0 });
          expect(await dcmtk('storescu', [...size, option, '127.0.0.1', String(reference.port), file])).toMatchObject({ exitCode: 0 });
          const [written = '', ...more] = await reference.files();
          expect(more).toEqual([]);
          const bytes = await readFile(written);
          const theirs = readPart10Start(bytes);
          if (theirs === 'need-more') throw new Error('no file');
          const ours = ingest.received.at(-1);
          expect(ours?.source.transferSyntaxUid).toBe(start.transferSyntaxUid);
          expect(theirs.transferSyntaxUid).toBe(start.transferSyntaxUid);
          expect(ours?.bytes.equals(bytes.subarray(theirs.metaEndOffset))).toBe(true);
          syntaxes.add(start.transferSyntaxUid);
          await rm(written);
        }
        expect(syntaxes.size).toBeGreaterThanOrEqual(6);
      } finally {
        await reference.close();
      }
    });
  },
);

testNeeding(['dcmtk', 'shared data'], 'dcmsend over several associations, a repeating storescu, and a full disk told as such', async () => {
  await withDoor(async ({ ingest, to }) => {
    expect(await dcmtk('dcmsend', ['--multi-associations', '--no-halt', ...to, ...SAMPLES])).toMatchObject({ exitCode: 0 });
    expect(ingest.received.length).toBe(SAMPLES.length);
    expect(await dcmtk('storescu', ['-xe', '--repeat', '50', ...to, SAMPLES[3] ?? ''])).toMatchObject({ exitCode: 0 });
    expect(ingest.received.length).toBe(SAMPLES.length + 50);
    ingest.outcome = () => new MeshError('RESOURCE_EXHAUSTED', 'DISK_FULL', 'full');
    const full = await dcmtk('storescu', ['-v', '-xe', ...to, SAMPLES[3] ?? '']);
    expect(full.output).toMatch(/Refused: OutOfResources/);
    expect(ingest.received.length).toBe(SAMPLES.length + 50);
  });
});
