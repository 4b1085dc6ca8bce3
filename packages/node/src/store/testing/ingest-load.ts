// A process of its own that takes instances in until it is killed; it prints "<SOP Instance UID> <SHA-256>" of each when it was told "stored".
import { writeSync } from 'node:fs';
import { silentLog } from '@meridian/shared/log';
import { systemClock } from '@meridian/shared/platform/clock';
import { systemRandom } from '@meridian/shared/platform/random';
import { openStore } from '../store.ts';
import { EXPLICIT_LE, makeInstance } from './data-sets.ts';

const [folder = '', round = '0', fault = ''] = process.argv.slice(2);
const store = await openStore({
  folder,
  clock: systemClock,
  random: systemRandom,
  log: silentLog,
  faults: { acknowledgeBeforeWrite: fault === 'acknowledge-before-write' },
});
let next = 1;

async function lane(): Promise<void> {
  for (;;) {
    const number = next++;
    const bytes = makeInstance({
      study: `1.${round}`,
      series: `1.${round}.${number % 3}`,
      sop: `1.${round}.${number % 3}.${number}`,
      patientId: `P${round}`,
      instanceNumber: number,
      pixelBytes: 50_000 + (number % 7) * 40_000,
      fill: number % 251,
    });
    const sink = store.ingest.begin({ door: 'dimse', transferSyntaxUid: EXPLICIT_LE, assigningAuthority: 'H' });
    for (let at = 0; at < bytes.length; at += 32_768) if (!sink.write(Buffer.from(bytes.subarray(at, at + 32_768)))) await sink.drained();
    const { sopInstanceUid, sha256 } = await sink.end();
    writeSync(1, `${sopInstanceUid} ${sha256.toString('hex')}\n`);
  }
}

await Promise.all([lane(), lane(), lane(), lane()]);
