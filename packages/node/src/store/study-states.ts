// Runs in the writer thread.
import type { JobDatabase } from '@meridian/shared/database';
import { addChange } from './commit-instances.ts';

interface StudyRow {
  pk: number;
  state: string;
  version: number;
  arriving: number;
  instance_count: number;
}

/**
 * Closes the version that was arriving (`settle`), or announces it unfinished and opens the next one (`incomplete`).
 * @returns whether there was anything to close.
 */
export function advanceStudy(
  database: JobDatabase,
  step: { studyInstanceUid: string; how: 'settle' | 'incomplete'; nowEpochMs: number },
): boolean {
  const study = studyRow(database, step.studyInstanceUid);
  if (study === undefined || study.arriving === 0) return false;
  const { version } = study;
  const { studyInstanceUid, nowEpochMs } = step;
  const detail = { instances: study.instance_count };
  if (step.how === 'incomplete') {
    database.prepare('UPDATE study SET version = version + 1 WHERE pk = ?').run(study.pk);
    addChange(database, { kind: 'study-incomplete', studyInstanceUid, version, nowEpochMs, detail });
    return true;
  }
  const isFirst = study.state === 'receiving';
  database.prepare('UPDATE study SET arriving = 0, state = ? WHERE pk = ?').run(isFirst ? 'settled' : 'amended', study.pk);
  addChange(database, { kind: isFirst ? 'study-settled' : 'study-amended', studyInstanceUid, version, nowEpochMs, detail });
  return true;
}

/** Notes that the index acknowledged a version; the study counts as advertised when that is the newest whole one. */
export function markAdvertised(database: JobDatabase, step: { studyInstanceUid: string; version: number }): void {
  database
    .prepare('UPDATE study SET advertised_version = max(advertised_version, ?) WHERE study_instance_uid = ?')
    .run(step.version, step.studyInstanceUid);
  database
    .prepare(`UPDATE study SET state = 'advertised' WHERE study_instance_uid = ? AND arriving = 0 AND version = ?`)
    .run(step.studyInstanceUid, step.version);
}

/** The same for many, in one transaction: the index acknowledges thousands a second after an outage. */
export function markAllAdvertised(database: JobDatabase, steps: readonly { studyInstanceUid: string; version: number }[]): void {
  for (const step of steps) markAdvertised(database, step);
}

function studyRow(database: JobDatabase, studyInstanceUid: string): StudyRow | undefined {
  return database
    .prepare('SELECT pk, state, version, arriving, instance_count FROM study WHERE study_instance_uid = ?')
    .get(studyInstanceUid) as StudyRow | undefined;
}
