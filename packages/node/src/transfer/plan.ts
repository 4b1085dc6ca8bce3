import type { InstanceEntry } from '@meridian/shared/generated/meridian/v1/manifest';

/** Key Object Selection Document Storage (PS3.4 B.5): small, and it says what to look at. */
const KEY_OBJECT_SELECTION = '1.2.840.10008.5.1.4.1.1.88.59';

/**
 * The order in which instances are asked for: key objects, then the middle image of every series, then each series from
 * its middle outward. A reader sees where the finding most often is while the rest arrives.
 */
export function planOrder(instances: readonly InstanceEntry[]): InstanceEntry[] {
  const keyObjects = instances.filter((entry) => entry.sopClassUid === KEY_OBJECT_SELECTION);
  const series = new Map<string, InstanceEntry[]>();
  for (const entry of instances) {
    if (entry.sopClassUid === KEY_OBJECT_SELECTION) continue;
    const members = series.get(entry.seriesInstanceUid);
    if (members === undefined) series.set(entry.seriesInstanceUid, [entry]);
    else members.push(entry);
  }
  const outward = [...series.values()].map((members) => fromTheMiddle(members.sort((a, b) => a.instanceNumber - b.instanceNumber)));
  return [...keyObjects, ...outward.flatMap((members) => members.slice(0, 1)), ...outward.flatMap((members) => members.slice(1))];
}

/** Index 2, 1, 3, 0, 4 of five. */
function fromTheMiddle<T>(items: readonly T[]): T[] {
  const middle = Math.floor(items.length / 2);
  const ordered: T[] = [];
  for (let step = 0; ordered.length < items.length; step += 1) {
    const place = step % 2 === 0 ? middle + step / 2 : middle - (step + 1) / 2;
    const item = items[place];
    if (item !== undefined) ordered.push(item);
  }
  return ordered;
}
