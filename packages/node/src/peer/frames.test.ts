import { expect, test } from '@jest/globals';
import { createFrameReader, encodeFrame } from './frames.ts';

test('frames come whole whatever the pieces, and share memory where they lay in one', () => {
  const payloads = [1, 2, 127, 128, 5000, 20_000].map((size) => Buffer.alloc(size, size & 0xff));
  const wire = Buffer.concat(payloads.map(encodeFrame));
  for (const step of [1, 2, 3, 100, 4096, wire.length]) {
    const reader = createFrameReader(20_000);
    const frames: Uint8Array[] = [];
    for (let at = 0; at < wire.length; at += step) frames.push(...reader.push(wire.subarray(at, at + step)));
    expect(frames.map((frame) => Buffer.from(frame))).toEqual(payloads);
    expect(reader.pendingBytes).toBe(0);
  }
});

test('lengths that are no frames are refused before anything is kept', () => {
  const reasonFor = (bytes: number[]): unknown => {
    try {
      createFrameReader(1000).push(Uint8Array.from(bytes));
      return undefined;
    } catch (error) {
      return (error as { reason: string }).reason;
    }
  };
  expect(reasonFor([0xe9, 0x07])).toBe('FRAME_TOO_LARGE');
  expect(reasonFor([0xff, 0xff, 0xff, 0xff])).toBe('FRAME_LENGTH_INVALID');
  expect(reasonFor([0xff, 0xff, 0xff, 0x7f])).toBe('FRAME_TOO_LARGE');
  expect(reasonFor([0x00])).toBe('FRAME_EMPTY');
  expect(reasonFor([0x16, 0x03])).toBeUndefined();
});

test('a frame that has begun is told apart from a clean end', () => {
  const reader = createFrameReader(1000);
  reader.push(encodeFrame(Buffer.alloc(10)));
  expect(reader.pendingBytes).toBe(0);
  reader.push(Uint8Array.of(0x80));
  expect(reader.pendingBytes).toBeGreaterThan(0);
  reader.push(Uint8Array.of(0x01));
  expect(reader.pendingBytes).toBeGreaterThan(0);
});
