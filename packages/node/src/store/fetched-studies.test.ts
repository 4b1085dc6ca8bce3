import { createHash } from 'node:crypto';
import { expect, test } from '@jest/globals';
import type { NodeId } from '@meridian/shared/identifiers';
import type { InstanceEntry } from '@meridian/shared/generated/meridian/v1/manifest';
import { CT_IMAGE_STORAGE, EXPLICIT_LE, makeInstance } from './testing/data-sets.ts';
import { send, usingStore } from './testing/stores.ts';

const [A, M] = ['n-aaaaaaaaaaaaaaaa', 'n-mmmmmmmmmmmmmmmm'] as [NodeId, NodeId];
const consentHash = 'ab'.repeat(32);

function object(number: number, fill = number): { bytes: Buffer; entry: InstanceEntry } {
  const bytes = makeInstance({ study: '7', series: '7.1', sop: `7.1.${number}`, instanceNumber: number, patientId: 'X', fill });
  const sha256 = createHash('sha256').update(bytes).digest();
  return {
    bytes,
    entry: {
      seriesInstanceUid: '7.1',
      sopInstanceUid: `7.1.${number}`,
      sopClassUid: CT_IMAGE_STORAGE,
      transferSyntaxUid: EXPLICIT_LE,
      bytes: BigInt(bytes.length),
      sha256,
      pixelSha256: Buffer.alloc(0),
      instanceNumber: number,
      chunkSha256: Buffer.alloc(0),
    },
  };
}

test('a copy of one holder is never mixed with what another holds under the same number', () =>
  usingStore({}, async (store) => {
    const begin = (holderNode: NodeId, objects: readonly { entry: InstanceEntry }[], version = 1): Promise<void> =>
      store.fetched.begin({
        studyInstanceUid: '7',
        holderNode,
        manifest: Buffer.from(holderNode),
        manifestSha256: createHash('sha256').update(`${holderNode} ${version}`).digest(),
        version,
        expected: { instances: objects.map(({ entry }) => entry) },
        consentHash,
      });
    const [one, two, forged, other] = [object(1), object(2), object(1, 99), object(3)];
    await begin(A, [one, two]);
    await send(store, one.bytes, {
      door: 'peer',
      assigningAuthority: A,
      provenance: { holderNode: A, manifestSha256: Buffer.alloc(32), jti: 'j', consentHash },
    });
    for (const objects of [[other], [forged, two], [two]])
      await expect(begin(M, objects, 9)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION', reason: 'COPY_OF_ANOTHER_HOLDER' });
    expect(await store.fetched.get('7')).toMatchObject({ holderNode: A, version: 1 });
    expect(await store.fetched.missing('7')).toEqual([two.entry]);
    // The same study at another hospital goes on where the first left off, and the holder itself may send a new version.
    await begin(M, [one, two]);
    expect(await store.fetched.missing('7')).toEqual([two.entry]);
    await begin(M, [one, two, other], 2);
    expect(await store.fetched.get('7')).toMatchObject({ holderNode: M, version: 2 });
  }));
