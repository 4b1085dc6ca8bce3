import { Channel, type ChannelCredentials, type ClientOptions } from '@grpc/grpc-js';
import { asMeshError } from '@meridian/shared/errors';
import { ConsentServiceClient } from '@meridian/shared/generated/meridian/v1/consent';
import { EvaluatorServiceClient } from '@meridian/shared/generated/meridian/v1/evaluator';
import { GrantServiceClient } from '@meridian/shared/generated/meridian/v1/grant';
import { ManifestServiceClient } from '@meridian/shared/generated/meridian/v1/manifest';
import { PushServiceClient } from '@meridian/shared/generated/meridian/v1/push';
import { QueryServiceClient } from '@meridian/shared/generated/meridian/v1/query';
import { TrustServiceClient } from '@meridian/shared/generated/meridian/v1/trust';
import { callUnary, channelOptions, type UnaryMethod } from '@meridian/shared/grpc';
import type { Clock } from '@meridian/shared/platform/clock';

/** Typed clients over the one connection to the index. */
export interface IndexClients {
  readonly manifests: ManifestServiceClient;
  readonly query: QueryServiceClient;
  readonly consent: ConsentServiceClient;
  readonly grants: GrantServiceClient;
  readonly trust: TrustServiceClient;
  readonly evaluator: EvaluatorServiceClient;
  readonly push: PushServiceClient;
}

/** Whether the index answers, and since when it does or does not. */
export interface ChannelState {
  readonly state: 'connected' | 'unreachable';
  readonly sinceEpochMs: number;
}

/** How long a call may take and what ends it early. */
export interface CallLimits {
  /** From now, 10 s unless given. */
  readonly deadlineMs?: number;
  readonly signal?: AbortSignal | undefined;
}

type Methods<Client> = {
  [
    Name in keyof Client as Client[Name] extends UnaryMethod<infer _Request, infer _Response> ? Name : never
  ]: Client[Name] extends UnaryMethod<infer Request, infer Response> ? (request: Request, limits?: CallLimits) => Promise<Response> : never;
};

/** The one gRPC connection of a node to the index. The clients change when the certificate does: take them anew for every call. */
export interface IndexChannel extends IndexClients {
  state(): ChannelState;
  /** A unary call with deadline and mesh errors: `channel.call('query', 'patientHistory', request)`. */
  call<Service extends keyof IndexClients, Method extends keyof Methods<IndexClients[Service]>>(
    service: Service,
    method: Method,
    ...call: Parameters<Methods<IndexClients[Service]>[Method]>
  ): ReturnType<Methods<IndexClients[Service]>[Method]>;
  /** Aborts when the connection is replaced by one with a newer certificate: long streams end and open again. */
  replaced(): AbortSignal;
  /** Streams say here what they saw. */
  report(state: ChannelState['state']): void;
}

/** How long calls that run on a replaced connection may go on. */
const REPLACED_GRACE_MS = 15_000;

/** Opens the channel; it connects by itself and again after every loss (back-off at most 5 s). */
export function openIndexChannel(parts: {
  address: string;
  credentials: ChannelCredentials;
  clock: Clock;
}): IndexChannel & { replace(credentials: ChannelCredentials): void; close(): void } {
  const { address, clock } = parts;
  let current = connect(address, parts.credentials);
  let state: ChannelState = { state: 'unreachable', sinceEpochMs: clock.now() };
  const report = (next: ChannelState['state']): void => {
    if (next !== state.state) state = { state: next, sinceEpochMs: clock.now() };
  };
  const call = async (service: keyof IndexClients, method: string, request: unknown, limits: CallLimits = {}): Promise<unknown> => {
    const client = current.clients[service];
    const unary = (client as unknown as Record<string, UnaryMethod<unknown, unknown>>)[method] as UnaryMethod<unknown, unknown>;
    try {
      const answer = await callUnary(unary.bind(client), request, limits);
      report('connected');
      return answer;
    } catch (thrown) {
      const error = asMeshError(thrown);
      if (error.reason === 'INDEX_UNREACHABLE' || error.reason === 'INDEX_TIMEOUT') report('unreachable');
      else if (error.code !== 'CANCELLED') report('connected');
      throw error;
    }
  };
  return {
    get manifests() {
      return current.clients.manifests;
    },
    get query() {
      return current.clients.query;
    },
    get consent() {
      return current.clients.consent;
    },
    get grants() {
      return current.clients.grants;
    },
    get trust() {
      return current.clients.trust;
    },
    get evaluator() {
      return current.clients.evaluator;
    },
    get push() {
      return current.clients.push;
    },
    state: () => state,
    call: call as IndexChannel['call'],
    replaced: () => current.replaced.signal,
    report,
    replace: (credentials) => {
      const old = current;
      current = connect(address, credentials);
      old.replaced.abort();
      clock.after(REPLACED_GRACE_MS, () => old.channel.close());
    },
    close: () => {
      current.replaced.abort();
      current.channel.close();
    },
  };
}

function connect(address: string, credentials: ChannelCredentials): { channel: Channel; clients: IndexClients; replaced: AbortController } {
  const channel = new Channel(address, credentials, channelOptions());
  const options: Partial<ClientOptions> = { channelOverride: channel };
  return {
    channel,
    replaced: new AbortController(),
    clients: {
      manifests: new ManifestServiceClient(address, credentials, options),
      query: new QueryServiceClient(address, credentials, options),
      consent: new ConsentServiceClient(address, credentials, options),
      grants: new GrantServiceClient(address, credentials, options),
      trust: new TrustServiceClient(address, credentials, options),
      evaluator: new EvaluatorServiceClient(address, credentials, options),
      push: new PushServiceClient(address, credentials, options),
    },
  };
}
