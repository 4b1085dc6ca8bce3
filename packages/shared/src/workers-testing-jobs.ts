import { MeshError } from './errors.ts';

/** Jobs for the tests of workers.ts: what good work, an error, an endless loop and a hungry job look like. */
export function double(value: number): number {
  return value * 2;
}

export function refuse(): never {
  throw new MeshError('INVALID_ARGUMENT', 'TEST_REFUSED', 'Refused.');
}

export function hang(): never {
  for (;;);
}

export function grow(): number {
  const held: number[][] = [];
  for (;;) held.push(Array.from({ length: 100_000 }, Math.random));
}

export function exit(): never {
  process.exit(3);
}

export async function nap(ms: number): Promise<number> {
  await new Promise((resolve) => setTimeout(resolve, ms));
  return ms;
}
