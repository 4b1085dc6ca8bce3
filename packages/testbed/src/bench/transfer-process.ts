import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect, createServer, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { buildManifest } from '@meridian/node/advertise/build-manifest';
import { openPeerHost } from '@meridian/node/peer/peer-host';
import { openPatients } from '@meridian/node/patients/patients';
import { openStore, type Store } from '@meridian/node/store/store';
import { fetchStudy } from '@meridian/node/transfer/fetch';
import { serveTransfers } from '@meridian/node/transfer/serve';
import { openAuditLog } from '@meridian/shared/audit-log';
import { SignedObject } from '@meridian/shared/generated/meridian/v1/common';
import { parsePersonId, parseStudyInstanceUid } from '@meridian/shared/identifiers';
import { silentLog } from '@meridian/shared/log';
import { signManifest } from '@meridian/shared/manifest';
import { systemClock } from '@meridian/shared/platform/clock';
import { systemRandom } from '@meridian/shared/platform/random';
import { generateStudy } from '../data/studies.ts';
import { ASKER, BENCH_STUDY, BENCH_STUDY_UID, grantOfPair, HOLDER, judgeOfPair, PATIENT_KEY, trustOfPair } from './transfer-parts.ts';

/** One end of a transfer in a process of its own; the bench starts it and talks to it by messages. */
export type Role = 'holder' | 'asker' | 'tls-sender' | 'tls-receiver';
/** What the bench asks; `round` names a fresh folder. */
export interface Ask {
  readonly round: number;
  readonly addresses: readonly string[];
  readonly manifest: string;
}
/** What an end answers. */
export interface Told {
  readonly addresses?: readonly string[];
  readonly manifest?: string;
  readonly seconds?: number;
  readonly bytes?: number;
  readonly error?: string;
}

const PERSON = parsePersonId('11010519491231002X');
const TLS_WRITE_BYTES = 256 * 1024;
const parts = { clock: systemClock, random: systemRandom, log: silentLog };
const [role, folder] = process.argv.slice(2) as [Role, string];

async function fill(store: Store): Promise<void> {
  for (const instance of generateStudy(BENCH_STUDY)) {
    const sink = store.ingest.begin({ door: 'import', transferSyntaxUid: instance.transferSyntaxUid, assigningAuthority: 'BENCH' });
    if (!sink.write(instance.dataSet)) await sink.drained();
    await sink.end();
  }
  await store.settle.now(BENCH_STUDY_UID);
}

async function holder(): Promise<Told> {
  const store = await openStore({ folder: join(folder, 'holder'), ...parts });
  await fill(store);
  const built = await buildManifest(store, {
    studyInstanceUid: parseStudyInstanceUid(BENCH_STUDY_UID),
    custodianNode: HOLDER.nodeId,
    version: 1,
    isComplete: true,
    ofVersion: 0,
    patientKeys: [PATIENT_KEY],
    issuedAtEpochMs: Date.now(),
  });
  if (built === undefined) throw new Error('the holder has no study');
  const signed = signManifest(built.manifest, HOLDER.signingKey);
  const peerHost = await openPeerHost({
    federation: { peerPrivateKey: HOLDER.peerPrivateKey, trust: () => trustOfPair([]) },
    config: { host: '127.0.0.1', port: 0 },
    ...parts,
  });
  await serveTransfers({
    peerHost,
    store,
    advertise: { instanceList: async () => ({ signed, list: built.list }) },
    consent: { decide: async (compact, { livePeerId }) => judgeOfPair(compact, livePeerId) },
    audit: await openAuditLog({ folder: join(folder, 'holder-audit'), ...parts }),
    ...parts,
  });
  return { addresses: peerHost.addresses, manifest: Buffer.from(SignedObject.encode(signed).finish()).toString('base64') };
}

async function openAsker(): Promise<(ask: Ask) => Promise<Told>> {
  let addresses: readonly string[] = [];
  const peerHost = await openPeerHost({
    federation: { peerPrivateKey: ASKER.peerPrivateKey, trust: () => trustOfPair(addresses) },
    config: { host: '127.0.0.1', port: 0 },
    ...parts,
  });
  const audit = await openAuditLog({ folder: join(folder, 'asker-audit'), ...parts });
  return async (ask) => {
    ({ addresses } = ask);
    const store = await openStore({ folder: join(folder, `asker-${ask.round}`), ...parts });
    try {
      const { grant, consent } = grantOfPair(`bench-${ask.round}`);
      const patient = await openPatients({ store, assigningAuthority: 'ASKER', random: systemRandom }).localPatientFor(PERSON);
      const startedAt = performance.now();
      const result = await fetchStudy({
        peerHost,
        store,
        audit,
        ...parts,
        grant,
        renewGrant: async () => grantOfPair(`bench-${ask.round}-renewed`).grant,
        manifest: SignedObject.decode(Buffer.from(ask.manifest, 'base64')),
        holderKeys: [HOLDER.signingKey.publicKey],
        holderNode: HOLDER.nodeId,
        studyInstanceUid: BENCH_STUDY_UID,
        localPatientPk: patient.pk,
        consentHash: consent.hash,
        signal: AbortSignal.timeout(300_000),
        onProgress: () => undefined,
      });
      return { seconds: (performance.now() - startedAt) / 1000, bytes: result.bytes };
    } finally {
      await store.close();
    }
  };
}

/** The physical bound: the same bytes over one node:tls socket, from memory, thrown away where they arrive. */
async function tlsSender(): Promise<Told> {
  const images = [...generateStudy(BENCH_STUDY)].map((instance) => instance.dataSet);
  const sendAll = async (socket: TLSSocket): Promise<void> => {
    for (const image of images) {
      for (let at = 0; at < image.length; at += TLS_WRITE_BYTES) {
        if (!socket.write(image.subarray(at, at + TLS_WRITE_BYTES))) await new Promise((resolve) => socket.once('drain', resolve));
      }
    }
    socket.end();
  };
  const server = createServer(
    { key: readFileSync(join(folder, 'key.pem')), cert: readFileSync(join(folder, 'cert.pem')), minVersion: 'TLSv1.3', noDelay: true },
    (socket) => {
      socket.on('error', () => undefined);
      socket.once('data', () => void sendAll(socket));
    },
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  return { addresses: [String(typeof address === 'object' ? address?.port : '')] };
}

function tlsReceive(ask: Ask): Promise<Told> {
  return new Promise((resolve, reject) => {
    const startedAt = performance.now();
    let bytes = 0;
    const onread = { buffer: Buffer.allocUnsafe(TLS_WRITE_BYTES), callback: (count: number): boolean => ((bytes += count), true) };
    const socket = connect(
      {
        host: '127.0.0.1',
        port: Number(ask.addresses[0]),
        ca: readFileSync(join(folder, 'cert.pem')),
        servername: 'bench',
        minVersion: 'TLSv1.3',
        onread,
      } as ConnectionOptions,
      () => socket.write('go'),
    );
    socket.once('error', reject);
    socket.once('close', () => resolve({ seconds: (performance.now() - startedAt) / 1000, bytes }));
  });
}

const tell = (told: Told): void => void process.send?.(told);
const failed = (error: unknown): void => tell({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
process.once('disconnect', () => process.exit(0));
if (role === 'holder' || role === 'tls-sender') (role === 'holder' ? holder() : tlsSender()).then(tell, failed);
else {
  const ready = role === 'asker' ? openAsker() : Promise.resolve(tlsReceive);
  process.on('message', (ask: Ask) => void ready.then((answer) => answer(ask)).then(tell, failed));
  ready.then(() => tell({}), failed);
}
