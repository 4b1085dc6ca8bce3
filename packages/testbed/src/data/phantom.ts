import { seededRandom } from '../campaigns/campaign.ts';

// Taken once: inside a test runner's context every look at a global is slow.
const { max, round } = Math;

/** A picture of numbers: rows × columns of 16-bit values. */
export interface Picture {
  readonly rows: number;
  readonly columns: number;
  /** rows × columns × 2 bytes, little endian. */
  readonly pixels: Buffer;
}

interface Ellipse {
  readonly x: number;
  readonly y: number;
  readonly radiusX: number;
  readonly radiusY: number;
  readonly value: number;
}

/**
 * An axial slice through a chest-like phantom, in stored values of a CT (Hounsfield + 1024), with quantum noise, so that
 * it compresses as a real slice does.
 * @param level position along the body, 0 (top) to 1.
 */
export function ctSlice(options: { size: number; level: number; seed: number }): Picture {
  const breadth = 0.8 + 0.15 * Math.sin(options.level * Math.PI);
  return paint(options, 24, [
    { x: 0, y: 0, radiusX: 0.88 * breadth, radiusY: 0.62 * breadth, value: 1074 },
    { x: -0.4, y: -0.02, radiusX: 0.3 * breadth, radiusY: 0.42 * breadth, value: 174 },
    { x: 0.4, y: -0.02, radiusX: 0.3 * breadth, radiusY: 0.42 * breadth, value: 174 },
    { x: 0.06, y: -0.08, radiusX: 0.16, radiusY: 0.2 + 0.05 * Math.cos(options.level * 6), value: 1064 },
    { x: 0, y: 0.42, radiusX: 0.1, radiusY: 0.1, value: 1524 },
    { x: 0, y: 0.36, radiusX: 0.04, radiusY: 0.04, value: 1044 },
    { x: 0.46, y: -0.1 + 0.2 * options.level, radiusX: 0.03, radiusY: 0.03, value: 1100 },
  ]);
}

/** An axial slice through a head-like phantom with MR-like contrast. */
export function mrSlice(options: { size: number; level: number; seed: number }): Picture {
  const breadth = Math.sqrt(Math.max(0.08, 1 - (2 * options.level - 1) ** 2));
  return paint(options, 14, [
    { x: 0, y: 0, radiusX: 0.7 * breadth, radiusY: 0.86 * breadth, value: 720 },
    { x: 0, y: 0, radiusX: 0.64 * breadth, radiusY: 0.8 * breadth, value: 90 },
    { x: 0, y: 0, radiusX: 0.61 * breadth, radiusY: 0.77 * breadth, value: 520 },
    { x: -0.12, y: -0.08, radiusX: 0.07, radiusY: 0.25 * breadth, value: 160 },
    { x: 0.12, y: -0.08, radiusX: 0.07, radiusY: 0.25 * breadth, value: 160 },
    { x: 0.3, y: 0.25, radiusX: 0.09, radiusY: 0.09, value: 640 },
  ]);
}

/** A chest radiograph-like picture. */
export function radiograph(options: { size: number; seed: number }): Picture {
  return paint({ ...options, level: 0.5 }, 40, [
    { x: 0, y: 0.05, radiusX: 0.92, radiusY: 0.95, value: 2400 },
    { x: -0.42, y: -0.05, radiusX: 0.32, radiusY: 0.62, value: 900 },
    { x: 0.42, y: -0.05, radiusX: 0.32, radiusY: 0.62, value: 900 },
    { x: 0.12, y: 0.25, radiusX: 0.28, radiusY: 0.3, value: 2700 },
    { x: 0, y: 0, radiusX: 0.09, radiusY: 0.9, value: 2900 },
  ]);
}

function paint(options: { size: number; seed: number; level: number }, noise: number, ellipses: readonly Ellipse[]): Picture {
  const { size } = options;
  const random = seededRandom(options.seed * 7919 + Math.round(options.level * 1e6));
  const values = new Uint16Array(size * size);
  for (const ellipse of ellipses) fill(values, size, ellipse);
  for (let at = 0; at < values.length; at += 1) {
    const jitter = (random() + random() + random() - 1.5) * noise;
    values[at] = max(0, (values[at] ?? 0) + round(jitter) + 8);
  }
  return { rows: size, columns: size, pixels: Buffer.from(values.buffer) };
}

function fill(values: Uint16Array, size: number, ellipse: Ellipse): void {
  const half = size / 2;
  const firstRow = Math.max(0, Math.floor(half + (ellipse.y - ellipse.radiusY) * half));
  const lastRow = Math.min(size - 1, Math.ceil(half + (ellipse.y + ellipse.radiusY) * half));
  for (let row = firstRow; row <= lastRow; row += 1) {
    const dy = ((row - half) / half - ellipse.y) / ellipse.radiusY;
    const reach = 1 - dy * dy;
    if (reach <= 0) continue;
    const dx = Math.sqrt(reach) * ellipse.radiusX;
    const from = Math.max(0, Math.round(half + (ellipse.x - dx) * half));
    const to = Math.min(size, Math.round(half + (ellipse.x + dx) * half));
    values.fill(ellipse.value, row * size + from, row * size + to);
  }
}
