import type { ConsentStatement } from '@meridian/shared/consent';
import { NodeStatus } from '@meridian/shared/generated/meridian/v1/trust';
import type { NodeId } from '@meridian/shared/identifiers';
import type { ConsentParts } from './parts.ts';

/**
 * Who is told of a revocation directly: those whom the consent names, those from whom copies were fetched under it; and
 * everybody where the index, which knows the rest, cannot be reached.
 */
export async function nodesToTell(parts: ConsentParts, own: readonly ConsentStatement[]): Promise<NodeId[]> {
  const { federation, store } = parts;
  const nodes = new Set<NodeId>();
  for (const { provision, writer } of own) {
    nodes.add(writer);
    if (provision.grantee.kind === 'hospital') nodes.add(provision.grantee.nodeId);
    for (const holder of provision.holders ?? []) nodes.add(holder);
  }
  const fetched = await store.database.read
    .selectFrom('fetched_study')
    .select('holder_node')
    .where(
      'consent_hash',
      'in',
      own.map(({ hash }) => hash),
    )
    .execute();
  for (const { holder_node } of fetched) nodes.add(holder_node as NodeId);
  const entries = federation.trust()?.entries ?? new Map<NodeId, never>();
  if (federation.channel.state().state === 'unreachable') for (const nodeId of entries.keys()) nodes.add(nodeId);
  nodes.delete(federation.nodeId);
  return [...nodes].filter((nodeId) => entries.get(nodeId)?.status === NodeStatus.NODE_STATUS_ACTIVE);
}
