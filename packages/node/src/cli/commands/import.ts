import { resolve } from 'node:path';
import type { ImportProgress, ImportResult } from '../../store/import-result.ts';
import { MeshError } from '@meridian/shared/errors';
import type { CommandOutcome, CommandParts } from '../command.ts';
import { EXIT } from '../exit-codes.ts';

/** How many refusals are shown on a screen; --json has them all. */
const SHOWN = 20;

/** Whose patient ids the folder has; neither: this import's own. */
export interface ImportOptions {
  readonly authority?: string;
  readonly ownIds?: boolean;
}

/** `meridian import <folder>`: stores every DICOM file under a folder of the node's machine. */
export async function importCommand(
  { terminal, connect, signal }: CommandParts,
  folder: string,
  { authority, ownIds }: ImportOptions = {},
): Promise<CommandOutcome> {
  const { say } = terminal;
  if (authority !== undefined && ownIds === true) throw new MeshError('INVALID_ARGUMENT', 'USAGE_IMPORT', say('usageImport'));
  const client = await connect();
  const onProgress = (progress: unknown): void => terminal.progress(say('importing', { ...(progress as ImportProgress) }));
  const result = (await client.stream('/import', {
    body: { folder: resolve(folder), ...(authority === undefined ? {} : { authority }), ...(ownIds === true ? { ownIds } : {}) },
    signal,
    onProgress,
  })) as ImportResult;
  const skipped = Object.values(result.skipped).reduce((sum, count) => sum + count, 0);
  terminal.print(
    say('imported', {
      folder,
      stored: result.stored,
      duplicates: result.duplicates,
      quarantined: result.quarantined,
      refused: result.refusedTotal,
      skipped,
      elapsed: Math.round(result.elapsedMs / 100) / 10,
    }),
  );
  terminal.print(
    say(ownIds === true ? 'importedOwn' : authority === undefined ? 'importedApart' : 'importedNamed', {
      authority: result.assigningAuthority,
    }),
  );
  if (skipped > 0)
    terminal.print(
      `  ${Object.entries(result.skipped)
        .map(([reason, count]) => `${reason} ${count}`)
        .join(', ')}`,
    );
  if (result.refused.length > 0) terminal.print(say('importRefused'));
  for (const { file, reason, message } of result.refused.slice(0, SHOWN)) terminal.print(`  ${file}: ${message} (${reason})`);
  if (result.refusedTotal > SHOWN) terminal.print(`  … ${result.refusedTotal - SHOWN}`);
  if (result.cancelled) terminal.note(say('importCancelled'));
  const whole = result.refusedTotal === 0 && !result.cancelled;
  const any = result.stored + result.duplicates + result.quarantined > 0;
  return { exitCode: whole ? EXIT.done : any ? EXIT.partial : EXIT.failed, result: { ...result } };
}
