import type { NodeId, TypedPersonId } from '@meridian/shared/identifiers';
import type { LockReason, StudyState } from './schema.ts';

/** A patient as one authority knows it; equal ids of two authorities are two patients. */
export interface PatientRow {
  readonly pk: number;
  readonly assigningAuthority: string;
  /** Empty where the data sets have none. */
  readonly patientId: string;
  readonly name: { readonly alphabetic: string; readonly ideographic: string; readonly phonetic: string };
  /** DA, or ''. */
  readonly birthDate: string;
  readonly sex: string;
}

/** A study; texts are '' where absent, DA and TM as written. */
export interface StudyRow {
  readonly studyInstanceUid: string;
  readonly state: StudyState;
  /** Of the manifest that is, or next will be, made. */
  readonly version: number;
  readonly advertisedVersion: number;
  readonly patient: PatientRow;
  readonly personIds: readonly TypedPersonId[];
  readonly studyDate: string;
  readonly studyTime: string;
  readonly timezoneOffset: string;
  readonly accessionNumber: string;
  readonly studyDescription: string;
  readonly referringPhysicianName: string;
  readonly studyId: string;
  readonly modalities: readonly string[];
  readonly seriesCount: number;
  readonly instanceCount: number;
  readonly bytes: number;
  readonly firstReceivedAt: number;
  readonly lastReceivedAt: number;
  /** Nothing more is expected: it is quiet or, of a copy, every instance of the manifest is here. */
  readonly complete: boolean;
  /** Of a study that came from a peer. */
  readonly copyOf?: { readonly holderNode: NodeId; readonly manifestVersion: number };
  /** The local patient a copy was fetched for. */
  readonly linkedPatient?: PatientRow;
  /** The consent under which the copy came was withdrawn or has run out: it may not be read. */
  readonly locked: boolean;
  /** Of a locked copy. */
  readonly lockReason?: LockReason;
}

/** A series with its study's UID. */
export interface SeriesRow {
  readonly seriesInstanceUid: string;
  readonly studyInstanceUid: string;
  readonly modality: string;
  readonly seriesNumber?: number;
  readonly seriesDescription: string;
  readonly bodyPartExamined: string;
  readonly laterality: string;
  readonly instanceCount: number;
  readonly bytes: number;
}

/** An instance. `bytes` and digests are of the data set. */
export interface InstanceRow {
  readonly sopInstanceUid: string;
  readonly sopClassUid: string;
  readonly seriesInstanceUid: string;
  readonly studyInstanceUid: string;
  readonly instanceNumber?: number;
  readonly transferSyntaxUid: string;
  readonly bytes: number;
  readonly sha256: Buffer;
  readonly pixelSha256?: Buffer;
  readonly chunkSha256?: Buffer;
  readonly numberOfFrames: number;
  readonly rows?: number;
  readonly columns?: number;
  /** Where the data set begins in the file. */
  readonly dataSetOffset: number;
  /** Absolute; for this room only. */
  readonly path: string;
  readonly receivedAt: number;
}

/** Adds a property only where there is a value, as exact optional properties ask. */
export function optional<Key extends string, Value>(key: Key, value: Value | null | undefined): { [K in Key]?: Value } {
  return (value === null || value === undefined ? {} : { [key]: value }) as { [K in Key]?: Value };
}
