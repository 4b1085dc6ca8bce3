import { asMeshError } from '@meridian/shared/errors';
import type { SubscribeResponse } from '@meridian/shared/generated/meridian/v1/push';
import { fromServiceError } from '@meridian/shared/grpc';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import type { Random } from '@meridian/shared/platform/random';
import { readSetting, writeSetting, type FederationDatabase } from './federation-tables.ts';
import type { IndexChannel } from './index-channel.ts';

/** Works off one event of the index; the cursor moves on once it resolves, and the event comes again where it does not. */
export type PushListener = (event: SubscribeResponse) => Promise<void>;

/** Longest wait before the next try; jitter takes off up to half. */
export const RECONNECT_MS = 5_000;
/** The index sends a keep-alive every 15 s: after this silence the connection is given up. */
const SILENCE_MS = 40_000;
const CURSOR = 'push-cursor';

/**
 * Keeps the push channel open until closed: reconnects, resumes after the last event that every listener has worked off.
 * @param parts.workerReady resolves once there is a listener for events that move the cursor; rejects when aborted.
 * @param parts.onConnected after each (re)connection.
 * @param parts.listeners asked anew for every event.
 */
export function openPushSubscription(parts: {
  channel: IndexChannel;
  database: FederationDatabase;
  clock: Clock;
  random: Random;
  log: Logger;
  trustListSeq: () => number;
  workerReady: (signal: AbortSignal) => Promise<void>;
  listeners: () => readonly PushListener[];
  onConnected: () => Promise<void>;
}): { close(): Promise<void> } {
  const { channel, clock, random, log } = parts;
  const closing = new AbortController();
  let attempt = 0;

  const session = async (): Promise<void> => {
    const afterCursor = (await readSetting(parts.database, CURSOR)) ?? '';
    const call = channel.push.subscribe({ afterCursor, trustListSeq: BigInt(parts.trustListSeq()) });
    call.on('error', () => undefined); // also thrown by the loop below; after it has ended nobody would listen
    const cancel = (): void => call.cancel();
    const ended = AbortSignal.any([closing.signal, channel.replaced()]);
    ended.addEventListener('abort', cancel, { once: true });
    if (ended.aborted) cancel();
    let silence = clock.after(SILENCE_MS, cancel);
    let connected = false;
    try {
      for await (const event of call as AsyncIterable<SubscribeResponse>) {
        silence.cancel();
        channel.report('connected');
        if (!connected) {
          connected = true;
          attempt = 0;
          await parts.onConnected();
        }
        // An event that moves the cursor does not come again: it waits until somebody works such events off.
        if (event.cursor !== '') await parts.workerReady(ended);
        for (const listener of parts.listeners()) await listener(event);
        if (event.cursor !== '') await writeSetting(parts.database, CURSOR, event.cursor);
        silence = clock.after(SILENCE_MS, cancel);
      }
    } finally {
      silence.cancel();
      ended.removeEventListener('abort', cancel);
      call.cancel();
    }
  };

  const run = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      try {
        await session();
      } catch (thrown) {
        if (closing.signal.aborted) return;
        const error = fromServiceError(thrown);
        if (error.reason === 'INDEX_UNREACHABLE') channel.report('unreachable');
        log[attempt === 0 ? 'info' : 'debug']({
          event: 'push-channel-lost',
          code: error.code,
          reason: error.reason,
          attempt,
          err: error.code === 'INTERNAL' ? error : undefined,
        });
      }
      const longest = Math.min(RECONNECT_MS, 250 * 2 ** Math.min(attempt, 6));
      attempt += 1;
      await clock.sleep(longest / 2 + (longest / 2) * (random.bytes(1).readUInt8() / 255), closing.signal).catch(() => undefined);
    }
  };
  const running = run().catch((thrown: unknown) => log.error({ event: 'push-channel-failed', err: asMeshError(thrown) }));
  return {
    close: async () => {
      closing.abort(new Error('closing'));
      await running;
    },
  };
}
