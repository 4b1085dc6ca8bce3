import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { openCountingProxy } from '../counting-proxy.ts';
import { generateStudy, studyUidOf, type StudyOrder } from '../data/studies.ts';
import { DX_AT_C, WANG } from '../demo/cast.ts';
import { type History, type HospitalClient, hospitalClient } from '../hospital-client.ts';
import { sendAll } from '../modality.ts';
import { joinNode, type ServedIndex } from '../federation-processes.ts';
import { type ServedNode, serveNode } from '../processes.ts';
import type { CampaignOptions } from './campaign.ts';

/** What was found when either end of a fetch was killed. */
export interface FetchKills {
  readonly fetches: number;
  readonly fetchesResumed: number;
  readonly verifiedSentAgain: number;
  readonly bytesSentAgainMax: number;
  readonly studiesIncomplete: number;
}

/**
 * What TLS records, the muxer and the frames add to data set bytes, and the instance list on top: less than half an instance
 * in 84 MB, so that one instance sent twice shows.
 */
const WIRE_OVERHEAD = 0.0018;
const WIRE_OVERHEAD_BYTES = 100_000;
const SLICES = 160;

/**
 * kill -9 of the asker or the holder while a study travels through a counting proxy; then the fetch must go on from what was
 * verified and durable.
 */
export async function killDuringFetch(
  options: CampaignOptions,
  parts: { folder: string; index: ServedIndex; env: Readonly<Record<string, string>>; random: () => number },
): Promise<FetchKills> {
  const proxy = await openCountingProxy();
  const holderFolder = join(parts.folder, 'holder');
  const askerFolder = join(parts.folder, 'asker');
  const holderEnv = { ...parts.env, MERIDIAN_ASSIGNING_AUTHORITY: 'HOLDER', MERIDIAN_PEER_ANNOUNCE: `/ip4/127.0.0.1/tcp/${proxy.port}` };
  const askerEnv = { ...parts.env, MERIDIAN_ASSIGNING_AUTHORITY: 'ASKER' };
  await joinNode(parts.index, { name: 'Holder', folder: holderFolder, env: holderEnv });
  await joinNode(parts.index, { name: 'Asker', folder: askerFolder, env: askerEnv });
  const startHolder = async (): Promise<ServedNode> => {
    const node = await serveNode({ folder: holderFolder, env: holderEnv });
    proxy.aim(node.ports['peer'] ?? 0);
    return node;
  };
  let holder = await startHolder();
  let asker = await serveNode({ folder: askerFolder, env: askerEnv });
  const totals = { fetches: 0, fetchesResumed: 0, verifiedSentAgain: 0, bytesSentAgainMax: 0, studiesIncomplete: 0 };
  try {
    await send(asker, 'ASKER', [{ ...DX_AT_C, seed: 1, size: 64 }]);
    for (let kill = 0; kill < options.count; kill += 1) {
      options.signal.throwIfAborted();
      const order: StudyOrder = {
        seed: options.seed * 1000 + 7_000_000 + kill,
        kind: 'ct',
        person: WANG,
        patientId: 'H1',
        date: '20260202',
        time: '080000',
        institution: 'Holder',
        description: 'fetch',
        slices: SLICES,
        size: 512,
        charset: 'utf8',
      };
      const study = studyUidOf(order);
      const expected = await send(holder, 'HOLDER', [order]);
      await advertised(hospitalClient(asker.apiUrl), study);
      if (kill === 0) await hospitalClient(asker.apiUrl).recordConsent({ personId: WANG.residentId });

      const victim = kill % 2 === 0 ? 'asker' : 'holder';
      const startedAt = proxy.bytesToDialer();
      const running = hospitalClient(asker.apiUrl)
        .fetchStudy({ personId: WANG.residentId, studyInstanceUid: study })
        .then(
          () => undefined,
          () => undefined,
        );
      const killAt = startedAt + expected * (0.1 + 0.75 * parts.random());
      for (let tries = 0; proxy.bytesToDialer() < killAt && tries < 6000; tries += 1) await wait(5);
      await (victim === 'asker' ? asker : holder).kill();
      proxy.shut();
      const firstPart = proxy.bytesToDialer() - startedAt;

      if (victim === 'asker') asker = await serveNode({ folder: askerFolder, env: askerEnv });
      else {
        await wait(1_500);
        holder = await startHolder();
      }
      const durable = await heldBytes(hospitalClient(asker.apiUrl), study);
      const secondAt = proxy.bytesToDialer();
      proxy.open();
      const whole = await untilWhole(hospitalClient(asker.apiUrl), study);
      await running;
      const secondPart = proxy.bytesToDialer() - secondAt;

      totals.fetches += 1;
      if (!whole) totals.studiesIncomplete += 1;
      else if (secondPart > 0 || durable.bytes >= expected) totals.fetchesResumed += 1;
      const allowed = (bytes: number): number => bytes * (1 + WIRE_OVERHEAD) + WIRE_OVERHEAD_BYTES;
      const twice = Math.max(0, secondPart - allowed(expected - durable.bytes));
      totals.verifiedSentAgain += Math.ceil(twice / (expected / SLICES));
      totals.bytesSentAgainMax = Math.max(totals.bytesSentAgainMax, Math.round(firstPart + secondPart - expected));
      options.log(
        `fetch ${kill + 1} of ${options.count}, ${victim} killed after ${mb(firstPart)} of ${mb(expected)}: ${durable.instances} images durable, ${mb(secondPart)} sent afterwards, ${whole ? 'whole' : 'INCOMPLETE'}`,
      );
    }
    return totals;
  } finally {
    await asker.stop();
    await holder.stop();
    await proxy.close();
  }
}

/** @returns data set bytes sent */
async function send(node: ServedNode, calledAeTitle: string, orders: readonly StudyOrder[]): Promise<number> {
  let bytes = 0;
  for (const order of orders) {
    const objects = [...generateStudy(order)];
    bytes += objects.reduce((total, object) => total + object.dataSet.length, 0);
    const statuses = await sendAll(
      { host: '127.0.0.1', port: node.ports['dimse'] ?? 0, callingAeTitle: 'CT', calledAeTitle: 'MERIDIAN' },
      objects,
    );
    if (statuses.some((status) => status !== 0)) throw new Error(`${calledAeTitle} refused a C-STORE`);
  }
  return bytes;
}

/** Until the asker finds the study at another hospital with all its images. */
async function advertised(client: HospitalClient, study: string): Promise<History> {
  for (let tries = 0; tries < 600; tries += 1) {
    const history = await client.history(WANG.residentId);
    if (
      history.studies.some(
        (one) => one.studyInstanceUid === study && one.instanceCount >= SLICES && one.holders.some((holder) => !holder.self),
      )
    )
      return history;
    await wait(100);
  }
  throw new Error('the study was not advertised within a minute');
}

/** What is verified and durable at the asker: the rows that its own QIDO-RS lists. */
async function heldBytes(client: HospitalClient, study: string): Promise<{ instances: number; bytes: number }> {
  const instances = (await client.instancesOf(study)).length;
  const one = [
    ...generateStudy({
      seed: 1,
      kind: 'ct',
      person: WANG,
      patientId: 'H1',
      date: '20260202',
      time: '080000',
      institution: 'Holder',
      description: 'fetch',
      slices: 1,
      size: 512,
      charset: 'utf8',
    }),
  ][0];
  return { instances, bytes: instances * (one?.dataSet.length ?? 0) };
}

/** Until the copy is whole; the fetch goes on by itself, or a person asks again as they would. */
async function untilWhole(client: HospitalClient, study: string): Promise<boolean> {
  for (let tries = 0; tries < 12; tries += 1) {
    const whole = await client.fetchStudy({ personId: WANG.residentId, studyInstanceUid: study }).then(
      () => true,
      () => false,
    );
    if (whole && (await heldBytes(client, study)).instances >= SLICES) return true;
    await wait(1_000);
  }
  return false;
}

function mb(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
