import type { UpdateAddressesRequest, UpdateAddressesResponse } from '@meridian/shared/generated/meridian/v1/trust';
import { TrustServiceService, type TrustServiceServer } from '@meridian/shared/generated/meridian/v1/trust';
import { unaryHandler } from '@meridian/shared/grpc';
import type { Logger } from '@meridian/shared/log';
import { checkAddresses } from './addresses.ts';
import type { AttemptLimit } from './attempts.ts';
import type { Caller, CallerGate } from './caller.ts';
import type { TrustKeeper } from './trust-keeper.ts';

/** The trust list's RPCs. */
export function trustService(parts: {
  readonly keeper: TrustKeeper;
  readonly gate: CallerGate;
  readonly addressChanges: AttemptLimit;
  readonly log: Logger;
}): { definition: typeof TrustServiceService; implementation: TrustServiceServer } {
  const { gate, keeper, log } = parts;
  return {
    definition: TrustServiceService,
    implementation: {
      getTrustList: unaryHandler({
        log,
        authenticate: gate.authenticate,
        handle: async ({ haveSeq }) => {
          const { head, deltas, segments } = await keeper.newsSince(Number(haveSeq));
          return { head, deltas, segments: [...(segments ?? [])] };
        },
      }),
      updateAddresses: unaryHandler({
        log,
        authenticate: gate.authenticate,
        handle: (request, { caller }) => updateAddresses(parts, caller, request),
      }),
    },
  };
}

/** Addresses are part of the signed list; the same ones again make no new list. */
async function updateAddresses(
  { keeper, addressChanges }: { readonly keeper: TrustKeeper; readonly addressChanges: AttemptLimit },
  caller: Caller,
  request: UpdateAddressesRequest,
): Promise<UpdateAddressesResponse> {
  const addresses = checkAddresses(request.addresses);
  const held = keeper.view().entries.get(caller.nodeId)?.addresses ?? [];
  if (JSON.stringify(held) === JSON.stringify(addresses)) return {};
  // Every change is a new list for the whole federation.
  addressChanges.count(caller.nodeId);
  await keeper.change(async (transaction) => {
    await transaction
      .updateTable('hospital')
      .set({ addresses: JSON.stringify(addresses) })
      .where('node_id', '=', caller.nodeId)
      .execute();
    return { changed: [caller.nodeId], result: undefined };
  });
  return {};
}
