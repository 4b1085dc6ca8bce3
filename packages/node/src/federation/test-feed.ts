import { ChannelCredentials, Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import { MeshError } from '@meridian/shared/errors';
import type { AdvertiseRequest, AdvertiseResponse } from '@meridian/shared/generated/meridian/v1/manifest';
import { ManifestServiceService, StudyManifest } from '@meridian/shared/generated/meridian/v1/manifest';
import { errorOfCall } from '@meridian/shared/grpc';

/** For tests: the index's end of the feed, over a real socket, that can go away and come back. */
export interface TestFeed {
  readonly address: string;
  readonly credentials: ChannelCredentials;
  /** What is durable, in order of arrival. */
  readonly entries: { readonly feedId: string; readonly seq: number; readonly manifest: StudyManifest }[];
  readonly heartbeats: { readonly pending: number; readonly held: number }[];
  /** Entries that came although they were held. */
  doubled: number;
  /** Answer the next entry with FEED_GAP. */
  gapDue: boolean;
  /** Studies whose manifests are refused for good. */
  readonly refuses: Set<string>;
  /** Numbers that were passed over. */
  readonly passedOver: number[];
  /** Cut the connection after so many entries of a stream. */
  cutAfter: number;
  start(): Promise<void>;
  stop(): void;
}

/** For tests: listens on a free port of 127.0.0.1 and keeps it over restarts. */
export async function openTestFeed(): Promise<TestFeed> {
  let server: Server | undefined;
  let port = 0;
  const index: TestFeed = {
    get address() {
      return `127.0.0.1:${port}`;
    },
    credentials: ChannelCredentials.createInsecure(),
    entries: [],
    heartbeats: [],
    doubled: 0,
    gapDue: false,
    refuses: new Set(),
    passedOver: [],
    cutAfter: Infinity,
    start: async () => {
      server = new Server();
      server.addService(ManifestServiceService, {
        advertise: (call: ServerDuplexStream<AdvertiseRequest, AdvertiseResponse>) => serve(index, call),
      });
      port = await new Promise<number>((resolve, reject) =>
        server?.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), (error, bound) =>
          error === null ? resolve(bound) : reject(error),
        ),
      );
    },
    stop: () => server?.forceShutdown(),
  };
  await index.start();
  return index;
}

function serve(index: TestFeed, call: ServerDuplexStream<AdvertiseRequest, AdvertiseResponse>): void {
  let feedId = '';
  let taken = 0;
  let known = 0;
  let counted = 0;
  const held = (): number => {
    if (counted > index.entries.length) counted = known = 0;
    for (; counted < index.entries.length; counted += 1) if (index.entries[counted]?.feedId === feedId) known += 1;
    return known + index.passedOver.length;
  };
  call.on('error', () => undefined);
  call.on('data', ({ step }: AdvertiseRequest) => {
    if (step?.$case === 'hello') feedId = step.value.feedId.toString('hex');
    if (step?.$case === 'heartbeat') index.heartbeats.push({ pending: step.value.pending, held: held() });
    if (step?.$case === 'entry') {
      const seq = Number(step.value.seq);
      if (index.gapDue || seq > held() + 1) {
        index.gapDue = false;
        call.emit(
          'error',
          errorOfCall(new MeshError('FAILED_PRECONDITION', 'FEED_GAP', 'gap', { details: { expectedSeq: String(held() + 1) } })),
        );
        return;
      }
      const manifest = step.value.manifest === undefined ? undefined : StudyManifest.decode(step.value.manifest.payload);
      if (manifest !== undefined && index.refuses.has(manifest.studyInstanceUid)) {
        call.emit(
          'error',
          errorOfCall(new MeshError('INVALID_ARGUMENT', 'MANIFEST_MALFORMED', 'refused', { details: { refusedSeq: String(seq) } })),
        );
        return;
      }
      if (seq <= held()) index.doubled += 1;
      else if (manifest === undefined) index.passedOver.push(seq);
      else index.entries.push({ feedId, seq, manifest });
      taken += 1;
      if (taken >= index.cutAfter) {
        index.cutAfter = Infinity;
        call.emit('error', { code: 14, details: 'cut' });
        return;
      }
    }
    call.write({ acknowledgedSeq: BigInt(held()) });
  });
  call.on('end', () => call.end());
}
