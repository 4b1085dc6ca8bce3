import { MeshError } from '@meridian/shared/errors';
import type { Reason } from '@meridian/shared/errors';

/** Bounds of what a header may cost. Bytes and counts are per data set. */
export interface HeaderLimits {
  /** Bytes of element headers and kept values together. */
  readonly maxHeaderBytes: number;
  /** A longer value is not kept: its place is recorded. */
  readonly maxKeptValueBytes: number;
  /** Values of all elements together, before they are decoded; see {@link HeaderCost}. */
  readonly maxValues: number;
  /** Bytes of the header as DICOM JSON, by a count that is never too low. */
  readonly maxJsonBytes: number;
  readonly maxElements: number;
  /** Elements of one data set or item: a larger table would hold the event loop while it grows. */
  readonly maxElementsPerSet: number;
  /** Sequences inside sequences. */
  readonly maxDepth: number;
  /** Deflated syntaxes: inflated bytes in all. */
  readonly maxInflatedBytes: number;
  /** Deflated syntaxes: inflated over deflated bytes, once `inflateGraceBytes` have come out. */
  readonly maxInflateRatio: number;
  readonly inflateGraceBytes: number;
}

/** Real headers measured: the largest multi-frame ones hold some MiB; the deepest real nesting is below 64. */
export const DEFAULT_HEADER_LIMITS: HeaderLimits = {
  maxHeaderBytes: 16 * 1024 * 1024,
  maxKeptValueBytes: 64 * 1024,
  maxValues: 2_000_000,
  maxJsonBytes: 32 * 1024 * 1024,
  maxElements: 2_000_000,
  maxElementsPerSet: 50_000,
  maxDepth: 64,
  maxInflatedBytes: 2 * 1024 * 1024 * 1024,
  maxInflateRatio: 200,
  inflateGraceBytes: 16 * 1024 * 1024,
};

/** Why a data set was refused, with the sentence that a sender's engineer reads. */
const SENTENCES = {
  DICOM_TRUNCATED: 'The data set ends in the middle of an element. Send the object again in full.',
  DICOM_LENGTH_LIE: 'An element claims more bytes than there are where it stands. The object is damaged; export it again at its source.',
  DICOM_TOO_DEEP: 'Sequences are nested deeper than this node reads.',
  DICOM_TOO_MANY_ELEMENTS: 'The data set has more elements than this node reads.',
  DICOM_TOO_LARGE_HEADER: 'The elements outside bulk data take more space than this node keeps.',
  DICOM_DEFLATE_BOMB: 'The deflated data set grows beyond what this node inflates.',
  DICOM_DEFLATE_BROKEN: 'The deflated data set cannot be inflated. The object is damaged; export it again at its source.',
  DICOM_MALFORMED: 'The bytes are not a DICOM data set in this transfer syntax.',
  DICOM_WRONG_TRANSFER_SYNTAX: 'The data set is not written in the transfer syntax it declares. Export it again at its source.',
} as const satisfies Record<Reason, string>;

/** The refusal of a data set, INVALID_ARGUMENT with a stable reason. */
export function refuse(reason: keyof typeof SENTENCES): MeshError {
  return new MeshError('INVALID_ARGUMENT', reason, SENTENCES[reason]);
}
