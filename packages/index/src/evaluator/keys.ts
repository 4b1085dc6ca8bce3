import { MeshError } from '@meridian/shared/errors';
import type { Random } from '@meridian/shared/platform/random';
import { createEvaluatorKey, evaluatorKeyFromSecret, type EvaluatorKeyPair } from '@meridian/shared/voprf';

/** The evaluator's keys by epoch. Whoever has them, and the index's rows, can try person ids at leisure. */
export interface EvaluatorKeys {
  readonly currentEpoch: string;
  readonly keys: ReadonlyMap<string, EvaluatorKeyPair>;
}

/** The key file of a new evaluator, as JSON: to be written with mode 0600. Losing it unlinks every patient. */
export function createEvaluatorKeyFile(random: Random, epoch = 'e1'): string {
  const { secretKey } = createEvaluatorKey(random);
  return `${JSON.stringify({ current: epoch, keys: [{ epoch, secretKey: Buffer.from(secretKey).toString('base64') }] }, undefined, 2)}\n`;
}

/** @throws MeshError FAILED_PRECONDITION / EVALUATOR_KEY_INVALID */
export function parseEvaluatorKeyFile(text: string): EvaluatorKeys {
  try {
    const file = JSON.parse(text) as { current: string; keys: { epoch: string; secretKey: string }[] };
    const keys = new Map(file.keys.map(({ epoch, secretKey }) => [epoch, evaluatorKeyFromSecret(Buffer.from(secretKey, 'base64'))]));
    if (!keys.has(file.current)) throw new Error('the current epoch has no key');
    return { currentEpoch: file.current, keys };
  } catch (cause) {
    throw new MeshError(
      'FAILED_PRECONDITION',
      'EVALUATOR_KEY_INVALID',
      'The evaluator key file cannot be read. Restore it from its backup: without it every patient key is lost.',
      { cause },
    );
  }
}
