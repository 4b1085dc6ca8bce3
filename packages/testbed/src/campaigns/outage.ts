import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { madeUpResidentId } from '../data/person-ids.ts';
import { generateStudy } from '../data/studies.ts';
import { joinNode, openServedIndex } from '../federation-processes.ts';
import { sendAll } from '../modality.ts';
import { type ServedNode, serveNode } from '../processes.ts';
import type { Campaign, CampaignOptions } from './campaign.ts';
import { feedArrivals } from './feed-arrivals.ts';
import { CAMPAIGN_NODE } from './kill.ts';

const DRAIN_LIMIT_MS = 180_000;

/** Promise 5: with the index away a node goes on; when it is back everything arrives once and in order. */
export const campaign: Campaign = {
  name: 'outage',
  describe: 'the index is stopped for the whole of an ingest; the node is restarted twice meanwhile; then the index comes back',
  defaults: { count: 200, seed: 1 },
  plants: ['drop-row'],
  async run(options) {
    const folder = await mkdtemp(join(tmpdir(), 'meridian-outage-'));
    const index = await openServedIndex(join(folder, 'index'));
    const nodeFolder = join(folder, 'node');
    let node: ServedNode | undefined;
    const start = async (): Promise<ServedNode> =>
      serveNode({ folder: nodeFolder, env: CAMPAIGN_NODE, ...(options.plant === undefined ? {} : { plant: options.plant }) });
    try {
      await joinNode(index, { name: 'Outage Hospital', folder: nodeFolder, env: CAMPAIGN_NODE });
      await index.stop();
      node = await start();
      let ingested = 0;
      for (let study = 0; study < options.count; study += 1) {
        options.signal.throwIfAborted();
        await ingest(node, options, study);
        ingested += 1;
        if (study === Math.floor(options.count / 3)) {
          await node.stop();
          node = await start();
          options.log(`restarted in order after ${ingested} studies`);
        }
        if (study === Math.floor((2 * options.count) / 3)) {
          await node.kill();
          node = await start();
          options.log(`killed and restarted after ${ingested} studies`);
        }
      }
      options.log(`${ingested} studies ingested with the index away; starting the index`);
      const backAt = performance.now();
      await index.start();
      const arrivals = await drained(index.current().databasePath, node, options);
      const drainMs = Math.round(performance.now() - backAt);
      const figures = { ingested, arrived: arrivals.arrived, doubled: arrivals.doubled, outOfOrder: arrivals.outOfOrder, drainMs };
      const problems = [
        ...(arrivals.arrived === options.count ? [] : [`${arrivals.arrived} of ${options.count} studies arrived`]),
        ...(arrivals.doubled === 0 ? [] : [`${arrivals.doubled} entries arrived twice`]),
        ...(arrivals.outOfOrder === 0 ? [] : [`${arrivals.outOfOrder} entries arrived out of order`]),
      ];
      return { ok: problems.length === 0, figures, problems };
    } finally {
      await node?.stop();
      await index.close();
      await rm(folder, { recursive: true, force: true });
    }
  },
};

async function ingest(node: ServedNode, options: CampaignOptions, at: number): Promise<void> {
  const birthDate = `19${String(50 + (at % 40)).padStart(2, '0')}0315`;
  const objects = [
    ...generateStudy({
      seed: options.seed * 100_000 + at,
      kind: 'ct',
      person: { name: `Outage^${at}`, birthDate, sex: 'F', residentId: madeUpResidentId(birthDate, (2 * at) % 1000) },
      patientId: `O${at}`,
      date: '20260301',
      time: '080000',
      institution: 'Outage',
      description: 'outage',
      slices: 2,
      size: 32,
      charset: 'utf8',
    }),
  ];
  const statuses = await sendAll(
    { host: '127.0.0.1', port: node.ports['dimse'] ?? 0, callingAeTitle: 'CT', calledAeTitle: 'MERIDIAN' },
    objects,
  );
  if (statuses.some((status) => status !== 0)) throw new Error('a C-STORE was refused while the index was away');
}

/** Until nothing more comes: all arrived, or the node says that nothing is pending and three seconds passed without news. */
async function drained(
  indexDatabase: string,
  node: ServedNode,
  options: CampaignOptions,
): Promise<{ arrived: number; doubled: number; outOfOrder: number }> {
  const until = performance.now() + DRAIN_LIMIT_MS;
  let quietSince = performance.now();
  let last = -1;
  for (;;) {
    const arrivals = feedArrivals(indexDatabase);
    if (arrivals.arrived !== last) {
      last = arrivals.arrived;
      quietSince = performance.now();
    }
    const status = (await (await fetch(`${node.apiUrl}/api/v1/node`)).json()) as {
      advertise?: { pending: number; lastSeq: number; acknowledgedSeq: number };
    };
    const idle =
      status.advertise !== undefined && status.advertise.pending === 0 && status.advertise.acknowledgedSeq === status.advertise.lastSeq;
    if (idle && performance.now() - quietSince > 3_000) return arrivals;
    if (performance.now() > until) {
      options.log('gave up waiting');
      return arrivals;
    }
    await wait(250);
  }
}
