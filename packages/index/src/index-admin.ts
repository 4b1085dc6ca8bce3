import { CoverageState } from '@meridian/shared/generated/meridian/v1/query';
import { MeshError } from '@meridian/shared/errors';
import type { NodeId } from '@meridian/shared/identifiers';
import type { IndexCore } from './index-core.ts';
import { feedStates } from './manifests/feeds.ts';
import { coverageOf } from './query/coverage.ts';
import type { HospitalStatus } from './registry/tables.ts';

/** How the index is. Times are RFC 3339. */
export interface IndexStatus {
  readonly name: string;
  readonly running: boolean;
  readonly joinPort: number;
  readonly grpcPort: number;
  readonly trustListSeq: number;
  readonly studies: number;
  readonly consents: number;
  readonly grants: number;
  readonly hospitals: readonly HospitalStatusLine[];
}

/** How one hospital is. */
export interface HospitalStatusLine {
  readonly nodeId: string;
  readonly name: string;
  readonly segment: string;
  readonly status: HospitalStatus;
  /** Whether what the index shows of it is up to date. */
  readonly coverage: 'current' | 'stale' | 'never heard' | 'excluded' | 'not joined';
  readonly connected: boolean;
  readonly pending: number;
  readonly certifiedUntil: string | undefined;
}

/** A new or repeated invitation. */
export interface Invitation {
  readonly nodeId: NodeId;
  readonly joinLink: string;
  readonly expiresAt: string;
}

/** What the operator's commands do, against a running or a stopped index alike. */
export interface IndexAdmin {
  readonly addHospital: (hospital: {
    readonly name: string;
    readonly segment?: string;
    readonly backfillBudget?: number;
  }) => Promise<Invitation>;
  /** A new code for a hospital with new hardware, lost keys or an unused old code. */
  readonly inviteAgain: (nodeId: string) => Promise<Invitation>;
  setStatus(nodeId: string, status: 'active' | 'suspended' | 'revoked'): Promise<void>;
  readonly status: () => Promise<IndexStatus>;
}

const COVERAGE_WORDS: Readonly<Partial<Record<CoverageState, HospitalStatusLine['coverage']>>> = {
  [CoverageState.COVERAGE_STATE_CURRENT]: 'current',
  [CoverageState.COVERAGE_STATE_STALE]: 'stale',
  [CoverageState.COVERAGE_STATE_NEVER_HEARD]: 'never heard',
  [CoverageState.COVERAGE_STATE_EXCLUDED]: 'excluded',
};

/** The operator's commands over an open core. */
export function openIndexAdmin(
  core: IndexCore,
  live: {
    readonly running: boolean;
    readonly ports: { readonly join: number; readonly grpc: number };
    readonly connected: () => readonly NodeId[];
  },
): IndexAdmin {
  const { hospitals, keeper, database, clock } = core;
  const invitationFor = async (hospital: Parameters<typeof hospitals.invite>[0]): Promise<Invitation> => {
    if (live.ports.join === 0)
      throw new MeshError(
        'FAILED_PRECONDITION',
        'PORT_NOT_CHOSEN',
        'The join port is chosen at the first start. Start the index with `meridian-index serve`, then add hospitals.',
      );
    const { nodeId, code, expiresAtEpochMs } = await hospitals.invite(hospital);
    return { nodeId, joinLink: core.joinLink(code, live.ports.join), expiresAt: new Date(expiresAtEpochMs).toISOString() };
  };
  return {
    addHospital: invitationFor,
    inviteAgain: (nodeId) => invitationFor({ nodeId }),
    setStatus: (nodeId, status) => hospitals.setStatus(nodeId, status),
    status: async () => {
      const count = async (table: 'study' | 'consent' | 'grant_issued'): Promise<number> =>
        Number(
          (
            await database.read
              .selectFrom(table)
              .select((builder) => builder.fn.countAll().as('rows'))
              .executeTakeFirst()
          )?.rows ?? 0,
        );
      const coverage = new Map(
        coverageOf(keeper.view().entries.values(), await feedStates(database.read), clock.now()).map((node) => [node.nodeId, node]),
      );
      const connected = live.connected();
      const lines = (await hospitals.list()).map((hospital): HospitalStatusLine => {
        const node = coverage.get(hospital.nodeId);
        return {
          nodeId: hospital.nodeId,
          name: hospital.name,
          segment: hospital.segment,
          status: hospital.status,
          coverage: node === undefined ? 'not joined' : (COVERAGE_WORDS[node.state] ?? 'stale'),
          connected: connected.includes(hospital.nodeId),
          pending: node?.pending ?? 0,
          certifiedUntil: hospital.certifiedUntilEpochMs === undefined ? undefined : new Date(hospital.certifiedUntilEpochMs).toISOString(),
        };
      });
      return {
        name: core.settings.name,
        running: live.running,
        joinPort: live.ports.join,
        grpcPort: live.ports.grpc,
        trustListSeq: keeper.view().seq,
        studies: await count('study'),
        consents: await count('consent'),
        grants: await count('grant_issued'),
        hospitals: lines,
      };
    },
  };
}
