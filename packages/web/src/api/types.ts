/** What the node's API answers, as far as the page reads it. @see /api/v1/openapi.json */

export type Purpose = 'TREAT' | 'ETREAT' | 'PATRQT' | 'HOPERAT';

export interface Hospital {
  readonly nodeId: string;
  readonly name: string;
}

export interface NodeView {
  readonly nodeId?: string;
  readonly hospitalName: string;
  readonly joined: boolean;
  readonly version: string;
  readonly aeTitle: string;
  readonly ports: Readonly<Record<string, number>>;
  readonly index?: { readonly state: 'connected' | 'unreachable'; readonly sinceEpochMs: number };
  readonly storage: {
    readonly studies: number;
    readonly instances: number;
    readonly bytes: number;
    readonly freeBytes: number;
    readonly quarantined: number;
    readonly readOnly: boolean;
  };
  readonly hospitals: readonly (Hospital & { readonly self: boolean })[];
}

export interface Mismatch {
  readonly field: string;
  readonly local: string;
  readonly fetched: string;
}

export interface HistoryStudy {
  readonly studyInstanceUid: string;
  readonly studyDate?: string;
  readonly studyTime?: string;
  readonly modalities: readonly string[];
  readonly bodyParts?: readonly string[];
  readonly description?: string;
  readonly instanceCount: number;
  readonly bytes: number;
  readonly holders: readonly (Hospital & { readonly self: boolean; readonly version?: number; readonly receivedAt?: number | string })[];
  readonly held: 'local' | 'copy' | 'partial' | 'no';
  /** A copy that is kept and may not be opened. */
  readonly locked?: boolean;
  readonly consent: 'allowed' | 'refused' | 'own';
  readonly consentReason?: string;
  /** Another hospital holds other images under the same Study Instance UID. */
  readonly differs?: boolean;
  readonly mismatch?: readonly Mismatch[];
}

export interface CoverageNode extends Hospital {
  readonly state: string;
  readonly asOfEpochMs?: number;
  readonly pending?: number;
}

export interface Coverage {
  readonly asked: number;
  readonly answered: number;
  readonly notAsked: number;
  readonly nodes: readonly CoverageNode[];
  readonly indexReachable: boolean;
  readonly answeredAtEpochMs: number;
}

export interface HistoryView {
  /** Masked person id. */
  readonly person: string;
  readonly studies: readonly HistoryStudy[];
  readonly coverage: Coverage;
}

export interface TransferView {
  readonly id: string;
  readonly studyInstanceUid: string;
  readonly holderNode?: string;
  readonly holderName?: string;
  readonly state: 'queued' | 'running' | 'done' | 'failed' | 'cancelled';
  readonly progress?: {
    readonly instancesVerified: number;
    readonly instancesTotal: number;
    readonly bytesVerified: number;
    readonly bytesTotal: number;
  };
  readonly failure?: { readonly code: string; readonly reason: string; readonly message: string };
}

export interface ConsentView {
  readonly consentId: string;
  readonly state: 'active' | 'not-yet' | 'expired' | 'revoked' | 'refused';
  readonly grantee: ({ readonly kind: 'hospital' } & Hospital) | { readonly kind: 'any-treating' };
  readonly purposes: readonly string[];
  readonly modalities?: readonly string[];
  readonly recordedBy: Hospital & { readonly clerk: string };
  readonly recordedAtEpochMs: number;
  readonly validUntilEpochMs: number;
}

export interface ConsentRequest {
  readonly personId: string;
  readonly grantee: { readonly kind: 'this-hospital' | 'any-treating' };
  readonly purposes: readonly Purpose[];
  readonly modalities?: readonly string[];
  readonly validForMs: number;
  readonly clerk: string;
}
