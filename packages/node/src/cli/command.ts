import type { Clock } from '@meridian/shared/platform/clock';
import type { NodeClient } from './node-client.ts';
import type { ExitCode } from './exit-codes.ts';
import type { Terminal } from './terminal.ts';

/** What every command stands on. */
export interface CommandParts {
  readonly terminal: Terminal;
  /** The data folder, whole path. */
  readonly folder: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  /** Aborts on Ctrl-C. */
  readonly signal: AbortSignal;
  /** @throws MeshError UNAVAILABLE NODE_NOT_RUNNING */
  readonly connect: () => Promise<NodeClient>;
}

/** How a command ended; `result` is what --json prints. */
export interface CommandOutcome {
  readonly exitCode: ExitCode;
  readonly result: object;
}
