import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import type { Random } from '@meridian/shared/platform/random';
import type { AuditLog } from '../audit/node-audit.ts';
import type { Federation } from '../federation/federation.ts';
import type { Store } from '../store/store.ts';

/** What the advertise room works with. */
export interface AdvertiseParts {
  /** Data folder of the node; the room keeps `advertise.sqlite` there. */
  readonly folder: string;
  readonly store: Pick<Store, 'studies' | 'changes' | 'database' | 'settle'>;
  readonly federation: Federation;
  readonly audit: AuditLog;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** Bugs to plant, so that a campaign can prove that it would find them. */
  readonly faults?: { readonly dropOutboxRow?: boolean };
}
