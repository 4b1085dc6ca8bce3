import type { TypedPersonId } from '@meridian/shared/identifiers';
import { firstString, type DicomJson } from '../dicom/json.ts';
import type { DicomIdentity } from '../dicom/identity.ts';
import type { IngestSource } from './ingest.ts';
import { personIdsOf } from './person-ids.ts';
import type { PatientConflict, QuarantineReason } from './schema.ts';
import type { WholeFile } from './whole-file.ts';

/** Begins the assigning authority of a folder's patient ids where nobody said whose they are. */
export const IMPORT_AUTHORITY_PREFIX = 'import/';

/** One received instance on its way into the tables. It crosses a thread boundary: plain values only. */
export interface CommitRecord {
  readonly identity: DicomIdentity;
  readonly laterality: string;
  readonly assigningAuthority: string;
  /** Of the source's own ids where the object names no issuer. */
  readonly sourceAuthority: string;
  readonly personIds: readonly TypedPersonId[];
  /** DICOM JSON text. */
  readonly header: string;
  readonly transferSyntaxUid: string;
  readonly bytes: number;
  readonly sha256: Uint8Array;
  readonly pixelSha256: Uint8Array | null;
  readonly chunkSha256: Uint8Array | null;
  readonly dataSetOffset: number;
  readonly blob: string;
  /** Where blobs lie on this machine; null: elsewhere. */
  readonly blobFolder: string | null;
  /** To be written and flushed before the row; null: it is durable already. */
  readonly file: WholeFile | null;
  readonly door: IngestSource['door'];
  readonly callingAeTitle: string;
  readonly address: string;
  readonly holderNode: string | null;
  readonly manifestSha256: Uint8Array | null;
  readonly jti: string | null;
  readonly consentHash: string | null;
}

/** What became of a record. `keepBlob` false: its file says nothing new and goes. */
export interface CommitResult {
  /** `refused`: a peer's instance of a study that this hospital acquired itself. */
  readonly outcome: 'stored' | 'duplicate' | 'quarantined' | 'refused';
  readonly reason?: QuarantineReason;
  /** Why the study stands under a patient row of its own. */
  readonly patientConflict?: PatientConflict;
  readonly keepBlob: boolean;
  /** The file that was gone or short; this record's has taken its place. */
  readonly replacedBlob?: string;
}

/** What the disk and the digests know of an instance. */
export interface StoredBytes {
  readonly bytes: number;
  readonly sha256: Buffer;
  readonly pixelSha256: Buffer | undefined;
  readonly chunkSha256: Buffer | undefined;
  readonly dataSetOffset: number;
  readonly blob: string;
  readonly blobFolder: string | undefined;
  readonly file: WholeFile | undefined;
}

/** Puts together what the tables need of an instance. @param header.text the data set as JSON */
export function commitRecord(
  source: IngestSource,
  identity: DicomIdentity,
  header: { readonly dataset: DicomJson; readonly text: string },
  stored: StoredBytes,
): CommitRecord {
  const { dataset, text } = header;
  return {
    identity,
    laterality: firstString(dataset, '00200060') ?? firstString(dataset, '00200062') ?? '',
    assigningAuthority: authorityOf(source, identity),
    sourceAuthority: source.assigningAuthority,
    personIds: personIdsOf(identity, source),
    header: text,
    transferSyntaxUid: source.transferSyntaxUid,
    bytes: stored.bytes,
    sha256: stored.sha256,
    pixelSha256: stored.pixelSha256 ?? null,
    chunkSha256: stored.chunkSha256 ?? null,
    dataSetOffset: stored.dataSetOffset,
    blob: stored.blob,
    blobFolder: stored.blobFolder ?? null,
    file: stored.file ?? null,
    door: source.door,
    callingAeTitle: source.callingAeTitle ?? '',
    address: source.address ?? '',
    holderNode: source.provenance?.holderNode ?? null,
    manifestSha256: source.provenance?.manifestSha256 ?? null,
    jti: source.provenance?.jti ?? null,
    consentHash: source.provenance?.consentHash ?? null,
  };
}

/**
 * Who issued the PatientID: the data set's own word (0010,0021), else the source's. The word of another hospital
 * counts within that hospital alone, universal ids too: what another hospital writes must never name a patient of this one.
 */
export function authorityOf(source: Pick<IngestSource, 'door' | 'assigningAuthority' | 'foreignIds'>, identity: DicomIdentity): string {
  const { issuerOfPatientId, issuerUniversalEntityId } = identity;
  if (source.door !== 'peer' && source.foreignIds !== true) return issuerOfPatientId ?? source.assigningAuthority;
  const issuer = issuerUniversalEntityId ?? issuerOfPatientId;
  return issuer === undefined ? source.assigningAuthority : `${source.assigningAuthority}/${issuer}`;
}
