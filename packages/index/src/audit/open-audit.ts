/** The index's audit log. Everything below fails closed on it: no event on disk, no answer. */
export { openAuditLog as openIndexAudit, type AuditEvent, type AuditLog } from '@meridian/shared/audit-log';
