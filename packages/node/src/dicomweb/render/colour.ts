import type { DecodedFrame } from './decoded-frame.ts';
import type { ImageDescription, LookupTable } from './image-description.ts';

/** Colour pixels as RGB bytes: from RGB, YBR (full range, PS3.3 C.7.6.3.1.2) or a palette (PS3.3 C.7.6.3.1.5). */
export function toRgb(frame: DecodedFrame, image: ImageDescription): Uint8Array {
  if (image.palette !== undefined && frame.samplesPerPixel === 1) return fromPalette(frame.samples, image, image.palette);
  const bytes = toBytes(frame, image);
  return frame.photometricInterpretation.startsWith('YBR_') ? fromYbr(bytes) : bytes;
}

function toBytes(frame: DecodedFrame, image: ImageDescription): Uint8Array {
  if (image.bitsStored === 8 && frame.samples instanceof Uint8Array) return frame.samples;
  const shift = frame.aligned ? 0 : image.highBit + 1 - image.bitsStored;
  const scale = 255 / (2 ** image.bitsStored - 1);
  return Uint8Array.from(frame.samples, (sample) => Math.min(255, Math.round((sample >>> shift) * scale)));
}

function fromYbr(ybr: Uint8Array): Uint8Array {
  const rgb = new Uint8ClampedArray(ybr.length);
  for (let at = 0; at + 2 < ybr.length; at += 3) {
    const y = ybr[at] ?? 0;
    const cb = (ybr[at + 1] ?? 0) - 128;
    const cr = (ybr[at + 2] ?? 0) - 128;
    rgb[at] = y + 1.402 * cr;
    rgb[at + 1] = y - 0.344136 * cb - 0.714136 * cr;
    rgb[at + 2] = y + 1.772 * cb;
  }
  return new Uint8Array(rgb.buffer);
}

function fromPalette(
  samples: DecodedFrame['samples'],
  image: ImageDescription,
  palette: NonNullable<ImageDescription['palette']>,
): Uint8Array {
  const tables = [palette.red, palette.green, palette.blue].map((table) => ({ table, shift: shiftOf(table) }));
  const mask = 2 ** image.bitsStored - 1;
  const rgb = new Uint8Array(samples.length * 3);
  for (let at = 0; at < samples.length; at += 1) {
    const value = (samples[at] ?? 0) & mask;
    for (let colour = 0; colour < 3; colour += 1) {
      const entry = tables[colour];
      if (entry === undefined) continue;
      const index = Math.min(Math.max(value - entry.table.first, 0), entry.table.entries.length - 1);
      rgb[at * 3 + colour] = (entry.table.entries[index] ?? 0) >> entry.shift;
    }
  }
  return rgb;
}

/** Some writers declare 16 bits but store 8: then no entry reaches the upper byte. */
function shiftOf(table: LookupTable): number {
  return table.bits > 8 && table.entries.some((entry) => entry > 255) ? 8 : 0;
}
