import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openServedIndex } from '../federation-processes.ts';
import { type Campaign, seededRandom } from './campaign.ts';
import { killDuringFetch } from './kill-fetch.ts';
import { killUnderStoreLoad } from './kill-store.ts';

/** Resent at a resume at most: one request window and one flush group, rounded up. */
const MOST_BYTES_SENT_AGAIN = 32 << 20;

/** Every port free, studies settled quickly: what a campaign's node is told. */
export const CAMPAIGN_NODE: Readonly<Record<string, string>> = {
  MERIDIAN_DIMSE_PORT: '0',
  MERIDIAN_HTTP_PORT: '0',
  MERIDIAN_PEER_PORT: '0',
  MERIDIAN_QUIET_TIME_MS: '1000',
  MERIDIAN_RELEASED_QUIET_TIME_MS: '200',
  MERIDIAN_DIMSE_ASSOCIATIONS_PER_ADDRESS: '50',
  MERIDIAN_MINIMUM_FREE_DISK: '0.001',
  MERIDIAN_LOG_LEVEL: 'warn',
};

/** Promises 1 and 10: what was acknowledged survives kill -9; an interrupted fetch goes on where it was. */
export const campaign: Campaign = {
  name: 'kill',
  describe: 'kill -9 of a node under C-STORE load, and of either end of a fetch',
  defaults: { count: 50, seed: 1 },
  plants: ['ack-before-write'],
  async run(options) {
    const folder = await mkdtemp(join(tmpdir(), 'meridian-kill-'));
    const random = seededRandom(options.seed);
    try {
      const store = await killUnderStoreLoad(options, { folder: join(folder, 'store'), env: CAMPAIGN_NODE, random });
      if (options.plant !== undefined) return verdict({ ...store });
      const index = await openServedIndex(join(folder, 'index'));
      try {
        const fetches = await killDuringFetch(
          { ...options, count: Math.max(2, Math.round(options.count / 5)) },
          { folder, index, env: CAMPAIGN_NODE, random },
        );
        return verdict({ ...store, ...fetches });
      } finally {
        await index.close();
      }
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
};

function verdict(figures: Readonly<Record<string, number>>): {
  ok: boolean;
  figures: Readonly<Record<string, number>>;
  problems: string[];
} {
  const problems: string[] = [];
  const least = (name: string, wanted: number): void => {
    if ((figures[name] ?? wanted) < wanted)
      problems.push(`${name} is ${figures[name]}, below the ${wanted} that make this campaign mean something`);
  };
  const none = (name: string): void => {
    if ((figures[name] ?? 0) > 0) problems.push(`${name} is ${figures[name]}, must be 0`);
  };
  least('fewestAcknowledgedInOneKill', 20);
  none('acknowledgedLost');
  none('halfRows');
  none('verifiedSentAgain');
  none('studiesIncomplete');
  if ((figures['bytesSentAgainMax'] ?? 0) > MOST_BYTES_SENT_AGAIN)
    problems.push(`bytesSentAgainMax is ${figures['bytesSentAgainMax']}, above ${MOST_BYTES_SENT_AGAIN}`);
  if (figures['fetches'] !== undefined && figures['fetchesResumed'] !== figures['fetches'])
    problems.push(`${figures['fetchesResumed']} of ${figures['fetches']} fetches went on`);
  return { ok: problems.length === 0, figures, problems };
}
