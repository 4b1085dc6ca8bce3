import { ristretto255, ristretto255_oprf } from '@noble/curves/ed25519.js';
import { MeshError } from './errors.ts';
import { normalisedPersonId, type TypedPersonId } from './person-id.ts';
import { systemRandom, type Random } from './platform/random.ts';

/** Most elements of one batch. One costs the evaluator about 1.7 ms of CPU. */
export const MAX_EVALUATION_BATCH = 256;
/** Bytes of a patient key: the first 32 of the function's 64-byte output. */
export const PATIENT_KEY_BYTES = 32;

/** The evaluator's key under one epoch. */
export interface EvaluatorKeyPair {
  /** 32-byte scalar: whoever has it can unmask the nation. */
  readonly secretKey: Uint8Array;
  /** 32-byte ristretto255 element. */
  readonly publicKey: Uint8Array;
}

/** Person ids under a blind that only the asker knows. */
export interface BlindedPersonIds {
  /** 32-byte ristretto255 elements, in the order of the ids. */
  readonly blinded: Buffer[];
  /**
   * The patient keys (32 bytes each), after the evaluator's proof was checked.
   * @throws MeshError DATA_LOSS / EVALUATION_PROOF_INVALID
   */
  readonly finalize: (evaluated: readonly Uint8Array[], proof: Uint8Array, publicKey: Uint8Array) => Buffer[];
}

/**
 * Blinds person ids for the evaluator, which learns nothing of them.
 * @see RFC 9497, mode VOPRF, suite ristretto255-SHA512
 * @throws MeshError INVALID_ARGUMENT / PERSON_ID_UNKNOWN_FORM
 */
export function blindPersonIds(ids: readonly TypedPersonId[], random: Random = systemRandom): BlindedPersonIds {
  const items = ids.map((id) => {
    const input = Buffer.from(normalisedPersonId(id), 'utf8');
    const { blind, blinded } = ristretto255_oprf.voprf.blind(input, rngOf(random));
    return { input: Uint8Array.from(input), blind, blinded };
  });
  return {
    blinded: items.map(({ blinded }) => Buffer.from(blinded)),
    finalize: (evaluated, proof, publicKey) => {
      if (evaluated.length !== items.length) throw proofInvalid();
      if (items.length === 0) return [];
      try {
        const answered = items.map((item, place) => ({ ...item, evaluated: Uint8Array.from(evaluated[place] as Uint8Array) }));
        return ristretto255_oprf.voprf
          .finalizeBatch(answered, Uint8Array.from(publicKey), Uint8Array.from(proof))
          .map((output) => Buffer.from(output.subarray(0, PATIENT_KEY_BYTES)));
      } catch (cause) {
        throw proofInvalid(cause);
      }
    },
  };
}

/** A new evaluator key. */
export function createEvaluatorKey(random: Random = systemRandom): EvaluatorKeyPair {
  return ristretto255_oprf.voprf.deriveKeyPair(Uint8Array.from(random.bytes(32)), Buffer.from('meridian.v1 patient key'));
}

/** The key pair of a stored secret scalar (32 bytes). @throws MeshError FAILED_PRECONDITION / EVALUATOR_KEY_INVALID */
export function evaluatorKeyFromSecret(secretKey: Uint8Array): EvaluatorKeyPair {
  try {
    const scalar = BigInt(`0x${Buffer.from(secretKey).reverse().toString('hex')}`);
    return { secretKey: Uint8Array.from(secretKey), publicKey: ristretto255.Point.BASE.multiply(scalar).toBytes() };
  } catch (cause) {
    throw new MeshError(
      'FAILED_PRECONDITION',
      'EVALUATOR_KEY_INVALID',
      'The evaluator key cannot be read. Restore it from its backup: without it every patient key is lost.',
      { cause },
    );
  }
}

/**
 * Evaluates blinded elements with one proof for the batch. CPU-bound: about 1.7 ms per element, so call it in a worker.
 * @throws MeshError INVALID_ARGUMENT / BLINDED_ELEMENT_INVALID
 */
export function evaluateBatch(
  key: EvaluatorKeyPair,
  blinded: readonly Uint8Array[],
  random: Random = systemRandom,
): { evaluated: Buffer[]; proof: Buffer } {
  if (blinded.length === 0 || blinded.length > MAX_EVALUATION_BATCH || blinded.some((element) => element.length !== 32))
    throw elementInvalid();
  try {
    const elements = blinded.map((element) => Uint8Array.from(element));
    const answer = ristretto255_oprf.voprf.blindEvaluateBatch(
      Uint8Array.from(key.secretKey),
      Uint8Array.from(key.publicKey),
      elements,
      rngOf(random),
    );
    return { evaluated: answer.evaluated.map((element) => Buffer.from(element)), proof: Buffer.from(answer.proof) };
  } catch (cause) {
    throw elementInvalid(cause);
  }
}

function rngOf(random: Random): (length?: number) => Uint8Array<ArrayBuffer> {
  return (length = 32) => Uint8Array.from(random.bytes(length));
}

function elementInvalid(cause?: unknown): MeshError {
  return new MeshError(
    'INVALID_ARGUMENT',
    'BLINDED_ELEMENT_INVALID',
    `A batch holds 1 to ${MAX_EVALUATION_BATCH} blinded elements of 32 bytes, each a ristretto255 element other than zero.`,
    { cause },
  );
}

function proofInvalid(cause?: unknown): MeshError {
  return new MeshError(
    'DATA_LOSS',
    'EVALUATION_PROOF_INVALID',
    "The evaluator's answer does not fit its public key; no patient key was taken from it. Tell the operator of the index.",
    { cause },
  );
}
