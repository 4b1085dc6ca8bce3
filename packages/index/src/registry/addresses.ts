import { MeshError } from '@meridian/shared/errors';

const MAX_ADDRESSES = 16;
const MAX_ADDRESS_LENGTH = 256;

/**
 * Multiaddrs on which a node says that it listens; nodes parse them, here only their form is looked at.
 * @throws MeshError INVALID_ARGUMENT / ADDRESS_INVALID
 */
export function checkAddresses(addresses: readonly string[]): string[] {
  const fine =
    addresses.length <= MAX_ADDRESSES &&
    addresses.every((address) => address.length <= MAX_ADDRESS_LENGTH && /^(\/[\x21-\x2e\x30-\x7e]+)+$/.test(address));
  if (fine) return [...new Set(addresses)];
  throw new MeshError(
    'INVALID_ARGUMENT',
    'ADDRESS_INVALID',
    `A node may name up to ${MAX_ADDRESSES} multiaddrs of up to ${MAX_ADDRESS_LENGTH} characters, such as /ip4/192.0.2.7/tcp/7500.`,
  );
}
