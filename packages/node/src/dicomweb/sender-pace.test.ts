import { expect, test } from '@jest/globals';
import type { Clock } from '@meridian/shared/platform/clock';
import { atPace } from './sender-pace.ts';

test('a trickle is ended; a slow reader on our side and a steady sender are not', async () => {
  let nowMs = 0;
  const clock = { monotonicMs: () => nowMs } as Clock;
  const run = async (chunkBytes: number, senderMs: number, readerMs: number): Promise<number> => {
    async function* sender(): AsyncGenerator<Buffer> {
      for (let count = 0; count < 200; count += 1) {
        nowMs += senderMs;
        yield Buffer.alloc(chunkBytes);
      }
    }
    let bytes = 0;
    for await (const chunk of atPace(sender(), clock)) {
      bytes += chunk.length;
      nowMs += readerMs;
    }
    return bytes;
  };
  await expect(run(1, 1_000, 0)).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED', reason: 'SENDER_TOO_SLOW' });
  expect(await run(2_048, 1_000, 0)).toBe(200 * 2_048);
  expect(await run(1, 0, 60_000)).toBe(200);
});
