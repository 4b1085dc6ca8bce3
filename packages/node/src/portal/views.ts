import type { Purpose } from '@meridian/shared/consent';

// What the API answers, as JSON. The page and the command line read the same shapes; docs: /api/v1/openapi.json.

export type { Purpose } from '@meridian/shared/consent';

/** Purposes a person can ask or consent for here (HL7 v3 ActReason); break-glass has a door of its own. */
export const PURPOSES = ['TREAT', 'ETREAT', 'PATRQT', 'HOPERAT'] as const satisfies readonly Purpose[];

/** One difference between the local patient and the fetched one, shown before anything is opened. */
export interface MismatchView {
  readonly field: string;
  readonly local: string;
  readonly fetched: string;
}

/** How far a copy is. Bytes are data set bytes. */
export interface TransferProgress {
  readonly instancesVerified: number;
  readonly instancesTotal: number;
  readonly bytesVerified: number;
  readonly bytesTotal: number;
  readonly firstImageMs?: number | undefined;
}

/** Why something stopped: a closed code, a stable reason, a sentence without patient data. */
export interface FailureView {
  readonly code: string;
  readonly reason: string;
  readonly message: string;
}

/** One copy from another hospital, running or finished. No person id is kept here. */
export interface TransferView {
  readonly id: string;
  readonly studyInstanceUid: string;
  readonly holderNode?: string;
  readonly holderName?: string;
  readonly state: 'queued' | 'running' | 'done' | 'failed' | 'cancelled';
  readonly progress?: TransferProgress;
  readonly failure?: FailureView;
  readonly startedAtEpochMs: number;
  readonly finishedAtEpochMs?: number;
  readonly resumedInstances?: number;
  readonly digestMismatches?: number;
}

/** A consent as it stands now: the newest statement of one consent id, with the time taken into account. */
export interface ConsentView {
  readonly consentId: string;
  readonly state: 'active' | 'not-yet' | 'expired' | 'revoked' | 'refused';
  readonly grantee: { readonly kind: 'hospital'; readonly nodeId: string; readonly name: string } | { readonly kind: 'any-treating' };
  readonly purposes: readonly string[];
  readonly modalities?: readonly string[];
  readonly studyDateFrom?: string;
  readonly studyDateTo?: string;
  readonly studyInstanceUids?: readonly string[];
  readonly holders?: readonly { readonly nodeId: string; readonly name: string }[];
  readonly recordedBy: { readonly nodeId: string; readonly name: string; readonly clerk: string };
  readonly recordedAtEpochMs: number;
  readonly validFromEpochMs: number;
  readonly validUntilEpochMs: number;
}

/** Who this node is and how it stands. */
export interface NodeView {
  readonly nodeId?: string;
  readonly hospitalName: string;
  readonly joined: boolean;
  readonly version: string;
  readonly runtime: string;
  readonly contract: string;
  readonly aeTitle: string;
  readonly ports: Readonly<Record<string, number>>;
  readonly index?: { readonly state: 'connected' | 'unreachable'; readonly sinceEpochMs: number };
  readonly storage: StorageUsage;
  readonly advertise?: { readonly lastSeq: number; readonly acknowledgedSeq: number; readonly pending: number };
  readonly hospitals: readonly { readonly nodeId: string; readonly name: string; readonly self: boolean }[];
  readonly limitsReached: readonly string[];
  readonly nowEpochMs: number;
}

/** What lies on disk. Bytes are data set bytes; freeBytes is of the file system. */
export interface StorageUsage {
  readonly studies: number;
  readonly instances: number;
  readonly bytes: number;
  readonly freeBytes: number;
  readonly quarantined: number;
  readonly readOnly: boolean;
}
