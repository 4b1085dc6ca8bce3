import type { MeshError } from '@meridian/shared/errors';

/** How a command ended, for scripts. Printed in `meridian --help`. */
export const EXIT = { done: 0, failed: 1, usage: 2, unreachable: 3, partial: 4 } as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** What the person typed is wrong: the same command can never work. */
const USAGE_REASONS = /^(PERSON_ID_|UID_|CONFIG_|USAGE_|FOLDER_NOT_ABSOLUTE|REQUEST_INVALID|JOIN_LINK_INVALID)/;

/** The exit code of an error. */
export function exitCodeOf(error: MeshError): ExitCode {
  if (USAGE_REASONS.test(error.reason)) return EXIT.usage;
  return error.code === 'UNAVAILABLE' || error.code === 'DEADLINE_EXCEEDED' ? EXIT.unreachable : EXIT.failed;
}
