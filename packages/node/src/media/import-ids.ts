import { MeshError } from '@meridian/shared/errors';
import { encodeBase32 } from '@meridian/shared/identifiers';
import type { Random } from '@meridian/shared/platform/random';
import { IMPORT_AUTHORITY_PREFIX } from '../store/commit-record.ts';

/** Whose patient ids a folder has. At most one of the two. */
export interface ImportIds {
  /** The hospital that the folder comes from, by a name; equal names are one hospital. */
  readonly authority?: string;
  /** The folder is this hospital's own archive. */
  readonly ownIds?: boolean;
}

/**
 * How patient ids of a folder are taken. Where nobody says whose they are, they are this import's own: the PatientID on
 * a disc of another hospital is somebody else's here.
 * @returns `foreignIds`: an issuer that the data sets name counts within the authority alone.
 * @throws MeshError INVALID_ARGUMENT / IMPORT_IDS_AMBIGUOUS
 */
export function idsOfImport(
  { authority, ownIds }: ImportIds,
  own: { readonly assigningAuthority: string; readonly random: Random },
): { readonly assigningAuthority: string; readonly foreignIds: boolean } {
  if (authority !== undefined && ownIds === true)
    throw new MeshError(
      'INVALID_ARGUMENT',
      'IMPORT_IDS_AMBIGUOUS',
      'Say either that the patient ids are this hospital’s own or whose they are, not both.',
    );
  if (ownIds === true) return { assigningAuthority: own.assigningAuthority, foreignIds: false };
  return { assigningAuthority: authority ?? `${IMPORT_AUTHORITY_PREFIX}${encodeBase32(own.random.bytes(5))}`, foreignIds: true };
}
