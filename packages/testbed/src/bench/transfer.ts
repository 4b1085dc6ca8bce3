import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { median, type Bench } from './bench.ts';
import { BENCH_STUDY } from './transfer-parts.ts';
import { openMeridianPair, openOrthancPair, openTlsPair, type Pair } from './transfer-pairs.ts';

const ROUNDS = 3;

/** One study from node to node, beside Orthanc's peer store and a bare TLS socket. */
export const bench: Bench = {
  name: 'transfer',
  describe: `A CT study of ${BENCH_STUDY.slices} images of 531 kB between two processes on loopback: our nodes, Orthanc's peer store, one node:tls socket; rounds in turns, the middle of three`,
  async run({ log, signal }) {
    const folder = await mkdtemp(join(tmpdir(), 'meridian-bench-transfer-'));
    const pairs: Pair[] = [];
    try {
      log('starting the pairs and giving each its study…');
      for (const [name, open] of Object.entries({ ours: openMeridianPair, orthanc: openOrthancPair, tls: openTlsPair })) {
        const pair = await open(join(folder, name));
        if (pair !== undefined) pairs.push(pair);
      }
      const rates = new Map<string, number[]>(pairs.map((pair) => [pair.name, []]));
      // Round 0 warms up and is not counted.
      for (let round = 0; round <= ROUNDS; round += 1) {
        for (let turn = 0; turn < pairs.length; turn += 1) {
          signal.throwIfAborted();
          const pair = pairs[(turn + round) % pairs.length]!;
          const { bytes, seconds } = await pair.transfer(round);
          if (round === 0) continue;
          rates.get(pair.name)?.push(bytes / 1e6 / seconds);
          log(`round ${round}: ${pair.name.padEnd(9)} ${(bytes / 1e6 / seconds).toFixed(1)} MB/s`);
        }
      }
      const peakMemoryMb: Record<string, number> = {};
      for (const pair of pairs) Object.assign(peakMemoryMb, await pair.peakMemoryMb());
      return { rows: rowsOf(rates), ratios: ratiosOf(rates), peakMemoryMb, notes: notesOf(pairs) };
    } finally {
      for (const pair of pairs) await pair.close();
      await rm(folder, { recursive: true, force: true });
    }
  },
};

function rowsOf(rates: ReadonlyMap<string, readonly number[]>): Record<string, string | number>[] {
  const stores: Readonly<Record<string, string>> = {
    meridian: 'file and row flushed, SHA-256 checked',
    orthanc: 'as shipped',
    'node:tls': 'nothing: thrown away',
  };
  return [...rates].map(([way, all]) => ({
    way,
    'MB/s': rounded(median(all), 10),
    'images/s': Math.round((median(all) * 1e6) / (BENCH_STUDY.size ** 2 * 2)),
    stored: stores[way] ?? '',
    rounds: all.map((rate) => rounded(rate, 10)).join(' '),
  }));
}

function ratiosOf(rates: ReadonlyMap<string, readonly number[]>): Record<string, number> {
  const ours = median(rates.get('meridian') ?? []);
  const others = { orthanc1: rates.get('orthanc'), tls: rates.get('node:tls') };
  return Object.fromEntries(
    Object.entries(others).flatMap(([name, theirs]) => (theirs === undefined ? [] : [[name, rounded(ours / median(theirs), 100)]])),
  );
}

function notesOf(pairs: readonly Pair[]): string[] {
  const has = (name: string): boolean => pairs.some((pair) => pair.name === name);
  return [
    'ours judges a grant, writes both audit logs and stores durably; the bare socket stores nothing and is the bound',
    ...(has('orthanc') ? [] : ['Orthanc is not installed, so there is no ratio to it. On Debian: apt install orthanc']),
    ...(has('node:tls') ? [] : ['openssl is not installed, so there is no bare socket to compare with']),
  ];
}

function rounded(value: number, steps: number): number {
  return Math.round(value * steps) / steps;
}
