import { expect, test } from '@jest/globals';
import { asMeshError } from './errors.ts';
import { InstanceList, ManifestStatus, StudyManifest } from './generated/meridian/v1/manifest.ts';
import { encodeInstanceList, instanceListDigest, manifestDigest, openInstanceList, openManifest, signManifest } from './manifest.ts';
import { createSigningKey, keyIdOf, loadSigningKey, openSigned, signObject } from './signed-object.ts';

const reasonOf = (action: () => unknown): string => {
  try {
    action();
  } catch (thrown) {
    return asMeshError(thrown).reason;
  }
  return 'nothing thrown';
};
const key = createSigningKey();
const list = InstanceList.fromPartial({
  instances: ['1.2.3.2', '1.2.3.1'].map((sopInstanceUid) => ({
    seriesInstanceUid: '1.2.3',
    sopInstanceUid,
    bytes: 10n,
    sha256: Buffer.alloc(32, 1),
  })),
});
const listBytes = encodeInstanceList(list);
const manifest = StudyManifest.fromPartial({
  studyInstanceUid: '1.2',
  custodianNode: 'n-aaaaaaaaaaaaaaaa',
  version: 1n,
  status: ManifestStatus.MANIFEST_STATUS_COMPLETE,
  patientKeys: [{ key: Buffer.alloc(32), epoch: 'e1' }],
  studyDate: '20260101',
  series: [{ seriesInstanceUid: '1.2.3', modality: 'CT', instanceCount: 2 }],
  instanceCount: 2,
  totalBytes: 20n,
  instanceListSha256: instanceListDigest(listBytes),
  issuedAtEpochMs: 1n,
});

test('a signed object opens for its type and its signer alone, and a key survives its PEM', () => {
  const signed = signObject({ type: 'manifest', payload: Buffer.from('x'), key });
  expect(signed.keyId).toBe(keyIdOf(key.publicKey));
  expect(openSigned('manifest', signed, [createSigningKey().publicKey, loadSigningKey(key.toPem()).publicKey]).toString()).toBe('x');
  expect(reasonOf(() => openSigned('trust-list-head', signed, [key.publicKey]))).toBe('SIGNATURE_INVALID');
  expect(reasonOf(() => openSigned('trust-list-head', { ...signed, type: 'trust-list-head' }, [key.publicKey]))).toBe('SIGNATURE_INVALID');
  expect(reasonOf(() => openSigned('manifest', { ...signed, payload: Buffer.from('y') }, [key.publicKey]))).toBe('SIGNATURE_INVALID');
  expect(reasonOf(() => openSigned('manifest', { ...signed, algorithm: 0 }, [key.publicKey]))).toBe('SIGNATURE_INVALID');
  expect(reasonOf(() => openSigned('manifest', signed, []))).toBe('SIGNATURE_INVALID');
  expect(reasonOf(() => openSigned('manifest', undefined, [key.publicKey]))).toBe('SIGNATURE_INVALID');
  expect(reasonOf(() => loadSigningKey('nonsense'))).toBe('SIGNING_KEY_INVALID');
});

test('a manifest opens with its digest, and malformed ones are refused', () => {
  const signed = signManifest(manifest, key);
  const opened = openManifest(signed, [key.publicKey]);
  expect(opened.manifest.studyInstanceUid).toBe('1.2');
  expect(opened.digest).toEqual(manifestDigest(signed.payload));
  for (const changes of [
    { version: 0n },
    { status: 0 as const },
    { patientKeys: [{ key: Buffer.alloc(31), epoch: 'e1' }] },
    { instanceListSha256: Buffer.alloc(0) },
    { studyDate: '1'.repeat(65) },
  ]) {
    expect(reasonOf(() => signManifest({ ...manifest, ...changes }, key))).toBe('MANIFEST_MALFORMED');
  }
  expect(reasonOf(() => openManifest(signObject({ type: 'manifest', payload: Buffer.from('ffff', 'hex'), key }), [key.publicKey]))).toBe(
    'MANIFEST_MALFORMED',
  );
});

test('what the other side would refuse for its size is not signed', () => {
  const withSeries = (count: number, text: string): StudyManifest => ({
    ...manifest,
    series: Array.from({ length: count }, (_, number) => ({
      seriesInstanceUid: `1.2.${number}`,
      modality: 'CT',
      bodyPartExamined: text,
      instanceCount: 1,
      seriesNumber: number,
      laterality: '',
    })),
  });
  expect(openManifest(signManifest(withSeries(4096, 'CHEST'), key), [key.publicKey]).manifest.series).toHaveLength(4096);
  for (const [count, text] of [
    [4096, '胸'.repeat(64)],
    [4097, 'CHEST'],
  ] as const)
    expect(reasonOf(() => signManifest(withSeries(count, text), key))).toBe('MANIFEST_MALFORMED');
});

test('an instance list opens when it is the one that the manifest binds', () => {
  expect(openInstanceList(listBytes, manifest).instances.map(({ sopInstanceUid }) => sopInstanceUid)).toEqual(['1.2.3.1', '1.2.3.2']);
  expect(reasonOf(() => openInstanceList(Buffer.concat([listBytes, Buffer.from([0])]), manifest))).toBe('INSTANCE_LIST_MISMATCH');
  const unsorted = Buffer.from(InstanceList.encode(list).finish());
  expect(reasonOf(() => openInstanceList(unsorted, { ...manifest, instanceListSha256: instanceListDigest(unsorted) }))).toBe(
    'INSTANCE_LIST_MALFORMED',
  );
  expect(reasonOf(() => openInstanceList(listBytes, { ...manifest, totalBytes: 21n }))).toBe('INSTANCE_LIST_MALFORMED');
  expect(reasonOf(() => openInstanceList(listBytes, { ...manifest, instanceCount: 3 }))).toBe('INSTANCE_LIST_MALFORMED');
});
