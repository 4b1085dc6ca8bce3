import { join } from 'node:path';
import { openAuditLog, type AuditLog } from '@meridian/shared/audit-log';
import type { Clock } from '@meridian/shared/platform/clock';
import type { Random } from '@meridian/shared/platform/random';

export type { AuditEvent, AuditLog, AuditRecord } from '@meridian/shared/audit-log';

/**
 * The node's audit log, in `audit/` of its data folder. Rooms append before they release, grant or show, and stop where
 * that fails.
 * @param parts.folder data folder of the node.
 */
export function openNodeAudit(parts: { readonly folder: string; readonly clock: Clock; readonly random: Random }): Promise<AuditLog> {
  return openAuditLog({ ...parts, folder: join(parts.folder, 'audit') });
}
