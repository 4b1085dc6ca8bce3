import { Metadata, status, type ServerErrorResponse, type ServiceError } from '@grpc/grpc-js';
import { asMeshError, MeshError, STATUS_NUMBERS, statusName, type Reason } from './errors.ts';

const REASON_KEY = 'meridian-reason';
const DETAILS_KEY = 'meridian-details-json';
const REASON_PATTERN = /^[A-Z0-9_]{1,64}$/;
const MAX_DETAILS_BYTES = 4096;

/** A MeshError as gRPC carries it: number, sentence, and the reason and details in the trailing metadata. */
export function toServiceError(error: MeshError): ServerErrorResponse {
  const metadata = new Metadata();
  metadata.set(REASON_KEY, error.reason);
  const details = Object.keys(error.details).length === 0 ? '' : JSON.stringify(error.details);
  // Metadata values are ASCII; escape what is not.
  const ascii = details.replace(/[^\x20-\x7e]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
  if (ascii !== '' && ascii.length <= MAX_DETAILS_BYTES) metadata.set(DETAILS_KEY, ascii);
  return Object.assign(new Error(error.message), { code: STATUS_NUMBERS[error.code], details: error.message, metadata });
}

/**
 * The MeshError that the other side threw; or, where no answer of the mesh came, what is known of the transport:
 * UNAVAILABLE / INDEX_UNREACHABLE, DEADLINE_EXCEEDED / INDEX_TIMEOUT, CANCELLED / CANCELLED.
 */
export function fromServiceError(thrown: unknown): MeshError {
  if (thrown instanceof MeshError) return thrown;
  if (!isServiceError(thrown)) return asMeshError(thrown);
  const reason = String(thrown.metadata?.get(REASON_KEY)[0] ?? '');
  if (REASON_PATTERN.test(reason)) {
    return new MeshError(statusName(thrown.code), reason as Reason, thrown.details, { cause: thrown, details: detailsOf(thrown) });
  }
  switch (thrown.code) {
    case status.UNAVAILABLE:
      return new MeshError(
        'UNAVAILABLE',
        'INDEX_UNREACHABLE',
        'The index cannot be reached. What is held here stays usable; the rest is tried again by itself.',
        { cause: thrown, details: { transport: thrown.details } },
      );
    case status.DEADLINE_EXCEEDED:
      return new MeshError('DEADLINE_EXCEEDED', 'INDEX_TIMEOUT', 'The index did not answer in time. Try again.', { cause: thrown });
    case status.CANCELLED:
      return new MeshError('CANCELLED', 'CANCELLED', 'The call was cancelled.', { cause: thrown });
    default:
      return new MeshError(statusName(thrown.code), 'INDEX_ANSWER', `The index answered ${statusName(thrown.code)}: ${thrown.details}`, {
        cause: thrown,
      });
  }
}

/** Any thrown value as what a server call answers with. */
export function errorOfCall(thrown: unknown): ServerErrorResponse {
  return toServiceError(asMeshError(thrown));
}

function isServiceError(thrown: unknown): thrown is ServiceError {
  return typeof thrown === 'object' && thrown !== null && 'code' in thrown && typeof thrown.code === 'number' && 'details' in thrown;
}

function detailsOf(error: ServiceError): Record<string, string> {
  try {
    const parsed: unknown = JSON.parse(String(error.metadata.get(DETAILS_KEY)[0] ?? '{}'));
    if (typeof parsed !== 'object' || parsed === null) return {};
    return Object.fromEntries(Object.entries(parsed).filter((entry): entry is [string, string] => typeof entry[1] === 'string'));
  } catch {
    // Details are a help; a broken one does not hide the error itself.
    return {};
  }
}
