import type { MeshError } from '@meridian/shared/errors';
import type { DicomJson, DicomJsonElement } from '../dicom/json.ts';
import { TAG } from '../dicom/tags.ts';
import type { PartOutcome } from './stow-part.ts';

/** Failure Reason (0008,1197) values of PS3.18 Table I.2.2. */
const FAILURE = {
  outOfResources: 0xa700,
  mismatch: 0xa900,
  cannotUnderstand: 0xc000,
  processing: 0x0110,
  transferSyntax: 0xc122,
  notAuthorised: 0x0124,
} as const;

/** Warning Reason (0008,1196): stored, but not as the only object of its UID. */
const WARNING_KEPT_ASIDE = 0xb000;
const WARNING_REASON = '00081196';
/** Failures of which no SOP UIDs are known (PS3.18 Table I.2-1). */
const OTHER_FAILURES_SEQUENCE = '0008119A';
const MAX_WARNING_HEADERS = 10;

/** The answer of a STOW-RS request (PS3.18 10.5.3). */
export interface StowAnswer {
  readonly status: 200 | 202 | 409;
  readonly dataset: DicomJson;
  /** A sentence for each kind of refusal, for Warning headers: the data set has numbers alone. */
  readonly warnings: readonly string[];
}

/**
 * Builds the answer: 200 all stored, 202 some failed or were kept aside, 409 none stored.
 * @param baseUrl address of the DICOMweb service, without a slash at its end.
 */
export function stowAnswer(outcomes: readonly PartOutcome[], baseUrl: string): StowAnswer {
  const referenced: DicomJson[] = [];
  const failed: DicomJson[] = [];
  const otherFailures: DicomJson[] = [];
  const sentences = new Map<string, string>();
  const studies = new Set<string>();
  let keptAside = false;
  for (const each of outcomes) {
    if (each.kind === 'stored') {
      const { outcome } = each;
      studies.add(outcome.studyInstanceUid);
      keptAside ||= outcome.outcome === 'quarantined';
      if (outcome.outcome === 'quarantined')
        sentences.set(
          'INSTANCE_KEPT_ASIDE',
          'An object with the same SOP Instance UID but other content is here already. The new one was kept aside for an operator to decide.',
        );
      referenced.push({
        [TAG.ReferencedSOPClassUID]: ui(outcome.sopClassUid),
        [TAG.ReferencedSOPInstanceUID]: ui(outcome.sopInstanceUid),
        [TAG.RetrieveURL]: ur(
          `${baseUrl}/studies/${outcome.studyInstanceUid}/series/${outcome.seriesInstanceUid}/instances/${outcome.sopInstanceUid}`,
        ),
        ...(outcome.outcome === 'quarantined' ? { [WARNING_REASON]: us(WARNING_KEPT_ASIDE) } : {}),
      });
      continue;
    }
    sentences.set(each.error.reason, each.error.message);
    const reason = { [TAG.FailureReason]: us(failureReason(each.error)) };
    if (each.sopInstanceUid === undefined) otherFailures.push(reason);
    else
      failed.push({
        [TAG.ReferencedSOPClassUID]: ui(each.sopClassUid ?? ''),
        [TAG.ReferencedSOPInstanceUID]: ui(each.sopInstanceUid),
        ...reason,
      });
  }
  const [onlyStudy] = studies;
  const failures = failed.length + otherFailures.length;
  return {
    status: failures === 0 && !keptAside ? 200 : referenced.length > 0 ? 202 : 409,
    dataset: {
      ...(studies.size === 1 && onlyStudy !== undefined ? { [TAG.RetrieveURL]: ur(`${baseUrl}/studies/${onlyStudy}`) } : {}),
      ...(failed.length > 0 ? { [TAG.FailedSOPSequence]: { vr: 'SQ', Value: failed } } : {}),
      ...(otherFailures.length > 0 ? { [OTHER_FAILURES_SEQUENCE]: { vr: 'SQ', Value: otherFailures } } : {}),
      ...(referenced.length > 0 ? { [TAG.ReferencedSOPSequence]: { vr: 'SQ', Value: referenced } } : {}),
    },
    warnings: [...sentences].slice(0, MAX_WARNING_HEADERS).map(([reason, sentence]) => `${reason}: ${sentence}`),
  };
}

function failureReason(error: MeshError): number {
  if (error.code === 'RESOURCE_EXHAUSTED' || error.code === 'UNAVAILABLE') return FAILURE.outOfResources;
  if (error.reason === 'INSTANCE_MISMATCH') return FAILURE.mismatch;
  if (error.reason.includes('TRANSFER_SYNTAX')) return FAILURE.transferSyntax;
  if (error.code === 'PERMISSION_DENIED' || error.code === 'UNAUTHENTICATED') return FAILURE.notAuthorised;
  return error.code === 'INVALID_ARGUMENT' ? FAILURE.cannotUnderstand : FAILURE.processing;
}

const ui = (uid: string): DicomJsonElement => (uid === '' ? { vr: 'UI' } : { vr: 'UI', Value: [uid] });
const ur = (url: string): DicomJsonElement => ({ vr: 'UR', Value: [url] });
const us = (number: number): DicomJsonElement => ({ vr: 'US', Value: [number] });
