import type { DecodedFrame } from './decoded-frame.ts';
import type { ImageDescription, LookupTable, Window } from './image-description.ts';

/** Shares of the darkest and brightest measured pixels that a window made from the histogram leaves out. */
const CLIPPED_SHARE = 0.005;

/**
 * Grey pixels as bytes to show: sign and bits stored, modality transform, window, inversion (PS3.3 C.11, PS3.4 N.2).
 * @param asked the client's window; else the object's window or table; else one from the histogram.
 */
export function toGrey(frame: DecodedFrame, image: ImageDescription, asked: Window | undefined): Uint8Array {
  const bits = Math.min(image.bitsStored, 32);
  const shift = frame.aligned ? 0 : image.highBit + 1 - bits;
  const mask = 2 ** bits - 1;
  const half = 2 ** (bits - 1);
  const stored = (sample: number): number => {
    const value = bits === 32 ? sample : (sample >>> shift) & mask;
    return image.signed && value >= half ? value - 2 * half : value;
  };
  const modality = modalityOf(image);
  const window =
    asked ?? image.window ?? (image.windowTable === undefined ? windowOfHistogram(frame.samples, image, stored, modality) : undefined);
  const show = window === undefined ? tableShow(image.windowTable) : windowShow(window);
  const value = (sample: number): number => {
    const shown = Math.min(255, Math.max(0, Math.round(show(modality(stored(sample))))));
    return image.inverted ? 255 - shown : shown;
  };
  if (frame.samples instanceof Uint32Array) return Uint8Array.from(frame.samples, value);
  // One entry for each possible word: far cheaper than one computation for each pixel.
  const table = Uint8Array.from({ length: frame.samples instanceof Uint8Array ? 256 : 65_536 }, (_, sample) => value(sample));
  const grey = new Uint8Array(frame.samples.length);
  for (let at = 0; at < grey.length; at += 1) grey[at] = table[frame.samples[at] ?? 0] ?? 0;
  return grey;
}

function modalityOf(image: ImageDescription): (stored: number) => number {
  const { modalityTable, rescaleSlope, rescaleIntercept } = image;
  if (modalityTable !== undefined) return (stored) => lookUp(modalityTable, stored);
  return (stored) => stored * rescaleSlope + rescaleIntercept;
}

function lookUp(table: LookupTable, value: number): number {
  return table.entries[Math.min(Math.max(Math.round(value) - table.first, 0), table.entries.length - 1)] ?? 0;
}

function tableShow(table: LookupTable | undefined): (value: number) => number {
  if (table === undefined) return (value) => value;
  const scale = 255 / (2 ** table.bits - 1);
  return (value) => lookUp(table, value) * scale;
}

/** PS3.3 C.11.2.1.2 and C.11.2.1.3, output 0 to 255. */
function windowShow({ center, width, function: shape }: Window): (value: number) => number {
  if (shape === 'SIGMOID') return (value) => 255 / (1 + Math.exp((-4 * (value - center)) / width));
  if (shape === 'LINEAR_EXACT') return (value) => ((value - center) / width + 0.5) * 255;
  const middle = center - 0.5;
  const span = width - 1;
  // A window of width 1 is a threshold.
  if (span <= 0) return (value) => (value <= middle ? 0 : 255);
  return (value) => ((value - middle) / span + 0.5) * 255;
}

function windowOfHistogram(
  samples: DecodedFrame['samples'],
  image: ImageDescription,
  stored: (sample: number) => number,
  modality: (stored: number) => number,
): Window {
  const step = Math.max(1, Math.floor(samples.length / 250_000));
  const values: number[] = [];
  for (let at = 0; at < samples.length; at += step) {
    const value = stored(samples[at] ?? 0);
    if (image.padding === undefined || value < image.padding.from || value > image.padding.to) values.push(modality(value));
  }
  const sorted = Float64Array.from(values).sort();
  const low = sorted[Math.floor(sorted.length * CLIPPED_SHARE)] ?? 0;
  const high = sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * (1 - CLIPPED_SHARE)))] ?? low;
  return { center: (low + high) / 2, width: Math.max(high - low, 1e-6), function: 'LINEAR_EXACT' };
}
