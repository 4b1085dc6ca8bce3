import type { SignedObject } from '@meridian/shared/generated/meridian/v1/common';
import type { NodeId } from '@meridian/shared/identifiers';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import type { TrustNews, TrustView } from '@meridian/shared/trust-list';
import type { PeerHost } from '../peer/peer-host.ts';

/** What the control protocol needs. */
export interface MeshParts {
  readonly peerHost: Pick<PeerHost, 'handle' | 'dial'>;
  readonly federation: {
    trust(): Pick<TrustView, 'seq' | 'head' | 'segments'> | undefined;
    /** Takes a list from another node after its signatures hold. @returns whether it was newer. */
    offerTrust(news: TrustNews): Promise<boolean>;
  };
  /** A consent statement that another node delivers; throws a MeshError to refuse it. */
  readonly onConsent: (compact: string, fromNode: NodeId) => Promise<unknown>;
  readonly onRecall: (manifest: SignedObject, fromNode: NodeId) => Promise<unknown>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly softwareVersion?: string;
}
