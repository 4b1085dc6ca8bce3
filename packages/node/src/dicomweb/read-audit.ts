import type { AuditLog } from '@meridian/shared/audit-log';
import type { Clock } from '@meridian/shared/platform/clock';
import type { DicomwebParts } from './parts.ts';

/** Reading the same study again within this time is the same view; an event for every picture would bury the rest. */
const ONE_READ_MS = 15 * 60_000;
/** Reads that are remembered; beyond, the oldest is forgotten and is written down again. */
const MAX_REMEMBERED = 10_000;

/**
 * Writes down who is given what before it leaves: VIEW for pictures and headers, EXPORT for whole objects, one event for
 * each study, kind and 15 minutes.
 * @param parts.subject pseudonym of the person who reads.
 * @returns a listener that rejects with RESOURCE_EXHAUSTED / AUDIT_UNWRITABLE where the log cannot be written: nothing is shown then.
 */
export function auditReads(parts: {
  readonly audit: Pick<AuditLog, 'append'>;
  readonly clock: Clock;
  readonly subject: string;
}): NonNullable<DicomwebParts['onRead']> {
  const reads = new Map<string, { readonly atMs: number; readonly written: Promise<void> }>();

  return ({ kind, transaction, studyInstanceUid, instances }) => {
    const key = `${kind} ${studyInstanceUid}`;
    const nowMs = parts.clock.monotonicMs();
    const before = reads.get(key);
    if (before !== undefined && nowMs - before.atMs < ONE_READ_MS) return before.written;
    const written = parts.audit.append({
      type: kind === 'view' ? 'VIEW' : 'EXPORT',
      study: studyInstanceUid,
      subject: parts.subject,
      instances,
      detail: { transaction },
    });
    const read = { atMs: nowMs, written };
    reads.delete(key);
    reads.set(key, read);
    const oldest = reads.keys().next().value;
    if (reads.size > MAX_REMEMBERED && oldest !== undefined) reads.delete(oldest);
    // What was not written down is tried anew by the next read.
    written.catch(() => {
      if (reads.get(key) === read) reads.delete(key);
    });
    return written;
  };
}
