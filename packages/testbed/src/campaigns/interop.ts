import { existsSync } from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { loadNodeConfig } from '@meridian/node/config';
import { dcmtk, isInstalled, openStoreScp, type StoreScp } from '@meridian/node/dimse/testing/dcmtk';
import { openNode, type MeridianNode } from '@meridian/node/node';
import { parseSeriesInstanceUid, parseStudyInstanceUid } from '@meridian/shared/identifiers';
import { seededRandom, type Campaign, type CampaignOptions, type CampaignResult } from './campaign.ts';
import { interopFiles, rounds, type InteropFile } from './interop-files.ts';
import { retrieve, sendFile, type Target } from './interop-send.ts';

/** Real files of many vendors beside the repository; see its README for where each comes from. */
const DATA_FOLDER = resolve(import.meta.dirname, '../../../../../shared/data');
const AE_TITLE = 'MERIDIAN';
/** Of a whole run; a shorter one must store all but the exceptions. */
const LEAST_ACCEPTED = 250;
const MOST_EXCEPTIONS = 3;

interface Exception {
  readonly file: string;
  readonly reason: string;
}

interface Tally {
  sent: number;
  accepted: number;
  returnedIdentical: number;
  readonly refused: Exception[];
  readonly different: Exception[];
  readonly by: Record<string, number>;
  readonly transferSyntaxes: Set<string>;
}

/** dcmtk as a stranger sends real files of many vendors; WADO-RS must give back the bytes that were on the wire. */
export const campaign: Campaign = {
  name: 'interop',
  describe: 'one trial is one real file: sent by dcmtk (STOW-RS where dcmtk cannot), stored, and returned byte for byte',
  defaults: { count: 1_000, seed: 1 },
  plants: ['flip-byte'],
  async run(options) {
    for (const program of ['echoscu', 'storescu', 'dcmsend', 'storescp', 'dcmdump']) {
      if (!isInstalled(program)) throw new Error(`${program} is not installed: this campaign needs dcmtk. On Debian: apt install dcmtk`);
    }
    if (!existsSync(DATA_FOLDER)) throw new Error(`There are no files to send: ${DATA_FOLDER} does not exist.`);
    const found = await interopFiles(DATA_FOLDER, options.signal);
    const files = sample(found.files, options);
    options.log(
      `${found.files.length} files count (${found.unreadable} that dcmdump cannot read and ${found.withoutUids} without UIDs do not); sending ${files.length}`,
    );
    const folder = await mkdtemp(join(tmpdir(), 'meridian-interop-'));
    const reference = await openStoreScp({ folder: join(folder, 'reference') });
    const tally: Tally = { sent: 0, accepted: 0, returnedIdentical: 0, refused: [], different: [], by: {}, transferSyntaxes: new Set() };
    const all = rounds(files);
    try {
      for (const [at, round] of all.entries()) {
        await runRound({
          round,
          folder: join(folder, `node-${at}`),
          reference,
          tally,
          options,
          plantAt: at === 0 && options.plant === 'flip-byte' ? 0 : -1,
        });
        options.log(
          `round ${at + 1} of ${all.length}: ${tally.accepted} of ${tally.sent} accepted, ${tally.returnedIdentical} returned identical`,
        );
      }
    } finally {
      await reference.close();
      await rm(folder, { recursive: true, force: true });
    }
    return result(tally, { ...found, asked: files.length, nodes: all.length });
  },
};

/** All files in order, or so many by the seed. */
function sample(files: readonly InteropFile[], { count, seed }: CampaignOptions): readonly InteropFile[] {
  if (count >= files.length) return files;
  const random = seededRandom(seed);
  const keyed = files.map((file) => ({ file, key: random() })).toSorted((a, b) => a.key - b.key);
  return keyed.slice(0, count).map(({ file }) => file);
}

/** One fresh node takes a round of files. */
async function runRound(parts: {
  round: readonly InteropFile[];
  folder: string;
  reference: StoreScp;
  tally: Tally;
  options: CampaignOptions;
  plantAt: number;
}): Promise<void> {
  const { round, reference, tally, options } = parts;
  const node = await openNode(loadNodeConfig({ folder: parts.folder, env: NODE_ENVIRONMENT }));
  try {
    const target: Target = { dimsePort: node.ports.dimse, aeTitle: AE_TITLE, dicomwebUrl: `http://127.0.0.1:${node.ports.http}/dicomweb` };
    const echo = await dcmtk('echoscu', ['-aec', AE_TITLE, '127.0.0.1', String(target.dimsePort)]);
    if (echo.exitCode !== 0) throw new Error(`echoscu got no answer: ${echo.output.slice(-300)}`);
    for (const [at, file] of round.entries()) {
      options.signal.throwIfAborted();
      await oneFile({
        file,
        target,
        reference,
        tally,
        signal: options.signal,
        afterStored: at === parts.plantAt ? () => flipStoredByte(node, file) : async () => undefined,
      });
    }
  } finally {
    await node.close();
  }
}

const NODE_ENVIRONMENT: Readonly<Record<string, string>> = {
  MERIDIAN_DIMSE_PORT: '0',
  MERIDIAN_HTTP_PORT: '0',
  MERIDIAN_PEER_PORT: '0',
  MERIDIAN_AE_TITLE: AE_TITLE,
  MERIDIAN_MINIMUM_FREE_DISK: '0.001',
  MERIDIAN_LOG_LEVEL: 'error',
};

async function oneFile(parts: {
  file: InteropFile;
  target: Target;
  reference: StoreScp;
  tally: Tally;
  signal: AbortSignal;
  afterStored: () => Promise<void>;
}): Promise<void> {
  const { file, target, reference, tally, signal } = parts;
  tally.sent += 1;
  const sent = await sendFile({ file, prefer: tally.sent % 2 === 0 ? 'dcmsend' : 'storescu', target, reference, signal });
  if (sent.refused !== undefined) {
    tally.refused.push({ file: file.name, reason: `${sent.by}: ${sent.refused}` });
    return;
  }
  tally.accepted += 1;
  tally.by[sent.by] = (tally.by[sent.by] ?? 0) + 1;
  tally.transferSyntaxes.add(sent.transferSyntaxUid);
  await parts.afterStored();
  const difference = await retrieve(file, target, signal).then(
    (returned) => {
      if (returned.transferSyntaxUid !== sent.transferSyntaxUid)
        return `came back in ${returned.transferSyntaxUid}, was sent in ${sent.transferSyntaxUid}`;
      return returned.dataSet.equals(sent.dataSet)
        ? undefined
        : `came back with other bytes (${returned.dataSet.length}; sent ${sent.dataSet.length})`;
    },
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );
  if (difference === undefined) tally.returnedIdentical += 1;
  else tally.different.push({ file: file.name, reason: `${sent.by}: ${difference}` });
}

/** The planted bug: one bit of an object on the node's disk turns. */
async function flipStoredByte(node: MeridianNode, file: InteropFile): Promise<void> {
  const row = (
    await node.store.studies.instancesOf(parseStudyInstanceUid(file.studyInstanceUid), parseSeriesInstanceUid(file.seriesInstanceUid))
  ).find((one) => one.sopInstanceUid === file.sopInstanceUid);
  if (row === undefined) throw new Error('the object to plant the bug in is not there');
  const handle = await open(row.path, 'r+');
  try {
    const byte = Buffer.alloc(1);
    const position = row.dataSetOffset + row.bytes - 1;
    await handle.read(byte, 0, 1, position);
    await handle.write(Buffer.of((byte[0] ?? 0) ^ 1), 0, 1, position);
  } finally {
    await handle.close();
  }
}

function result(tally: Tally, found: { asked: number; unreadable: number; withoutUids: number; nodes: number }): CampaignResult {
  const least = Math.min(LEAST_ACCEPTED, found.asked - MOST_EXCEPTIONS);
  const missed = tally.sent - tally.accepted;
  const problems = [
    ...(tally.accepted >= least && tally.accepted > 0 ? [] : [`${tally.accepted} files were accepted; at least ${least} must be.`]),
    ...(missed <= MOST_EXCEPTIONS ? [] : [`${missed} files were refused; at most ${MOST_EXCEPTIONS} may be.`]),
    ...tally.different.map(({ file, reason }) => `${file} ${reason}`),
  ];
  const figures = {
    sent: tally.sent,
    accepted: tally.accepted,
    refused: tally.refused,
    returnedIdentical: tally.returnedIdentical,
    different: tally.different,
    by: tally.by,
    transferSyntaxes: tally.transferSyntaxes.size,
    nodes: found.nodes,
    notCounted: { unreadableByDcmdump: found.unreadable, withoutUids: found.withoutUids },
  };
  return { ok: problems.length === 0, figures, problems };
}
