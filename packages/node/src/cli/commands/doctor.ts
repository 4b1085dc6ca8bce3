import { statfs } from 'node:fs/promises';
import { MeshError } from '@meridian/shared/errors';
import { loadNodeConfig } from '../../config.ts';
import { isEnrolled } from '../../federation/identity-files.ts';
import { adviceOf, type DoctorAdvice, type DoctorFacts } from '../../portal/doctor.ts';
import { portAnswers } from '../../portal/probe.ts';
import type { CommandOutcome, CommandParts } from '../command.ts';
import { EXIT } from '../exit-codes.ts';

const MARK = { ok: '✓', warning: '!', problem: '✗', unknown: '?' } as const;

/** `meridian doctor`: what is wrong and what to do; looks at this machine alone when the node is down. */
export async function doctor(parts: CommandParts): Promise<CommandOutcome> {
  const { terminal } = parts;
  const advice = await adviceOfNode(parts);
  terminal.print(advice.verdict);
  const unknown = advice.checks.filter((check) => check.state === 'unknown');
  for (const check of advice.checks.filter((each) => each.state !== 'unknown')) {
    terminal.print(`${MARK[check.state]} ${check.title}: ${check.says}`);
    if (check.todo !== undefined) terminal.print(`    → ${check.todo}`);
  }
  if (unknown.length > 0)
    terminal.print(`${MARK.unknown} ${terminal.say('notChecked', { names: unknown.map((check) => check.title).join(', ') })}`);
  return { exitCode: advice.state === 'problem' ? EXIT.failed : EXIT.done, result: { ...advice } };
}

async function adviceOfNode(parts: CommandParts): Promise<DoctorAdvice> {
  try {
    return (await (await parts.connect()).get('/doctor')) as DoctorAdvice;
  } catch (thrown) {
    if (!(thrown instanceof MeshError && thrown.code === 'UNAVAILABLE')) throw thrown;
    return adviceOf(await localFacts(parts), parts.terminal.language);
  }
}

/** What can be told without the node. */
async function localFacts({ folder, env, clock }: CommandParts): Promise<DoctorFacts> {
  const { dimse } = loadNodeConfig({ folder, env });
  const space = await statfs(folder).catch(() => undefined);
  return {
    nowEpochMs: clock.now(),
    running: false,
    joined: isEnrolled(folder),
    ...(space === undefined
      ? {}
      : { disk: { freeBytes: space.bavail * space.bsize, totalBytes: space.blocks * space.bsize, readOnly: false } }),
    ...(dimse.port === 0
      ? {}
      : {
          dimse: {
            host: dimse.host,
            port: dimse.port,
            answering: await portAnswers(dimse.host === '0.0.0.0' ? '127.0.0.1' : dimse.host, dimse.port),
          },
        }),
  };
}
