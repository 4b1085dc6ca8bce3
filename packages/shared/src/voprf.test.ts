import { ristretto255_oprf } from '@noble/curves/ed25519.js';
import { expect, test } from '@jest/globals';
import { asMeshError } from './errors.ts';
import { parsePersonId } from './identifiers.ts';
import { blindPersonIds, createEvaluatorKey, evaluateBatch, evaluatorKeyFromSecret } from './voprf.ts';

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'hex'));
const ids = ['11010519491231002X', 'mrn:Hospital A:1', 'mrn:Hospital B:1'].map(parsePersonId);
const reasonOf = (action: () => unknown): string => {
  try {
    action();
  } catch (thrown) {
    return asMeshError(thrown).reason;
  }
  return 'nothing thrown';
};

test('the function gives the vectors of RFC 9497 A.1.2', () => {
  const key = ristretto255_oprf.voprf.deriveKeyPair(hex('a3'.repeat(32)), Uint8Array.from(Buffer.from('test key')));
  expect(Buffer.from(key.secretKey).toString('hex')).toBe('e6f73f344b79b379f1a0dd37e07ff62e38d9f71345ce62ae3a9bc60b04ccd909');
  expect(Buffer.from(key.publicKey).toString('hex')).toBe('c803e2cc6b05fc15064549b5920659ca4a77b2cca6f04f6b357009335476ad4e');
  expect(Buffer.from(evaluatorKeyFromSecret(key.secretKey).publicKey).toString('hex')).toBe(
    'c803e2cc6b05fc15064549b5920659ca4a77b2cca6f04f6b357009335476ad4e',
  );
  const evaluated = evaluateBatch(key, [hex('863f330cc1a1259ed5a5998a23acfd37fb4351a793a5b3c090b642ddc439b945')]).evaluated[0] as Buffer;
  expect(evaluated.toString('hex')).toBe('aa8fa048764d5623868679402ff6108d2521884fa138cd7f9c7669a9a014267e');
  const output = ristretto255_oprf.oprf.finalize(
    hex('00'),
    hex('64d37aed22a27f5191de1c1d69fadb899d8862b58eb4220029e036ec4c1f6706'),
    Uint8Array.from(evaluated),
  );
  expect(Buffer.from(output).toString('hex')).toBe(
    'b58cfbe118e0cb94d79b5fd6a6dafb98764dff49c14e1770b566e42402da1a7da4d8527693914139caee5bd03903af43a491351d23b430948dd50cde10d32b3c',
  );
});

test('the same id gives the same key under any blind, other ids and other secrets give other keys', () => {
  const key = createEvaluatorKey();
  const keysOf = (secret = key): string[] => {
    const { blinded, finalize } = blindPersonIds(ids);
    const { evaluated, proof } = evaluateBatch(secret, blinded);
    return finalize(evaluated, proof, secret.publicKey).map((patientKey) => patientKey.toString('hex'));
  };
  const first = keysOf();
  expect(keysOf()).toEqual(first);
  expect(new Set(first).size).toBe(3);
  expect(first.every((text) => text.length === 64)).toBe(true);
  expect(keysOf(createEvaluatorKey())).not.toEqual(first);
});

test('an answer under another key, or tampered with, is refused', () => {
  const key = createEvaluatorKey();
  const { blinded, finalize } = blindPersonIds(ids);
  const { evaluated, proof } = evaluateBatch(key, blinded);
  expect(reasonOf(() => finalize(evaluated, proof, createEvaluatorKey().publicKey))).toBe('EVALUATION_PROOF_INVALID');
  expect(reasonOf(() => finalize([...evaluated].reverse(), proof, key.publicKey))).toBe('EVALUATION_PROOF_INVALID');
  expect(reasonOf(() => finalize(evaluated.slice(1), proof, key.publicKey))).toBe('EVALUATION_PROOF_INVALID');
  for (const bad of [
    [],
    [Buffer.alloc(31)],
    [Buffer.alloc(32)],
    [Buffer.alloc(32, 0xff)],
    Array.from({ length: 257 }, () => blinded[0] as Buffer),
  ]) {
    expect(reasonOf(() => evaluateBatch(key, bad))).toBe('BLINDED_ELEMENT_INVALID');
  }
});
