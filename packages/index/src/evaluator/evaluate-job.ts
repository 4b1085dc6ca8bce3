// Runs in a worker thread: 256 elements hold a CPU for half a second.
import { evaluateBatch } from '@meridian/shared/voprf';

/** Keys and blinded elements, as they cross to the thread. */
export interface EvaluateJob {
  readonly secretKey: Uint8Array;
  readonly publicKey: Uint8Array;
  readonly blinded: readonly Uint8Array[];
}

/** The evaluated elements and the proof of the batch. */
export function evaluate(job: EvaluateJob): { evaluated: Uint8Array[]; proof: Uint8Array } {
  return evaluateBatch(job, job.blinded);
}
