import { fork } from 'node:child_process';
import { once } from 'node:events';
import { openPeerHost } from '@meridian/node/peer/peer-host';
import { openStore } from '@meridian/node/store/store';
import { openPatients } from '@meridian/node/patients/patients';
import { fetchStudy } from '@meridian/node/transfer/fetch';
import { makeFetchStore } from '@meridian/node/transfer/test-parts';
import { SignedObject } from '@meridian/shared/generated/meridian/v1/common';
import { parsePersonId } from '@meridian/shared/identifiers';
import { silentLog } from '@meridian/shared/log';
import { systemClock } from '@meridian/shared/platform/clock';
import { systemRandom } from '@meridian/shared/platform/random';
import { mkdtemp, rm } from 'node:fs/promises';
import { BENCH_STUDY_UID, ASKER, HOLDER, grantOfPair, trustOfPair } from './transfer-parts.ts';
const parts = { clock: systemClock, random: systemRandom, log: silentLog };
const folder = await mkdtemp('/tmp/tr/p-');
const child = fork(new URL('./transfer-process.ts', import.meta.url), ['holder', folder], { execArgv: ['--disable-warning=ExperimentalWarning'] });
const [told] = await once(child, 'message') as [{ addresses: string[]; manifest: string }];
const peerHost = await openPeerHost({ federation: { peerPrivateKey: ASKER.peerPrivateKey, trust: () => trustOfPair(told.addresses) }, config: { host: '127.0.0.1', port: 0 }, ...parts });
let n = 0;
async function run(name: string, store: any, pk: number) {
  const { grant, consent } = grantOfPair(`p-${n++}`);
  const times: Record<string, number> = { write: 0, drained: 0, ends: 0, maxEnd: 0 };
  const ingest = { begin: (s: any) => { const sink = store.ingest.begin(s); return {
    write: (c: Buffer) => { const t = performance.now(); const r = sink.write(c); times.write! += performance.now() - t; return r; },
    drained: async () => { const t = performance.now(); await sink.drained(); times.drained! += performance.now() - t; },
    end: async () => { const t = performance.now(); const r = await sink.end(); const d = performance.now() - t; times.ends! += d; times.maxEnd = Math.max(times.maxEnd!, d); return r; },
    abort: () => sink.abort() }; } };
  const c0 = process.cpuUsage(); const t0 = performance.now(); const cc0 = 0;
  const result = await fetchStudy({ peerHost, store: { ingest, fetched: store.fetched }, audit: { append: async () => undefined }, ...parts, grant, renewGrant: async () => grant, manifest: SignedObject.decode(Buffer.from(told.manifest, 'base64')), holderKeys: [HOLDER.signingKey.publicKey], holderNode: HOLDER.nodeId, studyInstanceUid: BENCH_STUDY_UID, localPatientPk: pk, consentHash: consent.hash, signal: AbortSignal.timeout(300000), onProgress: () => undefined });
  const s = (performance.now() - t0) / 1000; const c = process.cpuUsage(c0);
  console.log(name, (result.bytes / 1e6 / s).toFixed(1), 'MB/s', s.toFixed(2), 's cpu', ((c.user + c.system) / 1e6).toFixed(2), JSON.stringify(times, (_k, v) => typeof v === 'number' ? Math.round(v) : v), 'first', result.firstImageMs);
}
for (let i = 0; i < 1; i++) {
  await run('memory', makeFetchStore(), 1);
  const store = await openStore({ folder: `${folder}/a${i}`, ...parts });
  const patient = await openPatients({ store, assigningAuthority: 'A', random: systemRandom }).localPatientFor(parsePersonId('11010519491231002X'));
  await run('store', store, patient.pk);
  await store.close();
}
child.kill(); await peerHost.close(); await rm(folder, { recursive: true });
process.exit(0);
