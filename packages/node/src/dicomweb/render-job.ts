import { decodeFrame } from './render/decode-frame.ts';
import { toRgb } from './render/colour.ts';
import { toGrey } from './render/grey.ts';
import type { ImageDescription, Window } from './render/image-description.ts';

/** One frame to show; the bytes as they are stored. */
export interface RenderJob {
  readonly frame: Uint8Array;
  readonly image: ImageDescription;
  readonly window?: Window;
}

/** Pixels to show, row by row, 8 bits a channel. */
export interface RenderedPixels {
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
  readonly bytes: Uint8Array;
}

/** The job of the rendering threads: hostile pixel data is decoded here, under a deadline, away from the main loop. */
export async function renderFrame({ frame, image, window }: RenderJob): Promise<RenderedPixels> {
  const decoded = await decodeFrame(frame, image);
  const colour = decoded.samplesPerPixel === 3 || image.palette !== undefined;
  return {
    width: image.columns,
    height: image.rows,
    channels: colour ? 3 : 1,
    bytes: colour ? toRgb(decoded, image) : toGrey(decoded, image, window),
  };
}
