import { expect, test } from '@jest/globals';
import { manualClock } from '../store/testing/stores.ts';
import { openMemoryBudget, type HeldMemory } from './memory-budget.ts';

test('requests hold no more together than the budget, wait in order, and not for ever', async () => {
  const clock = manualClock();
  const budget = openMemoryBudget({ totalBytes: 100, waitMs: 1_000, clock });
  const order: string[] = [];
  const take = (name: string, bytes: number): Promise<HeldMemory | undefined> =>
    budget.take(bytes).then(
      (memory) => {
        order.push(name);
        return memory;
      },
      (error: { reason: string }) => void order.push(`${name} ${error.reason}`),
    );
  const first = await take('first', 80);
  const second = take('second', 50);
  const third = take('third', 10);
  await take('too large', 101);
  expect(order).toEqual(['first', 'too large MEMORY_BUSY']);
  first?.shrinkTo(50);
  const [held] = [await second, clock.advance(1_000), await third];
  expect(order.slice(2)).toEqual(['second', 'third MEMORY_BUSY']);
  first?.release();
  first?.release();
  held?.release();
  await take('all', 100);
  expect(order.at(-1)).toBe('all');
});
