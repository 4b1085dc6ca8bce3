import type { AuditLog } from '@meridian/shared/audit-log';
import { openSqlite } from '@meridian/shared/database';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import type { Random } from '@meridian/shared/platform/random';
import { openIndexAudit } from './audit/open-audit.ts';
import { indexFiles, readSettings, type IndexSettings } from './config.ts';
import { openKeyFiles, readIfThere, type IndexKeys } from './key-files.ts';
import { manifestJobs } from './manifests/advertise.ts';
import { dropExpiredCertificates } from './registry/certificates.ts';
import { openHospitals, type Hospitals } from './registry/hospitals.ts';
import { openTrustKeeper, type TrustKeeper } from './registry/trust-keeper.ts';
import { indexMigrations, type IndexDatabase, type IndexTables } from './tables.ts';

/** What works without any listener: enough for the operator's commands on a stopped index. */
export interface IndexCore {
  readonly folder: string;
  readonly settings: IndexSettings;
  readonly keys: IndexKeys;
  readonly database: IndexDatabase;
  readonly audit: AuditLog;
  readonly keeper: TrustKeeper;
  readonly hospitals: Hospitals;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** The link that a hospital's IT pastes into `meridian join`. */
  joinLink(code: string, joinPort: number): string;
  close(): Promise<void>;
}

/** Ports that an earlier start took where the settings say 0. */
export interface KeptPorts {
  readonly join: number;
  readonly grpc: number;
}

/**
 * Opens the folder of an index: settings, keys, database, audit log, registry.
 * @throws MeshError FAILED_PRECONDITION / INDEX_NOT_INITIALISED | NODE_ALREADY_RUNNING and others of the parts
 */
export async function openIndexCore(parts: {
  readonly folder: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}): Promise<IndexCore> {
  const { folder, clock, random, log } = parts;
  const settings = await readSettings(folder);
  const keys = await openKeyFiles(folder, settings, { random, nowEpochMs: clock.now() });
  const files = indexFiles(folder);
  const database: IndexDatabase = await openSqlite<IndexTables>({ file: files.database, migrations: indexMigrations, job: manifestJobs });
  let audit: AuditLog | undefined;
  let keeper: TrustKeeper | undefined;
  try {
    audit = await openIndexAudit({ folder: files.audit, clock, random });
    keeper = await openTrustKeeper({ database, key: keys.signingKey, clock, log });
    await dropExpiredCertificates({ database, keeper }, clock.now());
  } catch (thrown) {
    keeper?.close();
    await audit?.close();
    await database.close();
    throw thrown;
  }
  const [openAudit, openKeeper] = [audit, keeper];
  const host = settings.host.includes(':') ? `[${settings.host}]` : settings.host;
  return {
    folder,
    settings,
    keys,
    database,
    audit,
    keeper,
    clock,
    random,
    log,
    hospitals: openHospitals({ database, keeper, audit, clock, random }),
    joinLink: (code, joinPort) => `https://${host}:${joinPort}#${code}.${keys.authority.spkiSha256.toString('hex')}`,
    close: async () => {
      openKeeper.close();
      await openAudit.close();
      await database.close();
    },
  };
}

/** Ports that the last start took, where there was one. */
export async function keptPorts(folder: string): Promise<KeptPorts | undefined> {
  const text = await readIfThere(indexFiles(folder).ports);
  return text === undefined ? undefined : (JSON.parse(text) as KeptPorts);
}
