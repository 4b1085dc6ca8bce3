import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import type { PeerHost } from '../peer/peer-host.ts';
import type { AuditSink, GrantJudge, ServedInstance, ServedManifests, ServeStore } from './ports.ts';

/** What serving needs. */
export interface ServeParts<Row extends ServedInstance = ServedInstance> {
  readonly peerHost: Pick<PeerHost, 'handle'>;
  readonly store: ServeStore<Row>;
  readonly advertise: ServedManifests;
  readonly consent: GrantJudge;
  readonly audit: AuditSink;
  readonly clock: Clock;
  readonly log: Logger;
  /** Transfers served at a time. */
  readonly limits?: { readonly maxServed?: number };
}
