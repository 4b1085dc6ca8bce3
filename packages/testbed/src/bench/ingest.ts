import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { dcmtk, isInstalled } from '@meridian/node/dimse/testing/dcmtk';
import { median, type Bench, type BenchResult } from './bench.ts';
import { makeObjects, type ObjectSet } from './ingest-objects.ts';
import { peakMemoryMb, startMeridian, startOrthanc, startStoreScp, type StartServer, type StoreServer } from './ingest-servers.ts';

interface Case {
  readonly name: string;
  readonly size: number;
  readonly count: number;
  readonly associations: number;
}

const CASES: readonly Case[] = [
  { name: 'CT 531 kB, 1 association', size: 512, count: 240, associations: 1 },
  { name: 'CT 531 kB, 4 associations', size: 512, count: 240, associations: 4 },
  { name: '20 kB, 1 association', size: 80, count: 400, associations: 1 },
];
const ROUNDS = 3;
const WARM_UP = { name: 'warm-up', size: 512, count: 40, associations: 1 };

interface Peer {
  readonly name: string;
  readonly start: StartServer;
  readonly most: number;
}

/** C-STORE by dcmtk's dcmsend into our node, Debian's Orthanc and storescp, in turns. */
export const bench: Bench = {
  name: 'ingest',
  describe: 'C-STORE by dcmsend (TCP_NODELAY=1, PDUs of 128 KiB): our node, Orthanc, storescp +B; rounds in turns, the middle of three',
  async run({ log, signal }) {
    if (!isInstalled('dcmsend'))
      throw new Error("dcmtk is not installed: this bench sends with dcmtk's dcmsend. On Debian: apt install dcmtk");
    // Without it there is nothing to compare with, and an answer would look like one.
    if (!isInstalled('Orthanc'))
      throw new Error('Orthanc is not installed: this bench measures us beside it. On Debian: apt install orthanc');
    const peers: readonly Peer[] = [
      { name: 'meridian', start: startMeridian, most: 4 },
      { name: 'orthanc', start: startOrthanc, most: 4 },
      // One process serves one association at a time.
      { name: 'storescp', start: startStoreScp, most: 1 },
    ];
    const folder = await mkdtemp(join(tmpdir(), 'meridian-bench-ingest-'));
    try {
      log('making the objects…');
      const sets = await makeSets(folder);
      const measured = new Measured();
      for (let round = 0; round < ROUNDS; round += 1) {
        signal.throwIfAborted();
        await measureRound({ peers, folder: join(folder, `round-${round}`), sets, measured, log, round });
      }
      return result(measured, sets);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
};

async function makeSets(folder: string): Promise<ReadonlyMap<Case, ObjectSet>> {
  const sets = new Map<Case, ObjectSet>();
  for (const [at, one] of [WARM_UP, ...CASES].entries())
    sets.set(one, await makeObjects({ folder: join(folder, `objects-${at}`), seed: 9_000 + at, count: one.count, size: one.size }));
  return sets;
}

/** Fresh servers, warmed up; each case goes to all of them in turn, so that a busy minute of the machine meets all alike. */
async function measureRound(options: {
  peers: readonly Peer[];
  folder: string;
  sets: ReadonlyMap<Case, ObjectSet>;
  measured: Measured;
  log: (line: string) => void;
  round: number;
}): Promise<void> {
  const { peers, sets, measured, log, round } = options;
  const servers = new Map<Peer, StoreServer>();
  try {
    for (const peer of peers) servers.set(peer, await peer.start(join(options.folder, peer.name)));
    const sent = new Map<StoreServer, number>();
    const count = (server: StoreServer, objects: number): unknown => sent.set(server, (sent.get(server) ?? 0) + objects);
    for (const server of servers.values()) {
      await send(server, sets.get(WARM_UP), WARM_UP.associations);
      count(server, WARM_UP.count);
    }
    for (const [at, one] of CASES.entries()) {
      for (let turn = 0; turn < peers.length; turn += 1) {
        const peer = peers[(turn + at + round) % peers.length];
        const server = peer === undefined ? undefined : servers.get(peer);
        if (peer === undefined || server === undefined || one.associations > peer.most) continue;
        const seconds = await send(server, sets.get(one), one.associations);
        count(server, one.count);
        measured.add(one.name, peer.name, seconds);
        log(
          `round ${round + 1}: ${peer.name.padEnd(9)} ${one.name.padEnd(26)} ${((sets.get(one)?.bytes ?? 0) / 1e6 / seconds).toFixed(1)} MB/s`,
        );
      }
    }
    for (const [server, objects] of sent) {
      const stored = await server.stored();
      if (stored !== objects)
        throw new Error(`${server.aeTitle} answered Success for ${objects} objects and holds ${stored}: its speed says nothing`);
    }
    for (const [peer, server] of servers) measured.memory(peer.name, await peakMemoryMb(server.pid));
  } finally {
    for (const server of servers.values()) await server.close();
  }
}

/** Sends a set over so many associations at once. @returns seconds from first to last. */
async function send(server: StoreServer, set: ObjectSet | undefined, associations: number): Promise<number> {
  const files = set?.files ?? [];
  // The sender's disk is not what is measured.
  for (const file of files) await readFile(file);
  const startedAt = performance.now();
  const ran = await Promise.all(
    Array.from({ length: associations }, (_, part) =>
      dcmtk(
        'dcmsend',
        [
          '-v',
          '-pdu',
          '131072',
          '--no-halt',
          '-aec',
          server.aeTitle,
          '127.0.0.1',
          String(server.port),
          ...files.filter((_file, at) => at % associations === part),
        ],
        { timeoutMs: 300_000 },
      ),
    ),
  );
  const seconds = (performance.now() - startedAt) / 1000;
  const failed = ran.find((one) => one.exitCode !== 0);
  if (failed !== undefined) throw new Error(`dcmsend to ${server.aeTitle} ended with ${failed.exitCode}: ${failed.output.slice(-400)}`);
  checkAnswers(server.aeTitle, ran.map(({ output }) => output).join('\n'), files.length);
  return seconds;
}

/**
 * A refusal is answered faster than an object is stored, and dcmsend ends with 0 all the same: each answer counts by what it says.
 * @throws Error where the peer did not answer Success for every object
 */
export function checkAnswers(aeTitle: string, output: string, objects: number): void {
  const answers = [...output.matchAll(/Received (?:C-)?Store Response \((.*)\)/gi)].map((match) => match[1] ?? '');
  const other = answers.find((answer) => answer !== 'Success');
  if (other !== undefined) throw new Error(`${aeTitle} answered ${other}: refusals are no speed`);
  if (answers.length !== objects) throw new Error(`${aeTitle} answered Success ${answers.length} times for ${objects} objects`);
}

/** Seconds of every round and peak memory, by server. */
class Measured {
  readonly seconds = new Map<string, Map<string, number[]>>();
  readonly peaks = new Map<string, number>();

  add(name: string, peer: string, seconds: number): void {
    const byPeer = this.seconds.get(name) ?? new Map<string, number[]>();
    this.seconds.set(name, byPeer);
    byPeer.set(peer, [...(byPeer.get(peer) ?? []), seconds]);
  }

  memory(peer: string, mb: number): void {
    this.peaks.set(peer, Math.max(this.peaks.get(peer) ?? 0, mb));
  }
}

function result(measured: Measured, sets: ReadonlyMap<Case, ObjectSet>): BenchResult {
  const rows = CASES.flatMap((one) =>
    [...(measured.seconds.get(one.name) ?? [])].map(([server, seconds]) => {
      const rates = seconds.map((each) => (sets.get(one)?.bytes ?? 0) / 1e6 / each);
      return {
        case: one.name,
        server,
        'MB/s': rounded(median(rates)),
        'objects/s': Math.round(one.count / median(seconds)),
        rounds: rates.map(rounded).join(' '),
      };
    }),
  );
  // Same bytes on both sides, so the ratio of rates is the inverse ratio of times.
  const ratio = (one: Case | undefined, peer: string): number | undefined => {
    const byPeer = measured.seconds.get(one?.name ?? '');
    const [ours, theirs] = [byPeer?.get('meridian'), byPeer?.get(peer)];
    return ours === undefined || theirs === undefined ? undefined : Math.round((median(theirs) / median(ours)) * 100) / 100;
  };
  const [ct1, ct4, small1] = CASES;
  const ratios = Object.entries({
    orthanc1: ratio(ct1, 'orthanc'),
    orthanc4: ratio(ct4, 'orthanc'),
    orthancSmall1: ratio(small1, 'orthanc'),
    storescp1: ratio(ct1, 'storescp'),
    storescpSmall1: ratio(small1, 'storescp'),
  });
  return {
    rows,
    ratios: Object.fromEntries(ratios.filter((entry): entry is [string, number] => entry[1] !== undefined)),
    peakMemoryMb: Object.fromEntries([...measured.peaks].map(([peer, mb]) => [peer, Math.round(mb)])),
    notes: ['ours flushes the file and the index row before Success; Orthanc flushes its file alone; storescp flushes nothing'],
  };
}

function rounded(value: number): number {
  return Math.round(value * 10) / 10;
}
