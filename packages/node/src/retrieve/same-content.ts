import { MeshError } from '@meridian/shared/errors';
import type { RemoteStudy } from './remote-studies.ts';

/**
 * What hospitals say of one Study Instance UID, put together where they hold the same instances: only the UID is shared
 * where they do not, and whoever knows it can advertise other images under it. Versions of two hospitals say nothing about
 * each other.
 */
export function byContent(studies: readonly RemoteStudy[]): RemoteStudy[][] {
  return [...Map.groupBy(studies, contentOf).values()];
}

/** Those that hold what this hospital holds; none where it is not among them. */
export function likeHolder(studies: readonly RemoteStudy[], holderNode: string): RemoteStudy[] {
  const own = studies.find((study) => study.holderNode === holderNode);
  return own === undefined ? [] : studies.filter((study) => contentOf(study) === contentOf(own));
}

/**
 * The one group from which a study may come unasked: that of the copy which is here, else the only one.
 * @throws MeshError FAILED_PRECONDITION / HOLDERS_DIFFER
 */
export function onlyContent(studies: readonly RemoteStudy[], copyOf: string | undefined): RemoteStudy[] {
  const known = copyOf === undefined ? [] : likeHolder(studies, copyOf);
  if (known.length > 0) return known;
  const groups = byContent(studies);
  if (groups.length <= 1) return groups[0] ?? [];
  const names = studies.map(({ holderName, holderNode }) => `${holderName} (${holderNode})`).join(', ');
  throw new MeshError(
    'FAILED_PRECONDITION',
    'HOLDERS_DIFFER',
    `Hospitals hold different images under the number of this study: ${names}. Say from which one it is to come: choose its row on the page, or give \`--from\` with its node id.`,
  );
}

function contentOf({ manifest }: RemoteStudy): string {
  return manifest.instanceListSha256.toString('hex');
}
