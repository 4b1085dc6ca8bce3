import { transferSyntax } from '../dicom/transfer-syntaxes.ts';
import { isEncapsulated } from '../dicom/transfer-syntaxes.ts';
import { HttpStatusError } from '../http/problem.ts';
import { parseAccept, rangeCovers } from './media-types.ts';

export const DICOM = 'application/dicom';
export const OCTET_STREAM = 'application/octet-stream';
const MULTIPART = 'multipart/related';

/** How an answer is packed: parts of multipart/related, or the one object bare. */
export type Packing = 'multipart' | 'single';

/** What an Accept header is measured against. */
export interface StoredForm {
  /** Media type of the stored form: `application/dicom`, `application/octet-stream`, `image/jls`… */
  readonly type: string;
  readonly transferSyntaxUid: string;
}

const BASE = '1.2.840.10008.1.2.';
const FRAME_TYPES: readonly (readonly [RegExp, string])[] = [
  [/^4\.(50|51|57|70|5[2-689]|6[0-6])$/, 'image/jpeg'],
  [/^5$/, 'image/dicom-rle'],
  [/^4\.8[01]$/, 'image/jls'],
  [/^4\.9[01]$/, 'image/jp2'],
  [/^4\.9[23]$/, 'image/jpx'],
  [/^4\.20[123]$/, 'image/jphc'],
  [/^4\.11[012]$/, 'image/jxl'],
  [/^4\.10[01]/, 'video/mpeg'],
  [/^4\.10[2-6]/, 'video/mp4'],
  [/^4\.10[78]/, 'video/H265'],
];

/** Media type of a frame as it is stored (PS3.18 8.7.3.3). */
export function frameMediaType(transferSyntaxUid: string): string {
  if (!isEncapsulated(transferSyntaxUid)) return OCTET_STREAM;
  const suffix = transferSyntaxUid.startsWith(BASE) ? transferSyntaxUid.slice(BASE.length) : '';
  return FRAME_TYPES.find(([pattern]) => pattern.test(suffix))?.[1] ?? OCTET_STREAM;
}

/**
 * Chooses how stored objects are answered: always as they are stored, for nothing is transcoded here.
 * `application/octet-stream; transfer-syntax=*` takes any stored form, as common viewers mean it.
 * @param several there is more than one object, which only multipart can carry.
 * @throws HttpStatusError 406 / NOT_ACCEPTABLE | TRANSFER_SYNTAX_NOT_AVAILABLE
 */
export function chooseStored(header: string | undefined, stored: readonly StoredForm[], several: boolean): Packing {
  let otherSyntax: string | undefined;
  for (const range of parseAccept(header)) {
    if (range.quality === 0) continue;
    const packing = packingOf(range.type, range.parameters.get('type'), stored, several);
    if (packing === undefined) continue;
    const syntax = range.parameters.get('transfer-syntax');
    // Asked for uncompressed pixels by the type's default (PS3.18 8.7.3.3.2), while they are stored compressed.
    const wanted = range.parameters.get('type') ?? range.type;
    const bareOctets = wanted === OCTET_STREAM && syntax === undefined && stored.some((form) => form.type !== OCTET_STREAM);
    if (!bareOctets && (syntax === undefined || syntax === '*' || stored.every((form) => form.transferSyntaxUid === syntax)))
      return packing;
    otherSyntax ??= syntax ?? `${BASE}1`;
  }
  if (otherSyntax !== undefined) {
    const held = [...new Set(stored.map((form) => transferSyntax(form.transferSyntaxUid)?.name ?? form.transferSyntaxUid))].join(', ');
    throw new HttpStatusError(
      406,
      'UNIMPLEMENTED',
      'TRANSFER_SYNTAX_NOT_AVAILABLE',
      `This node gives objects as they are stored, here as ${held}, and does not convert them. Ask with transfer-syntax=*.`,
      { details: { stored: stored[0]?.transferSyntaxUid ?? '' } },
    );
  }
  throw new HttpStatusError(
    406,
    'INVALID_ARGUMENT',
    'NOT_ACCEPTABLE',
    `The Accept header allows none of the forms in which this node can answer; it offers multipart/related; type="${stored[0]?.type ?? DICOM}"; transfer-syntax=*.`,
  );
}

function packingOf(type: string, inner: string | undefined, stored: readonly StoredForm[], several: boolean): Packing | undefined {
  const fits = (wanted: string): boolean =>
    stored.every((form) => rangeCovers(wanted, form.type) || (wanted === OCTET_STREAM && form.type !== DICOM));
  if (type === '*/*' || type === MULTIPART || type === 'multipart/*')
    return inner === undefined || fits(inner.toLowerCase()) ? 'multipart' : undefined;
  // A bare type for several objects: they can only come in parts, so that is what it must mean.
  return fits(type) ? (several ? undefined : 'single') : undefined;
}
