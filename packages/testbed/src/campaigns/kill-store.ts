import { createHash } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import { generateStudy, type GeneratedInstance } from '../data/studies.ts';
import { WANG } from '../demo/cast.ts';
import { hospitalClient } from '../hospital-client.ts';
import { type Modality, openModality } from '../modality.ts';
import { dataSetOfPart10Response } from '../part10-response.ts';
import { type ServedNode, serveNode } from '../processes.ts';
import type { CampaignOptions } from './campaign.ts';

/** What was acknowledged and what was found afterwards. */
export interface StoreKills {
  readonly kills: number;
  readonly acknowledged: number;
  readonly acknowledgedLost: number;
  readonly halfRows: number;
  readonly fewestAcknowledgedInOneKill: number;
}

/** Acknowledged instances that each kill must have behind it before it counts. */
const LEAST_ACKNOWLEDGED = 20;
const ASSOCIATIONS = 3;

/** kill -9 of a node at random moments while modalities send; then everything acknowledged must be there, byte for byte. */
export async function killUnderStoreLoad(
  options: CampaignOptions,
  parts: { folder: string; env: Readonly<Record<string, string>>; random: () => number },
): Promise<StoreKills> {
  const sent = new Map<string, { digest: string; study: string; series: string }>();
  const acknowledged = new Set<string>();
  let fewest = Number.POSITIVE_INFINITY;
  for (let kill = 0; kill < options.count; kill += 1) {
    options.signal.throwIfAborted();
    const node = await serveNode({
      folder: parts.folder,
      env: parts.env,
      ...(options.plant === undefined ? {} : { plant: options.plant }),
    });
    const before = acknowledged.size;
    await loadUntilKilled(node, { round: kill, seed: options.seed, random: parts.random, sent, acknowledged });
    const inThisKill = acknowledged.size - before;
    fewest = Math.min(fewest, inThisKill);
    options.log(`kill ${kill + 1} of ${options.count}: ${inThisKill} acknowledged in this round, ${acknowledged.size} in all`);
  }
  const node = await serveNode({ folder: parts.folder, env: parts.env });
  try {
    return {
      kills: options.count,
      acknowledged: acknowledged.size,
      fewestAcknowledgedInOneKill: fewest,
      ...(await compare(node.apiUrl, sent, acknowledged)),
    };
  } finally {
    await node.stop();
  }
}

async function loadUntilKilled(
  node: ServedNode,
  load: {
    round: number;
    seed: number;
    random: () => number;
    sent: Map<string, { digest: string; study: string; series: string }>;
    acknowledged: Set<string>;
  },
): Promise<void> {
  const goal = load.acknowledged.size + LEAST_ACKNOWLEDGED;
  const extraMs = Math.floor(load.random() * 400);
  let stopped = false;
  const modalities = new Map<number, Modality>();
  const senders = Array.from({ length: ASSOCIATIONS }, async (_, association) => {
    for (const instance of endless(load.seed * 10_000 + load.round * 10 + association, load.random)) {
      if (stopped) return;
      load.sent.set(instance.sopInstanceUid, {
        digest: createHash('sha256').update(instance.dataSet).digest('hex'),
        study: instance.studyInstanceUid,
        series: instance.seriesInstanceUid,
      });
      const open = await modalityFor(association, instance);
      if ((await open.store(instance)) === 0) load.acknowledged.add(instance.sopInstanceUid);
    }
  });
  async function modalityFor(association: number, instance: GeneratedInstance): Promise<Modality> {
    const known = modalities.get(association);
    if (known !== undefined) return known;
    const opened = await openModality({
      host: '127.0.0.1',
      port: node.ports['dimse'] ?? 0,
      callingAeTitle: `CT${association}`,
      calledAeTitle: 'MERIDIAN',
      storage: [instance],
    });
    modalities.set(association, opened);
    return opened;
  }
  const outcomes = Promise.allSettled(senders);
  while (load.acknowledged.size < goal) {
    if (await Promise.race([node.exited.then(() => true), wait(5, false)]))
      throw new Error(`the node ended by itself:\n${node.recentOutput()}`);
  }
  await wait(extraMs);
  await node.kill();
  stopped = true;
  for (const open of modalities.values()) open.destroy();
  await outcomes;
}

/** Studies without end: most images small, some large, so that a kill meets every stage. */
function* endless(seed: number, random: () => number): Generator<GeneratedInstance> {
  for (let study = 0; ; study += 1) {
    const size = random() < 0.3 ? 512 : 96;
    yield* generateStudy({
      seed: seed * 1000 + study,
      kind: 'ct',
      person: WANG,
      patientId: `K${seed}`,
      date: '20260101',
      time: '080000',
      institution: 'Kill',
      description: 'load',
      slices: 12,
      size,
      charset: 'utf8',
    });
  }
}

/** Reads back everything that was sent: what was acknowledged must be there, and no row may stand for half an object. */
async function compare(
  apiUrl: string,
  sent: ReadonlyMap<string, { digest: string; study: string; series: string }>,
  acknowledged: ReadonlySet<string>,
): Promise<{ acknowledgedLost: number; halfRows: number }> {
  const client = hospitalClient(apiUrl);
  let acknowledgedLost = 0;
  let halfRows = 0;
  const listed = new Set<string>();
  for (const study of new Set([...sent.values()].map((one) => one.study))) {
    for (const sop of await client.instancesOf(study)) listed.add(sop);
  }
  for (const [sop, { digest, study, series }] of sent) {
    if (!listed.has(sop)) {
      if (acknowledged.has(sop)) acknowledgedLost += 1;
      continue;
    }
    const found = await client
      .bytes(
        `/dicomweb/studies/${study}/series/${series}/instances/${sop}`,
        'multipart/related; type="application/dicom"; transfer-syntax=*',
      )
      .then(
        ({ contentType, body }) => createHash('sha256').update(dataSetOfPart10Response(contentType, body)).digest('hex'),
        () => 'unreadable',
      );
    if (found === digest) continue;
    halfRows += 1;
    if (acknowledged.has(sop)) acknowledgedLost += 1;
  }
  return { acknowledgedLost, halfRows };
}
