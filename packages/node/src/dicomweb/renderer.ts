import sharp from 'sharp';
import { MeshError } from '@meridian/shared/errors';
import type { Clock } from '@meridian/shared/platform/clock';
import { openWorkerPool, type WorkerPool } from '@meridian/shared/workers';
import type { ImageDescription, Window } from './render/image-description.ts';
import type { RenderedPixels, RenderJob } from './render-job.ts';

/** Largest picture that is rendered: pixels times samples; a 5,000 x 6,000 radiograph is 30 million. */
const MAX_SAMPLES = 100_000_000;

/** Region and size that the client asks for (PS3.18 8.3.5.1.3). */
export interface Viewport {
  /** The picture is scaled to fit inside; its shape is kept. */
  readonly width: number;
  readonly height: number;
  /** Part of the stored picture to show, in its pixels. */
  readonly region?: { readonly left: number; readonly top: number; readonly width: number; readonly height: number };
}

/** One picture to make. */
export interface RenderRequest {
  /** Bytes as stored; they move to the thread and are gone afterwards. */
  readonly frame: Uint8Array;
  readonly image: ImageDescription;
  readonly window?: Window;
  readonly viewport?: Viewport;
  /** JPEG quality, 1 to 100. */
  readonly quality: number;
  readonly signal?: AbortSignal;
}

/** Makes JPEG pictures of frames. */
export interface Renderer {
  /**
   * @throws MeshError UNIMPLEMENTED / TRANSFER_SYNTAX_NOT_RENDERED; DATA_LOSS / PIXELS_BROKEN; RESOURCE_EXHAUSTED /
   * PICTURE_TOO_LARGE | WORKERS_BUSY | WORKER_OUT_OF_MEMORY; DEADLINE_EXCEEDED / WORKER_DEADLINE; INVALID_ARGUMENT / VIEWPORT_INVALID
   */
  render(request: RenderRequest): Promise<Buffer>;
  close(): Promise<void>;
}

/** Opens a renderer: pixels are decoded in threads with a deadline; scaling and JPEG run on the result, whose size is known. */
export function openRenderer(parts: { readonly threads?: number; readonly deadlineMs?: number; readonly clock?: Clock } = {}): Renderer {
  const deadlineMs = parts.deadlineMs ?? 20_000;
  const pool = openWorkerPool({
    jobs: new URL('./render-job.ts', import.meta.url),
    size: parts.threads ?? 2,
    deadlineMs,
    memoryMib: 512,
    queueLimit: 256,
    ...(parts.clock === undefined ? {} : { clock: parts.clock }),
  });
  return {
    render: async (request) => encode(await decode(pool, request), request, deadlineMs),
    close: () => pool.close(),
  };
}

/** To be asked before the frame of a picture is read. @throws MeshError RESOURCE_EXHAUSTED / PICTURE_TOO_LARGE */
export function assertPictureSize(image: ImageDescription): void {
  if (image.rows * image.columns * image.samplesPerPixel > MAX_SAMPLES)
    throw new MeshError(
      'RESOURCE_EXHAUSTED',
      'PICTURE_TOO_LARGE',
      'This picture is too large to be rendered here. Retrieve the object as it is stored.',
    );
}

async function decode(pool: WorkerPool, { frame, image, window, signal }: RenderRequest): Promise<RenderedPixels> {
  assertPictureSize(image);
  // A buffer of its own can move; a view into a larger one is copied first.
  const owned = frame.byteLength === frame.buffer.byteLength && frame.buffer instanceof ArrayBuffer ? frame : Uint8Array.from(frame);
  const job: RenderJob = { frame: owned, image, ...(window === undefined ? {} : { window }) };
  return pool.run<RenderedPixels>('renderFrame', job, {
    transfer: [owned.buffer as ArrayBuffer],
    ...(signal === undefined ? {} : { signal }),
  });
}

async function encode(pixels: RenderedPixels, { viewport, quality }: RenderRequest, deadlineMs: number): Promise<Buffer> {
  let picture = sharp(pixels.bytes, { raw: { width: pixels.width, height: pixels.height, channels: pixels.channels } }).timeout({
    seconds: Math.ceil(deadlineMs / 1000),
  });
  if (viewport?.region !== undefined) {
    const { left, top, width, height } = viewport.region;
    if (left + width > pixels.width || top + height > pixels.height)
      throw new MeshError(
        'INVALID_ARGUMENT',
        'VIEWPORT_INVALID',
        `The viewport's region does not lie inside the picture of ${pixels.width} x ${pixels.height} pixels.`,
      );
    picture = picture.extract({ left, top, width, height });
  }
  if (viewport !== undefined) picture = picture.resize({ width: viewport.width, height: viewport.height, fit: 'inside' });
  return picture
    .toColourspace(pixels.channels === 1 ? 'b-w' : 'srgb')
    .jpeg({ quality, chromaSubsampling: quality >= 90 ? '4:4:4' : '4:2:0' })
    .toBuffer();
}
