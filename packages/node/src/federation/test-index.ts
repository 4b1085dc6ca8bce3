import {
  ChannelCredentials,
  Server,
  ServerCredentials,
  type sendUnaryData,
  type ServerUnaryCall,
  type ServerWritableStream,
} from '@grpc/grpc-js';
import { MeshError } from '@meridian/shared/errors';
import {
  EvaluatorServiceService,
  type EvaluateRequest,
  type EvaluateResponse,
  type GetKeysRequest,
  type GetKeysResponse,
} from '@meridian/shared/generated/meridian/v1/evaluator';
import { PushServiceService, type SubscribeRequest, type SubscribeResponse } from '@meridian/shared/generated/meridian/v1/push';
import { errorOfCall } from '@meridian/shared/grpc';
import { createEvaluatorKey, evaluateBatch, type EvaluatorKeyPair } from '@meridian/shared/voprf';

/** For tests: evaluator and push channel of an index over a real socket. */
export interface TestIndex {
  readonly address: string;
  readonly credentials: ChannelCredentials;
  epoch: string;
  key: EvaluatorKeyPair;
  /** Proves with another key than it publishes. */
  cheats: boolean;
  evaluated: number;
  readonly subscriptions: SubscribeRequest[];
  /** Sent to each subscriber, those after its cursor. */
  readonly events: SubscribeResponse[];
  push(event: SubscribeResponse): void;
  start(): Promise<void>;
  stop(): void;
}

export async function openTestIndex(): Promise<TestIndex> {
  let server: Server | undefined;
  let port = 0;
  const calls = new Set<ServerWritableStream<SubscribeRequest, SubscribeResponse>>();
  const index: TestIndex = {
    get address() {
      return `127.0.0.1:${port}`;
    },
    credentials: ChannelCredentials.createInsecure(),
    epoch: '1',
    key: createEvaluatorKey(),
    cheats: false,
    evaluated: 0,
    subscriptions: [],
    events: [],
    push: (event) => {
      index.events.push(event);
      for (const call of calls) call.write(event);
    },
    start: async () => {
      server = new Server();
      server.addService(EvaluatorServiceService, {
        evaluate: ({ request }: ServerUnaryCall<EvaluateRequest, EvaluateResponse>, callback: sendUnaryData<EvaluateResponse>) => {
          if (request.epoch !== index.epoch) return callback(errorOfCall(new MeshError('NOT_FOUND', 'KEY_EPOCH_UNKNOWN', 'rotated')));
          index.evaluated += request.blindedElements.length;
          const { evaluated, proof } = evaluateBatch(index.cheats ? createEvaluatorKey() : index.key, request.blindedElements);
          callback(null, { evaluatedElements: evaluated, proof });
        },
        getKeys: (_call: ServerUnaryCall<GetKeysRequest, GetKeysResponse>, callback: sendUnaryData<GetKeysResponse>) =>
          callback(null, { keys: [{ epoch: index.epoch, publicKey: Buffer.from(index.key.publicKey) }], currentEpoch: index.epoch }),
      });
      server.addService(PushServiceService, {
        subscribe: (call: ServerWritableStream<SubscribeRequest, SubscribeResponse>) => {
          index.subscriptions.push(call.request);
          calls.add(call);
          call.on('cancelled', () => calls.delete(call));
          for (const event of index.events) if (event.cursor > call.request.afterCursor) call.write(event);
        },
      });
      port = await new Promise<number>((resolve, reject) =>
        server?.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), (error, bound) =>
          error === null ? resolve(bound) : reject(error),
        ),
      );
    },
    stop: () => {
      calls.clear();
      server?.forceShutdown();
    },
  };
  await index.start();
  return index;
}
