// A process of its own that takes in one large object in chunks of 1 MiB and prints how much its memory grew.
import { silentLog } from '@meridian/shared/log';
import { systemClock } from '@meridian/shared/platform/clock';
import { systemRandom } from '@meridian/shared/platform/random';
import { openStore } from '../store.ts';
import { EXPLICIT_LE, makeHeader, makeInstance } from './data-sets.ts';

const [folder = '', size = '0'] = process.argv.slice(2);
const CHUNK = 1024 * 1024;
const store = await openStore({ folder, clock: systemClock, random: systemRandom, log: silentLog });

async function take(pieces: Iterable<Buffer>): Promise<{ outcome: string; bytes: number }> {
  const sink = store.ingest.begin({ door: 'import', transferSyntaxUid: EXPLICIT_LE, assigningAuthority: 'H' });
  for (const piece of pieces) if (!sink.write(piece)) await sink.drained();
  return sink.end();
}

function* large(pixelBytes: number): Iterable<Buffer> {
  yield makeHeader({ sop: '1.2.3.1.9', pixelBytes });
  for (let sent = 0; sent < pixelBytes; sent += CHUNK) yield Buffer.alloc(Math.min(CHUNK, pixelBytes - sent), sent / CHUNK);
}

await take([makeInstance()]);
const before = process.memoryUsage().rss;
let peak = before;
const watch = setInterval(() => (peak = Math.max(peak, process.memoryUsage().rss)), 20);
const { outcome, bytes } = await take(large(Number(size)));
clearInterval(watch);
await store.close();
process.stdout.write(JSON.stringify({ outcome, bytes, growthBytes: peak - before }));
