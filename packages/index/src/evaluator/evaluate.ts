import { MeshError } from '@meridian/shared/errors';
import type { EvaluateRequest, EvaluateResponse } from '@meridian/shared/generated/meridian/v1/evaluator';
import { EvaluatorServiceService, type EvaluatorServiceServer } from '@meridian/shared/generated/meridian/v1/evaluator';
import { unaryHandler, type CallContext } from '@meridian/shared/grpc';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import { MAX_EVALUATION_BATCH } from '@meridian/shared/voprf';
import type { WorkerPool } from '@meridian/shared/workers';
import type { Caller, CallerGate } from '../registry/caller.ts';
import type { IndexDatabase } from '../tables.ts';
import type { EvaluateJob } from './evaluate-job.ts';
import type { EvaluatorKeys } from './keys.ts';
import { countEvaluations } from './quota.ts';

/** Parts of the evaluator; its keys are its own, so that it can move to a machine of its own. */
export interface EvaluatorParts {
  readonly database: IndexDatabase;
  readonly keys: EvaluatorKeys;
  readonly workers: WorkerPool;
  readonly dailyQuota: number;
  readonly gate: CallerGate;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Module of the jobs that the worker pool of the evaluator runs. */
export const evaluatorJobs = new URL('./evaluate-job.ts', import.meta.url);

/** The evaluator's RPCs. */
export function evaluatorService(parts: EvaluatorParts): {
  definition: typeof EvaluatorServiceService;
  implementation: EvaluatorServiceServer;
} {
  const { keys, gate, log } = parts;
  return {
    definition: EvaluatorServiceService,
    implementation: {
      evaluate: unaryHandler({ log, authenticate: gate.authenticate, handle: (request, context) => evaluate(parts, request, context) }),
      getKeys: unaryHandler({
        log,
        authenticate: gate.authenticate,
        handle: () =>
          Promise.resolve({
            keys: [...keys.keys].map(([epoch, { publicKey }]) => ({ epoch, publicKey: Buffer.from(publicKey) })),
            currentEpoch: keys.currentEpoch,
          }),
      }),
    },
  };
}

/** @throws MeshError NOT_FOUND / KEY_EPOCH_UNKNOWN, INVALID_ARGUMENT / BLINDED_ELEMENT_INVALID, RESOURCE_EXHAUSTED / EVALUATION_QUOTA */
async function evaluate(
  parts: EvaluatorParts,
  request: EvaluateRequest,
  { caller, signal }: CallContext<Caller>,
): Promise<EvaluateResponse> {
  const key = parts.keys.keys.get(request.epoch);
  if (key === undefined)
    throw new MeshError(
      'NOT_FOUND',
      'KEY_EPOCH_UNKNOWN',
      'The evaluator has no key of this epoch. Ask for its keys and use the current one.',
      { details: { currentEpoch: parts.keys.currentEpoch } },
    );
  const blinded = request.blindedElements;
  if (blinded.length === 0 || blinded.length > MAX_EVALUATION_BATCH || blinded.some((element) => element.length !== 32)) {
    throw new MeshError(
      'INVALID_ARGUMENT',
      'BLINDED_ELEMENT_INVALID',
      `A batch holds 1 to ${MAX_EVALUATION_BATCH} blinded elements of 32 bytes.`,
    );
  }
  await countEvaluations(parts.database, {
    nodeId: caller.nodeId,
    evaluations: blinded.length,
    dailyQuota: parts.dailyQuota,
    nowEpochMs: parts.clock.now(),
  });
  const job: EvaluateJob = { secretKey: key.secretKey, publicKey: key.publicKey, blinded };
  const { evaluated, proof } = await parts.workers.run<{ evaluated: Uint8Array[]; proof: Uint8Array }>('evaluate', job, { signal });
  return { evaluatedElements: evaluated.map((element) => Buffer.from(element)), proof: Buffer.from(proof) };
}
