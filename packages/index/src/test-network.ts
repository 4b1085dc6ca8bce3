// For tests: an index over real sockets, and nodes that speak its contract without being hospitals.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ClientDuplexStream, ClientReadableStream } from '@grpc/grpc-js';
import { signConsent, type ConsentClaims, type ConsentProvision } from '@meridian/shared/consent';
import { MeshError } from '@meridian/shared/errors';
import { ConsentServiceClient } from '@meridian/shared/generated/meridian/v1/consent';
import { EnrolmentServiceClient, type JoinRequest, type JoinResponse } from '@meridian/shared/generated/meridian/v1/enrolment';
import { EvaluatorServiceClient } from '@meridian/shared/generated/meridian/v1/evaluator';
import { GrantServiceClient } from '@meridian/shared/generated/meridian/v1/grant';
import {
  ManifestServiceClient,
  ManifestStatus,
  StudyManifest,
  type AdvertiseRequest,
  type AdvertiseResponse,
} from '@meridian/shared/generated/meridian/v1/manifest';
import { PushServiceClient, type SubscribeRequest, type SubscribeResponse } from '@meridian/shared/generated/meridian/v1/push';
import { QueryServiceClient } from '@meridian/shared/generated/meridian/v1/query';
import { TrustServiceClient } from '@meridian/shared/generated/meridian/v1/trust';
import { callUnary, channelOptions, clientCredentials, fromServiceError, type TlsIdentity } from '@meridian/shared/grpc';
import { peerIdOf, type NodeId } from '@meridian/shared/identifiers';
import type { SignedObject } from '@meridian/shared/generated/meridian/v1/common';
import { signManifest } from '@meridian/shared/manifest';
import { createSigningKey, joinProofBytes, type SigningKey } from '@meridian/shared/signed-object';
import { createTlsKeyRequest, fetchPinnedCa, parseJoinLink, pemOf } from '@meridian/shared/x509';
import { initIndex, openIndex, type IndexConfig, type MeridianIndex } from './index-server.ts';

/** An index in a temporary folder, with nodes that end with it. */
export interface TestNetwork {
  readonly folder: string;
  readonly index: MeridianIndex;
  readonly addNode: (name: string) => Promise<TestNode>;
  /** Closes the index and opens it again on its data and ports. */
  restart(between?: () => Promise<void>): Promise<void>;
}

/** A node with keys and clients. */
export interface TestNode {
  readonly nodeId: NodeId;
  readonly key: SigningKey;
  readonly peerId: string;
  readonly identity: TlsIdentity;
  readonly joined: JoinResponse;
  readonly clients: Clients;
  /** Signs and advertises one study on a feed of its own stream; resolves with the acknowledged seq. */
  feed(feedId?: Buffer): Promise<TestFeed>;
  manifest(study: Partial<StudyManifest>): StudyManifest;
  consent(
    claims: Partial<Omit<ConsentClaims, 'provision'>> & { readonly provision?: Partial<ConsentProvision>; readonly patientKey: Buffer },
  ): string;
  subscribe(request?: Partial<SubscribeRequest>): TestPush;
  readonly close: () => void;
}

/** An open feed stream. */
export interface TestFeed {
  readonly firstAck: number;
  /** Without a manifest the number is passed over. */
  send(seq: number, manifest?: StudyManifest): void;
  /** Sends what this node signed, whatever it is. */
  sendSigned(seq: number, manifest: SignedObject): void;
  heartbeat(pending?: number): void;
  acknowledged(seq: number): Promise<number>;
  /** How the stream ended: an error, or undefined when it just ended. */
  ended(): Promise<MeshError | undefined>;
  end(): void;
}

/** An open push stream. */
export interface TestPush {
  readonly events: SubscribeResponse[];
  until(matches: (event: SubscribeResponse) => boolean): Promise<SubscribeResponse>;
  ended(): Promise<MeshError | undefined>;
  cancel(): void;
}

interface Clients {
  readonly trust: TrustServiceClient;
  readonly evaluator: EvaluatorServiceClient;
  readonly manifests: ManifestServiceClient;
  readonly consents: ConsentServiceClient;
  readonly grants: GrantServiceClient;
  readonly query: QueryServiceClient;
  readonly push: PushServiceClient;
}

const WAIT_MS = 15_000;

/** Runs with an open index and closes everything after. */
export async function withIndex(
  run: (network: TestNetwork) => Promise<void>,
  config: Partial<IndexConfig> & { readonly dailyEvaluations?: number } = {},
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'meridian-index-'));
  const nodes: TestNode[] = [];
  const { dailyEvaluations, ...rest } = config;
  try {
    await initIndex({
      folder,
      name: 'Test',
      host: '127.0.0.1',
      ports: { join: 0, grpc: 0 },
      ...(dailyEvaluations === undefined ? {} : { dailyEvaluations }),
    });
    let index = await openIndex({ folder, ...rest });
    try {
      await run({
        folder,
        get index() {
          return index;
        },
        addNode: async (name) => {
          const { joinLink } = await index.addHospital({ name });
          const node = await joinNode(joinLink);
          nodes.push(node);
          return node;
        },
        restart: async (between) => {
          await index.close();
          await between?.();
          index = await openIndex({ folder, ...rest });
        },
      });
    } finally {
      for (const node of nodes) node.close();
      await index.close();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Keys and a request of a node that has not joined. */
export async function joinRequest(
  code: string,
): Promise<{ request: JoinRequest; key: SigningKey; peerKey: SigningKey; privateKeyPem: string }> {
  const [key, peerKey, tls] = [createSigningKey(), createSigningKey(), await createTlsKeyRequest()];
  const proof = joinProofBytes(code, tls.certificateSigningRequest);
  const request: JoinRequest = {
    code,
    certificateSigningRequest: tls.certificateSigningRequest,
    signingPublicKey: key.publicKey,
    peerPublicKey: peerKey.publicKey,
    peerId: peerIdOf(peerKey.publicKey),
    signingProof: key.sign(proof),
    peerProof: peerKey.sign(proof),
    addresses: ['/ip4/127.0.0.1/tcp/7500'],
    aeTitle: 'TEST',
  };
  return { request, key, peerKey, privateKeyPem: tls.privateKeyPem };
}

/** Runs with a client of the join door, the CA pinned by the link. */
export async function withEnrolment<Result>(
  joinLink: string,
  run: (client: EnrolmentServiceClient, code: string) => Promise<Result>,
): Promise<Result> {
  const link = parseJoinLink(joinLink);
  const caCertificatePem = await fetchPinnedCa(link);
  const client = new EnrolmentServiceClient(`${link.host}:${link.port}`, clientCredentials({ caCertificatePem }), channelOptions());
  try {
    return await run(client, link.code);
  } finally {
    client.close();
  }
}

/** Joins as a node would. */
export async function joinNode(joinLink: string): Promise<TestNode> {
  return withEnrolment(joinLink, async (client, code) => {
    const { request, key, privateKeyPem } = await joinRequest(code);
    const joined = await callUnary(client.join.bind(client), request);
    return nodeOf(joined, key, request.peerId, privateKeyPem);
  });
}

/** Clients of the mutual-TLS listener with any identity. */
export function clientsOf(address: string, identity: TlsIdentity): Clients & { readonly close: () => void } {
  const arguments_ = [address, clientCredentials(identity), channelOptions()] as const;
  const clients = {
    trust: new TrustServiceClient(...arguments_),
    evaluator: new EvaluatorServiceClient(...arguments_),
    manifests: new ManifestServiceClient(...arguments_),
    consents: new ConsentServiceClient(...arguments_),
    grants: new GrantServiceClient(...arguments_),
    query: new QueryServiceClient(...arguments_),
    push: new PushServiceClient(...arguments_),
  };
  return { ...clients, close: () => Object.values(clients).forEach((client) => client.close()) };
}

/** The reason of whatever a promise rejects with. */
export async function reasonOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (thrown) {
    return thrown instanceof MeshError ? `${thrown.code} ${thrown.reason}` : String(thrown);
  }
  return 'nothing thrown';
}

function nodeOf(joined: JoinResponse, key: SigningKey, peerId: string, privateKeyPem: string): TestNode {
  const nodeId = joined.nodeId as NodeId;
  const [leaf, ca] = joined.certificateChain as [Buffer, Buffer];
  const identity: TlsIdentity = {
    caCertificatePem: pemOf('CERTIFICATE', ca),
    certificateChainPem: pemOf('CERTIFICATE', leaf),
    privateKeyPem,
  };
  const clients = clientsOf(joined.indexAddress, identity);
  let consentSeq = 0;
  return {
    nodeId,
    key,
    peerId,
    identity,
    joined,
    clients,
    feed: (feedId = Buffer.alloc(16, 1)) => openFeed(clients.manifests.advertise(), feedId, key),
    manifest: (study) =>
      StudyManifest.fromPartial({
        custodianNode: nodeId,
        version: 1n,
        status: ManifestStatus.MANIFEST_STATUS_COMPLETE,
        studyDate: '20260102',
        studyTime: '101112',
        instanceCount: 2,
        totalBytes: 2048n,
        instanceListSha256: Buffer.alloc(32, 7),
        issuedAtEpochMs: BigInt(Date.now()),
        series: [{ seriesInstanceUid: `${study.studyInstanceUid ?? '1.2'}.1`, modality: 'CT', instanceCount: 2 }],
        ...study,
      } as Parameters<typeof StudyManifest.fromPartial>[0]),
    consent: ({ provision, patientKey, ...claims }) =>
      signConsent(
        {
          writer: nodeId,
          seq: (consentSeq += 1),
          consentId: `consent-${nodeId}-${consentSeq}`,
          patientKeys: [{ key: patientKey.toString('base64url'), epoch: 'e1' }],
          status: 'active',
          issuedAtEpochMs: Date.now(),
          validFromEpochMs: Date.now() - 1000,
          validUntilEpochMs: Date.now() + 3_600_000,
          basis: 'operator-recorded',
          clerk: 'clerk-1',
          causes: [],
          provision: { grantee: { kind: 'any-treating' }, purposes: ['TREAT'], ...provision },
          ...claims,
        },
        key,
      ),
    subscribe: (request = {}) => openPush(clients.push.subscribe({ afterCursor: '', trustListSeq: 0n, ...request })),
    close: clients.close,
  };
}

async function openFeed(call: ClientDuplexStream<AdvertiseRequest, AdvertiseResponse>, feedId: Buffer, key: SigningKey): Promise<TestFeed> {
  const acks: number[] = [];
  const waiting = new Set<() => void>();
  const stir = (): void => waiting.forEach((waiter) => waiter());
  let outcome: { error: MeshError | undefined } | undefined;
  call.on('data', (response: AdvertiseResponse) => {
    acks.push(Number(response.acknowledgedSeq));
    stir();
  });
  const end = (error: MeshError | undefined): void => {
    outcome ??= { error };
    stir();
  };
  call.on('error', (error: unknown) => end(fromServiceError(error)));
  call.on('end', () => setImmediate(() => end(undefined)));
  const until = (met: () => boolean): Promise<void> =>
    waitFor(waiting, met, () => `acknowledged ${acks.at(-1)}, ended ${outcome?.error?.reason}`);
  call.write({ step: { $case: 'hello', value: { feedId } } });
  await until(() => acks.length > 0 || outcome !== undefined);
  return {
    firstAck: acks[0] ?? -1,
    send: (seq, manifest) =>
      call.write({
        step: { $case: 'entry', value: { seq: BigInt(seq), manifest: manifest === undefined ? undefined : signManifest(manifest, key) } },
      }),
    sendSigned: (seq, manifest) => call.write({ step: { $case: 'entry', value: { seq: BigInt(seq), manifest } } }),
    heartbeat: (pending = 0) => call.write({ step: { $case: 'heartbeat', value: { asOfEpochMs: BigInt(Date.now()), pending } } }),
    acknowledged: async (seq) => {
      await until(() => (acks.at(-1) ?? 0) >= seq || outcome !== undefined);
      return acks.at(-1) ?? 0;
    },
    ended: async () => {
      await until(() => outcome !== undefined);
      return outcome?.error;
    },
    end: () => call.end(),
  };
}

function openPush(call: ClientReadableStream<SubscribeResponse>): TestPush {
  const events: SubscribeResponse[] = [];
  const waiting = new Set<() => void>();
  const stir = (): void => waiting.forEach((waiter) => waiter());
  let outcome: { error: MeshError | undefined } | undefined;
  call.on('data', (event: SubscribeResponse) => {
    events.push(event);
    stir();
  });
  const end = (error: MeshError | undefined): void => {
    outcome ??= { error };
    stir();
  };
  call.on('error', (error: unknown) => end(fromServiceError(error)));
  call.on('end', () => setImmediate(() => end(undefined)));
  return {
    events,
    until: async (matches) => {
      await waitFor(
        waiting,
        () => events.some(matches),
        () => `events ${events.map((event) => event.event?.$case).join()}`,
      );
      return events.find(matches) as SubscribeResponse;
    },
    ended: async () => {
      await waitFor(
        waiting,
        () => outcome !== undefined,
        () => 'still open',
      );
      return outcome?.error;
    },
    cancel: () => call.cancel(),
  };
}

function waitFor(waiting: Set<() => void>, met: () => boolean, describe: () => string): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      waiting.delete(check);
      reject(new Error(`waited too long: ${describe()}`));
    }, WAIT_MS);
    const check = (): void => {
      if (!met()) return;
      clearTimeout(timer);
      waiting.delete(check);
      resolve();
    };
    waiting.add(check);
    check();
  });
}
