/** How a data set is written under one transfer syntax (PS3.5 10, A). */
export interface TransferSyntax {
  readonly uid: string;
  readonly name: string;
  readonly explicitVr: boolean;
  readonly littleEndian: boolean;
  /** The whole data set is one raw deflate stream (PS3.5 A.5). */
  readonly deflated: boolean;
  /** Pixel data stands in fragments (PS3.5 A.4). */
  readonly encapsulated: boolean;
  /** Decoding may not give back the exact pixels that were encoded. */
  readonly lossy: boolean;
}

const BASE = '1.2.840.10008.1.2';
const native = (uid: string, name: string, explicitVr: boolean): TransferSyntax => ({
  uid,
  name,
  explicitVr,
  littleEndian: true,
  deflated: false,
  encapsulated: false,
  lossy: false,
});
const compressed = (suffix: string, name: string, kind: 'lossless' | 'lossy'): TransferSyntax => ({
  uid: `${BASE}.${suffix}`,
  name,
  explicitVr: true,
  littleEndian: true,
  deflated: false,
  encapsulated: true,
  lossy: kind === 'lossy',
});

/** Implicit VR Little Endian: what every DICOM system must speak. */
export const IMPLICIT_VR_LITTLE_ENDIAN = BASE;
/** Explicit VR Little Endian. */
export const EXPLICIT_VR_LITTLE_ENDIAN = `${BASE}.1`;
/** Deflated Explicit VR Little Endian. */
export const DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = `${BASE}.1.99`;
/** Explicit VR Big Endian (retired, still in archives). */
export const EXPLICIT_VR_BIG_ENDIAN = `${BASE}.2`;

/** Every transfer syntax of PS3.6 A, retired ones too, and one private one that archives hold. */
export const TRANSFER_SYNTAXES: readonly TransferSyntax[] = [
  native(IMPLICIT_VR_LITTLE_ENDIAN, 'Implicit VR Little Endian', false),
  native(EXPLICIT_VR_LITTLE_ENDIAN, 'Explicit VR Little Endian', true),
  { ...native(DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, 'Deflated Explicit VR Little Endian', true), deflated: true },
  compressed('1.98', 'Encapsulated Uncompressed Explicit VR Little Endian', 'lossless'),
  { ...native(EXPLICIT_VR_BIG_ENDIAN, 'Explicit VR Big Endian', true), littleEndian: false },
  compressed('4.50', 'JPEG Baseline (Process 1)', 'lossy'),
  compressed('4.51', 'JPEG Extended (Process 2 and 4)', 'lossy'),
  compressed('4.52', 'JPEG Extended (Process 3 and 5)', 'lossy'),
  compressed('4.53', 'JPEG Spectral Selection, Non-Hierarchical (Process 6 and 8)', 'lossy'),
  compressed('4.54', 'JPEG Spectral Selection, Non-Hierarchical (Process 7 and 9)', 'lossy'),
  compressed('4.55', 'JPEG Full Progression, Non-Hierarchical (Process 10 and 12)', 'lossy'),
  compressed('4.56', 'JPEG Full Progression, Non-Hierarchical (Process 11 and 13)', 'lossy'),
  compressed('4.57', 'JPEG Lossless, Non-Hierarchical (Process 14)', 'lossless'),
  compressed('4.58', 'JPEG Lossless, Non-Hierarchical (Process 15)', 'lossless'),
  compressed('4.59', 'JPEG Extended, Hierarchical (Process 16 and 18)', 'lossy'),
  compressed('4.60', 'JPEG Extended, Hierarchical (Process 17 and 19)', 'lossy'),
  compressed('4.61', 'JPEG Spectral Selection, Hierarchical (Process 20 and 22)', 'lossy'),
  compressed('4.62', 'JPEG Spectral Selection, Hierarchical (Process 21 and 23)', 'lossy'),
  compressed('4.63', 'JPEG Full Progression, Hierarchical (Process 24 and 26)', 'lossy'),
  compressed('4.64', 'JPEG Full Progression, Hierarchical (Process 25 and 27)', 'lossy'),
  compressed('4.65', 'JPEG Lossless, Hierarchical (Process 28)', 'lossless'),
  compressed('4.66', 'JPEG Lossless, Hierarchical (Process 29)', 'lossless'),
  compressed('4.70', 'JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14, Selection Value 1)', 'lossless'),
  compressed('4.80', 'JPEG-LS Lossless', 'lossless'),
  compressed('4.81', 'JPEG-LS Lossy (Near-Lossless)', 'lossy'),
  compressed('4.90', 'JPEG 2000 (Lossless Only)', 'lossless'),
  compressed('4.91', 'JPEG 2000', 'lossy'),
  compressed('4.92', 'JPEG 2000 Part 2 Multi-component (Lossless Only)', 'lossless'),
  compressed('4.93', 'JPEG 2000 Part 2 Multi-component', 'lossy'),
  // JPIP: the data set holds a URL (0028,7FE0) in place of pixel data.
  { ...native(`${BASE}.4.94`, 'JPIP Referenced', true), lossy: true },
  { ...native(`${BASE}.4.95`, 'JPIP Referenced Deflate', true), deflated: true, lossy: true },
  compressed('4.100', 'MPEG2 Main Profile / Main Level', 'lossy'),
  compressed('4.100.1', 'Fragmentable MPEG2 Main Profile / Main Level', 'lossy'),
  compressed('4.101', 'MPEG2 Main Profile / High Level', 'lossy'),
  compressed('4.101.1', 'Fragmentable MPEG2 Main Profile / High Level', 'lossy'),
  compressed('4.102', 'MPEG-4 AVC/H.264 High Profile / Level 4.1', 'lossy'),
  compressed('4.102.1', 'Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.1', 'lossy'),
  compressed('4.103', 'MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1', 'lossy'),
  compressed('4.103.1', 'Fragmentable MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1', 'lossy'),
  compressed('4.104', 'MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video', 'lossy'),
  compressed('4.104.1', 'Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video', 'lossy'),
  compressed('4.105', 'MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video', 'lossy'),
  compressed('4.105.1', 'Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video', 'lossy'),
  compressed('4.106', 'MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2', 'lossy'),
  compressed('4.106.1', 'Fragmentable MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2', 'lossy'),
  compressed('4.107', 'HEVC/H.265 Main Profile / Level 5.1', 'lossy'),
  compressed('4.108', 'HEVC/H.265 Main 10 Profile / Level 5.1', 'lossy'),
  compressed('4.110', 'JPEG XL Lossless', 'lossless'),
  compressed('4.111', 'JPEG XL JPEG Recompression', 'lossy'),
  compressed('4.112', 'JPEG XL', 'lossy'),
  compressed('4.201', 'High-Throughput JPEG 2000 (Lossless Only)', 'lossless'),
  compressed('4.202', 'High-Throughput JPEG 2000 with RPCL Options (Lossless Only)', 'lossless'),
  compressed('4.203', 'High-Throughput JPEG 2000', 'lossy'),
  { ...native(`${BASE}.4.204`, 'JPIP HTJ2K Referenced', true), lossy: true },
  { ...native(`${BASE}.4.205`, 'JPIP HTJ2K Referenced Deflate', true), deflated: true, lossy: true },
  native('1.2.840.113619.5.2', 'GE Private Implicit VR with Big Endian Pixel Data', false),
  compressed('5', 'RLE Lossless', 'lossless'),
  compressed('8.1', 'Deflated Image Frame Compression', 'lossless'),
];

const byUid = new Map(TRANSFER_SYNTAXES.map((syntax) => [syntax.uid, syntax]));

/** The transfer syntax of a UID, or undefined where PS3.6 does not list it. */
export function transferSyntax(uid: string): TransferSyntax | undefined {
  return byUid.get(uid);
}

/**
 * How a data set under this UID is written. An unlisted (private) syntax is read as explicit VR little endian, which
 * PS3.5 A.4 requires of encapsulated ones; whether its pixel data stands in fragments is told by the data set.
 */
export function encodingOf(uid: string): TransferSyntax {
  return byUid.get(uid) ?? native(uid, uid, true);
}

/** True where pixel data of this syntax stands in fragments; false also for private syntaxes, where it may. */
export function isEncapsulated(uid: string): boolean {
  return encodingOf(uid).encapsulated;
}
