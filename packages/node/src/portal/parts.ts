import type { Clock } from '@meridian/shared/platform/clock';
import type { Random } from '@meridian/shared/platform/random';
import type { Logger } from '@meridian/shared/log';
import type { TypedPersonId } from '@meridian/shared/identifiers';
import type { ConsentProvision, ConsentStatement } from '@meridian/shared/consent';
import type { ImportProgress, ImportResult } from '../store/import-result.ts';
import type { DoctorFacts } from './doctor.ts';
import type { Purpose, StorageUsage, TransferProgress, TransferView } from './views.ts';

/** What the history of a person needs from below. The answer is passed on as it is. */
export interface HistoryPort {
  patientHistory(request: { readonly personId: TypedPersonId; readonly purpose: Purpose; readonly subject: string }): Promise<object>;
}

/** What a copy from another hospital needs from below. */
export interface FetchPort {
  fetch(request: {
    readonly personId: TypedPersonId;
    readonly studyInstanceUid: string;
    readonly holderNode?: string;
    readonly patientId?: string;
    readonly subject: string;
    readonly purpose: Purpose;
    readonly signal: AbortSignal;
    readonly onProgress: (progress: TransferProgress) => void;
  }): Promise<{
    readonly instances: number;
    readonly bytes: number;
    readonly resumedInstances: number;
    readonly digestMismatches: number;
    readonly firstImageMs?: number | undefined;
  }>;
  /** Copies that a restart resumed, which nobody here started. */
  listTransfers?(): Promise<readonly TransferView[]>;
}

/** What the consent panel needs from below. */
export interface ConsentPort {
  record(request: {
    readonly personId: TypedPersonId;
    readonly provision: ConsentProvision;
    readonly validForMs: number;
    readonly clerk: string;
    readonly formHash?: string;
  }): Promise<ConsentStatement>;
  revoke(target: { readonly consentId: string } | { readonly personId: TypedPersonId }): Promise<unknown>;
  list(personId: TypedPersonId): Promise<readonly ConsentStatement[]>;
  /** Resolves when the index has what was recorded, or cannot be told for now. */
  settle?(): Promise<void>;
}

/** One object kept aside, as it is listed. No patient data. */
export interface QuarantineRow {
  readonly id: string;
  readonly sopInstanceUid: string;
  readonly studyInstanceUid?: string;
  readonly reason: string;
  readonly receivedAtEpochMs: number;
  readonly bytes: number;
}

/** Everything that the API stands on, each part as narrow as it is used. */
export interface PortalParts {
  readonly hospitalName: string;
  readonly nodeId?: string;
  readonly version: string;
  readonly aeTitle: string;
  readonly ports: () => Readonly<Record<string, number>>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly usage: () => Promise<StorageUsage>;
  readonly indexState?: () => { readonly state: 'connected' | 'unreachable'; readonly sinceEpochMs: number };
  readonly advertiseStatus?: () => { readonly lastSeq: number; readonly acknowledgedSeq: number; readonly pending: number };
  readonly hospitals: () => readonly { readonly nodeId: string; readonly name: string }[];
  readonly limitsReached?: () => readonly string[];
  readonly history: HistoryPort;
  readonly transfers?: FetchPort;
  readonly consent?: ConsentPort;
  /** `authority`, `ownIds`: whose patient ids the folder has; neither: nobody's here. */
  readonly importFolder: (
    folder: string,
    options: {
      readonly authority?: string;
      readonly ownIds?: boolean;
      readonly signal: AbortSignal;
      readonly onProgress: (progress: ImportProgress) => void;
    },
  ) => Promise<ImportResult>;
  readonly quarantine: () => Promise<readonly QuarantineRow[]>;
  readonly doctorFacts: () => Promise<DoctorFacts>;
  /** Folder of the built page; absent or empty: a plain page says how to build it. */
  readonly webFolder?: string;
}

/** Who asks, until people have accounts: one pseudonym for everybody who may reach this listener. */
export const LOCAL_SUBJECT = 'local-operator';
