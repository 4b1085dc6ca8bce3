import { MeshError, STATUS_NUMBERS, statusName, type Reason } from '@meridian/shared/errors';
import type { Step } from './codec.ts';

/** What a person is told for a reason that a holder gives; the holder's own words are not shown. */
const SENTENCES: Readonly<Record<string, string>> = {
  NO_CONSENT:
    'There is no consent of the patient for this. Ask the patient; a clerk of this hospital records it (`meridian consent record`).',
  CONSENT_EXPIRED: 'The consent of the patient has run out. Ask the patient for a new one; a clerk of this hospital records it.',
  CONSENT_OUT_OF_SCOPE:
    'The consent does not cover this study, this hospital or this purpose. A wider consent can be recorded at a hospital.',
  CONSENT_REVOKED: 'The patient withdrew consent. Only a new consent, recorded at a hospital, opens the study again.',
  CONSENT_REFUSED: 'The patient refuses that this study is passed on. Only the patient can change that.',
  CONSENT_STALE:
    'The holder knows a newer statement of the patient than the one this request rests on: consent was changed or withdrawn. Ask the patient again.',
  CONSENT_SCOPE: 'The consent does not cover this study, this hospital or this purpose. A wider consent can be recorded at a hospital.',
  CONSENT_SIGNATURE: 'The holder does not accept the signature of the consent. The hospital that recorded it has to record it again.',
  DENIED_BY_HOLDER: 'The hospital that holds the study does not release it to this one. Only its privacy officer can change that.',
  CLOCK_SKEW: 'The clocks of the two hospitals differ by more than 30 seconds. IT must set them by a time server.',
  GRANT_EXPIRED: 'The permission ran out before the study had arrived whole. Ask again: what has arrived is kept.',
  GRANT_REPLAYED: 'The permission was used before. Ask again for a new one.',
  GRANT_BYTES_EXCEEDED: 'More bytes were asked for than the permission covers. Ask again: what has arrived is kept.',
  GRANT_PEER: 'The permission was made for another machine than this one. Ask again; if it lasts, IT must look at the node.',
  STUDY_NOT_HELD: 'The other hospital no longer holds this study.',
  TRANSFERS_BUSY: 'The other hospital is serving as many transfers as it can. Try again in a minute.',
  NODE_CLOSING: 'The node of the other hospital is being stopped. Try again later: what has arrived is kept.',
  AUDIT_UNWRITABLE:
    'The other hospital cannot write its audit log and releases nothing meanwhile. Its IT department has been told by its node.',
  CANCELLED: 'The transfer was cancelled.',
};

/** The CLOSE frame that tells an error to the other side. */
export function closeStep(error: MeshError): Step {
  return { $case: 'close', value: { status: STATUS_NUMBERS[error.code], reason: error.reason, message: error.message.slice(0, 300) } };
}

/** The error that a CLOSE frame of the other side stands for. Its words are not trusted, only its reason. */
export function errorOfClose(close: { readonly status: number; readonly reason: string }): MeshError {
  const reason = (/^[A-Z][A-Z0-9_]{1,63}$/.test(close.reason) ? close.reason : 'PEER_CLOSED') as Reason;
  return new MeshError(statusName(close.status), reason, SENTENCES[reason] ?? `The other hospital ended the transfer (${reason}).`);
}

/** A refusal for want of permission, in words that say who can change it; as CLOSE it travels to the asker. */
export function refusal(reason: Reason): MeshError {
  return new MeshError(
    'PERMISSION_DENIED',
    reason,
    SENTENCES[reason] ?? `The holder refused the permission (${reason}). Ask again; if it lasts, IT must look at the node.`,
  );
}
