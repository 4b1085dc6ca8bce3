import { readConsent } from '@meridian/shared/consent';
import { asMeshError, MeshError } from '@meridian/shared/errors';
import type { SignedObject } from '@meridian/shared/generated/meridian/v1/common';
import { ManifestStatus, type InstanceEntry, type InstanceList } from '@meridian/shared/generated/meridian/v1/manifest';
import { readGrant } from '@meridian/shared/grant';
import type { NodeId } from '@meridian/shared/identifiers';
import type { Logger } from '@meridian/shared/log';
import { MANIFEST_LIMITS, openInstanceList, openManifest, type OpenManifest } from '@meridian/shared/manifest';
import type { Clock } from '@meridian/shared/platform/clock';
import type { PeerHost, PeerStream } from '../peer/peer-host.ts';
import { errorOfClose } from './close-reason.ts';
import { decodeStep, encodeStep, type Step } from './codec.ts';
import { MIN_WINDOW_BYTES, TRANSFER_PROTOCOL, WINDOW_BYTES } from './limits.ts';
import { planOrder } from './plan.ts';
import type { AuditSink, FetchStore, PeerIngestSource } from './ports.ts';
import { openReceiveWindow, type ReceiveWindow, type TransferLog } from './receive-window.ts';
import { keepRenewed } from './renewal.ts';

/** How far a fetch is; what was held before counts as verified. */
export interface FetchProgress {
  readonly instancesVerified: number;
  readonly instancesTotal: number;
  readonly bytesVerified: number;
  readonly bytesTotal: number;
  /** From the start of the fetch to the first durable instance, milliseconds. */
  readonly firstImageMs: number | undefined;
}

/** What a fetch did. */
export interface FetchResult {
  readonly instances: number;
  readonly bytes: number;
  /** Held before, by digest, and not asked for. */
  readonly resumedInstances: number;
  readonly digestMismatches: number;
  readonly firstImageMs: number | undefined;
  readonly manifestVersion: number;
  readonly transferLog: Readonly<TransferLog>;
}

/** A study to fetch from one holder under a grant. */
export interface FetchRequest {
  readonly peerHost: Pick<PeerHost, 'dial'>;
  readonly store: FetchStore;
  readonly audit: AuditSink;
  readonly clock: Clock;
  readonly log: Logger;
  /** Compact grant. */
  readonly grant: string;
  /** A fresh grant for the same study and holder, from the index. */
  readonly renewGrant: (signal: AbortSignal) => Promise<string>;
  /** The manifest that came with the grant: the holder's may be newer, never older. */
  readonly manifest: SignedObject;
  /** Raw Ed25519 keys of the holder. */
  readonly holderKeys: readonly Uint8Array[];
  readonly holderNode: NodeId;
  readonly studyInstanceUid: string;
  readonly localPatientPk: number;
  readonly consentHash: string;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: FetchProgress) => void;
}

/**
 * Fetches what is missing of a study and stores it, every instance checked against the holder's signed list.
 * What is durable when it breaks stays, and is not asked for again.
 * @throws MeshError of the holder's refusal, UNAVAILABLE / PEER_…, DATA_LOSS / …, or the signal's reason.
 */
export async function fetchStudy(request: FetchRequest): Promise<FetchResult> {
  request.signal.throwIfAborted();
  const startedAtMs = request.clock.monotonicMs();
  const stream = await request.peerHost.dial(request.holderNode, TRANSFER_PROTOCOL, request.signal);
  const onAbort = (): void => stream.abort('cancelled');
  request.signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await transfer(request, stream, startedAtMs);
  } catch (thrown) {
    request.signal.throwIfAborted();
    throw asMeshError(thrown);
  } finally {
    request.signal.removeEventListener('abort', onAbort);
    await stream.close();
  }
}

async function transfer(request: FetchRequest, stream: PeerStream, startedAtMs: number): Promise<FetchResult> {
  const { studyInstanceUid, store } = request;
  const steps = readSteps(stream);
  stream.send(encodeStep({ $case: 'hello', value: { grant: { compact: request.grant }, studyInstanceUid, codings: ['identity'] } }));
  const { opened, windowBytes } = await readAccept(request, steps);
  const list = await readList(stream, steps, opened);
  const version = Number(opened.manifest.version);
  const { jti, cst } = readGrant(request.grant);
  const { consentId, validUntilEpochMs } = readConsent(cst.statement);
  await store.fetched.begin({
    studyInstanceUid,
    holderNode: request.holderNode,
    manifest: opened.signed.payload,
    manifestSha256: opened.digest,
    version,
    expected: list,
    consentHash: request.consentHash,
    consentId,
    validUntilEpochMs,
    localPatientPk: request.localPatientPk,
  });

  const missing = await store.fetched.missing(studyInstanceUid);
  const counters: TransferLog = { instancesAsked: 0, instancesVerified: 0, bytesReceived: 0, bytesVerified: 0, digestMismatches: 0 };
  const progress = trackProgress(request, list, missing, startedAtMs);
  const provenance = { holderNode: request.holderNode, manifestSha256: opened.digest, jti, consentHash: request.consentHash };
  const window = openReceiveWindow({
    instances: planOrder(missing),
    windowBytes,
    log: counters,
    begin: (entry) => store.ingest.begin({ ...sourceOf(request, entry), provenance }),
    onVerified: (entry) => {
      request.log.debug({
        event: 'transfer.instance-verified',
        study: studyInstanceUid,
        sop: entry.sopInstanceUid,
        bytes: Number(entry.bytes),
      });
      progress.verified(entry);
    },
  });
  const renewal = keepRenewed(request, stream);
  let failure: MeshError | undefined;
  try {
    await receiveAll(stream, steps, window, renewal);
  } catch (thrown) {
    failure = renewal.failure() ?? asMeshError(request.signal.aborted ? request.signal.reason : thrown);
  } finally {
    renewal.stop();
    await window.abort();
  }

  const resumedInstances = list.instances.length - missing.length;
  await logReceipt(request, { counters, version, resumedInstances, failure });
  if (failure !== undefined) throw failure;
  await store.fetched.complete(studyInstanceUid);
  stream.send(
    encodeStep({
      $case: 'receipt',
      value: {
        studyInstanceUid,
        manifestVersion: BigInt(version),
        instancesVerified: counters.instancesVerified,
        bytesReceived: BigInt(counters.bytesReceived),
        instancesHeldBefore: resumedInstances,
      },
    }),
  );
  return {
    instances: list.instances.length,
    bytes: Number(opened.manifest.totalBytes),
    resumedInstances,
    digestMismatches: counters.digestMismatches,
    firstImageMs: progress.firstImageMs(),
    manifestVersion: version,
    transferLog: counters,
  };
}

/** The holder's steps one by one; CLOSE and an early end are thrown. */
type Steps = () => Promise<Step>;

function readSteps(stream: PeerStream): Steps {
  const frames = stream.messages()[Symbol.asyncIterator]();
  return async () => {
    for (;;) {
      const frame = await frames.next();
      if (frame.done === true)
        throw new MeshError(
          'UNAVAILABLE',
          'PEER_GONE',
          'The other hospital ended the transfer early. Try again: what has arrived is kept.',
        );
      const step = decodeStep(frame.value);
      if (step?.$case === 'close') throw errorOfClose(step.value);
      if (step !== undefined) return step;
    }
  };
}

async function readAccept(
  request: FetchRequest,
  steps: Steps,
): Promise<{ opened: OpenManifest & { signed: SignedObject }; windowBytes: number }> {
  const step = await steps();
  if (step.$case !== 'accept' || step.value.coding !== 'identity' || step.value.windowBytes < BigInt(MIN_WINDOW_BYTES))
    throw misbehaved('it did not accept as the protocol says');
  const signed = step.value.manifest;
  if (signed === undefined) throw misbehaved('it sent no manifest');
  const opened = openManifest(signed, request.holderKeys);
  const granted = openManifest(request.manifest, request.holderKeys).manifest;
  const { manifest } = opened;
  if (manifest.studyInstanceUid !== request.studyInstanceUid || manifest.custodianNode !== request.holderNode)
    throw misbehaved('it sent the manifest of another study');
  if (manifest.version < granted.version) throw misbehaved('it sent an older version of the study than it had announced');
  if (manifest.status === ManifestStatus.MANIFEST_STATUS_DELETED || manifest.status === ManifestStatus.MANIFEST_STATUS_REJECTED) {
    throw new MeshError(
      'FAILED_PRECONDITION',
      'STUDY_WITHDRAWN',
      'The hospital that holds this study has withdrawn it. Ask its radiology department.',
    );
  }
  return {
    opened: { ...opened, signed },
    windowBytes: Number(step.value.windowBytes < BigInt(WINDOW_BYTES) ? step.value.windowBytes : WINDOW_BYTES),
  };
}

async function readList(stream: PeerStream, steps: Steps, opened: OpenManifest): Promise<InstanceList> {
  stream.send(encodeStep({ $case: 'listRequest', value: {} }));
  const pieces: Buffer[] = [];
  let bytes = 0;
  for (;;) {
    const step = await steps();
    if (step.$case !== 'list') throw misbehaved('it did not send the list that it was asked for');
    bytes += step.value.piece.length;
    if (bytes > MANIFEST_LIMITS.instanceListBytes) throw misbehaved('its list has no end');
    pieces.push(step.value.piece);
    if (step.value.last) return openInstanceList(Buffer.concat(pieces), opened.manifest);
    if (step.value.piece.length === 0) throw misbehaved('its list has empty pieces');
  }
}

async function receiveAll(
  stream: PeerStream,
  steps: Steps,
  window: ReceiveWindow,
  renewal: { failure(): MeshError | undefined },
): Promise<void> {
  while (!window.finished) {
    for (const get of window.take()) if (!stream.send(encodeStep({ $case: 'get', value: get }))) await stream.drained();
    if (!window.awaiting) {
      await window.stored();
      continue;
    }
    const step = await steps();
    const failure = renewal.failure();
    if (failure !== undefined) throw failure;
    if (step.$case !== 'data') throw misbehaved(`it sent ${step.$case.toUpperCase()} in the middle of the pixels`);
    await window.receive(step.value);
  }
}

function sourceOf(request: FetchRequest, entry: InstanceEntry): Omit<PeerIngestSource, 'provenance'> {
  return {
    door: 'peer',
    transferSyntaxUid: entry.transferSyntaxUid,
    // A patient id without issuer is the sending hospital's, never ours.
    assigningAuthority: request.holderNode,
    expected: {
      sopClassUid: entry.sopClassUid,
      sopInstanceUid: entry.sopInstanceUid,
      studyInstanceUid: request.studyInstanceUid,
      sha256: entry.sha256,
      bytes: Number(entry.bytes),
    },
  };
}

function trackProgress(
  request: FetchRequest,
  list: InstanceList,
  missing: readonly InstanceEntry[],
  startedAtMs: number,
): { verified(entry: InstanceEntry): void; firstImageMs(): number | undefined } {
  const bytesOf = (entries: readonly InstanceEntry[]): number => entries.reduce((sum, entry) => sum + Number(entry.bytes), 0);
  const bytesTotal = bytesOf(list.instances);
  let instancesVerified = list.instances.length - missing.length;
  let bytesVerified = bytesTotal - bytesOf(missing);
  let firstImageMs: number | undefined;
  const tell = (): void =>
    request.onProgress({ instancesVerified, instancesTotal: list.instances.length, bytesVerified, bytesTotal, firstImageMs });
  tell();
  return {
    verified(entry) {
      instancesVerified += 1;
      bytesVerified += Number(entry.bytes);
      firstImageMs ??= request.clock.monotonicMs() - startedAtMs;
      tell();
    },
    firstImageMs: () => firstImageMs,
  };
}

async function logReceipt(
  request: FetchRequest,
  outcome: { counters: TransferLog; version: number; resumedInstances: number; failure: MeshError | undefined },
): Promise<void> {
  const { counters, failure } = outcome;
  const { jti, sub } = readGrant(request.grant);
  await request.audit.append({
    type: 'RECEIVE',
    jti,
    study: request.studyInstanceUid,
    peer: request.holderNode,
    subject: sub,
    bytes: counters.bytesVerified,
    instances: counters.instancesVerified,
    ...(failure === undefined ? {} : { reason: failure.reason }),
    detail: {
      consent: request.consentHash,
      manifestVersion: outcome.version,
      resumedInstances: outcome.resumedInstances,
      instancesAsked: counters.instancesAsked,
      digestMismatches: counters.digestMismatches,
    },
  });
}

function misbehaved(what: string): MeshError {
  return new MeshError(
    'DATA_LOSS',
    'PEER_PROTOCOL',
    `The other hospital's node misbehaved: ${what}. Nothing wrong was stored; its IT department must look at it.`,
  );
}
