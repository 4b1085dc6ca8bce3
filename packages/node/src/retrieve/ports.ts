import type { ConsentStatement } from '@meridian/shared/consent';
import type { PatientKey } from '@meridian/shared/generated/meridian/v1/common';
import type { TrustEntry } from '@meridian/shared/generated/meridian/v1/trust';
import type { NodeId, TypedPersonId } from '@meridian/shared/identifiers';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import type { Random } from '@meridian/shared/platform/random';
import type { TrustView } from '@meridian/shared/trust-list';
import type { IndexChannel } from '../federation/federation.ts';
import type { PeerHost } from '../peer/peer-host.ts';
import type { PatientRow, StudyRow } from '../store/rows.ts';
import type { LockReason } from '../store/schema.ts';
import type { AuditSink, FetchStore } from '../transfer/ports.ts';

/** One difference between the local patient and the fetched one, shown before anything is opened. */
export interface Mismatch {
  readonly field: string;
  readonly local: string;
  readonly fetched: string;
}

/** What retrieving needs of the store. */
export interface RetrieveStore extends FetchStore {
  readonly studies: {
    studiesOfPerson(id: TypedPersonId): Promise<readonly StudyRow[]>;
    study(studyInstanceUid: string): Promise<StudyRow | undefined>;
  };
  readonly fetched: FetchStore['fetched'] & {
    progress(
      studyInstanceUid: string,
    ): Promise<
      { readonly expected: number; readonly verified: number; readonly bytesExpected: number; readonly bytesVerified: number } | undefined
    >;
    lock(consentHash: string, reason?: LockReason): Promise<unknown>;
    lockExpired(): Promise<readonly string[]>;
    rest(
      studyInstanceUid: string,
      basis: { readonly consentHash: string; readonly consentId: string; readonly validUntilEpochMs: number },
    ): Promise<void>;
    list(): Promise<
      readonly {
        readonly studyInstanceUid: string;
        readonly manifest: Buffer;
        readonly consentHash: string;
        readonly validUntilEpochMs?: number;
        readonly locked: boolean;
      }[]
    >;
  };
}

/** What retrieving needs of the patients room. */
export interface RetrievePatients {
  localPatientFor(personId: TypedPersonId, options: { readonly patientId?: string }): Promise<PatientRow>;
  compareDemographics(local: PatientRow, fetched: PatientRow): readonly Mismatch[];
}

/** What retrieving needs of the federation. */
export interface RetrieveFederation {
  readonly nodeId: NodeId;
  readonly hospitalName: string;
  trust(): TrustView | undefined;
  entryOf(nodeId: NodeId): TrustEntry | undefined;
  readonly channel: Pick<IndexChannel, 'call'>;
  patientKeys(ids: readonly TypedPersonId[], signal?: AbortSignal): Promise<PatientKey[]>;
}

/** What retrieving needs of the consent room. */
export interface RetrieveConsent {
  /** Keeps a statement after its writer's signature was checked. */
  receive(compact: string): Promise<ConsentStatement>;
  knownFor(patientKeys: readonly PatientKey[]): Promise<readonly ConsentStatement[]>;
  /** The statement with this hash, and all that are known of its consent and patient. Asks nobody. */
  related(hash: string): Promise<readonly ConsentStatement[]>;
  onRevoked(listener: (statement: ConsentStatement) => void): () => void;
}

/** The parts of the room. Without a federation only what is held here is found. */
export interface RetrieveParts {
  /** Data folder of the node; the room keeps `transfers.sqlite` there. */
  readonly folder: string;
  readonly hospitalName: string;
  readonly store: RetrieveStore;
  readonly patients: RetrievePatients;
  readonly mesh?:
    | { readonly federation: RetrieveFederation; readonly consent: RetrieveConsent; readonly peerHost: Pick<PeerHost, 'dial'> }
    | undefined;
  readonly audit: AuditSink;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

/** The parts of a node that has joined. */
export type JoinedParts = RetrieveParts & { readonly mesh: NonNullable<RetrieveParts['mesh']> };
