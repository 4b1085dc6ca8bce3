import { expect, test } from '@jest/globals';
import type { Store } from './store.ts';
import { makeInstance } from './testing/data-sets.ts';
import { manualClock, send, usingStore, type ManualClock } from './testing/stores.ts';

const SECOND = 1_000;
const MINUTE = 60_000;

async function after(store: Store, clock: ManualClock, ms: number): Promise<string> {
  await store.idle();
  clock.advance(ms);
  await store.idle();
  const study = await store.studies.study('1.2.3');
  return `${study?.state} ${study?.version}`;
}

const kinds = async (store: Store): Promise<string[]> =>
  (await store.changes.after(0, 100)).map(({ kind, version }) => `${kind} ${version}`);

test('a study settles after a minute of silence; a late instance begins the next version', async () => {
  const clock = manualClock();
  await usingStore({ clock }, async (store) => {
    await send(store, makeInstance());
    expect(await after(store, clock, 59 * SECOND)).toBe('receiving 1');
    await send(store, makeInstance({ sop: '1.2.3.1.2' }));
    expect(await after(store, clock, 59 * SECOND)).toBe('receiving 1');
    expect(await after(store, clock, 1 * SECOND)).toBe('settled 1');
    expect((await store.studies.study('1.2.3'))?.complete).toBe(true);
    await store.settle.markAdvertised('1.2.3', 1);
    expect(await after(store, clock, 0)).toBe('advertised 1');
    await send(store, makeInstance({ sop: '1.2.3.1.2' }));
    expect(await after(store, clock, MINUTE)).toBe('advertised 1');
    await send(store, makeInstance({ sop: '1.2.3.1.3' }));
    await send(store, makeInstance({ sop: '1.2.3.1.4' }));
    expect(await after(store, clock, 0)).toBe('amended 2');
    await store.settle.markAdvertised('1.2.3', 1);
    expect(await after(store, clock, 0)).toBe('amended 2');
    expect(await after(store, clock, MINUTE)).toBe('amended 2');
    expect(await kinds(store)).toEqual(['study-settled 1', 'study-amended 2']);
    await store.settle.markAdvertised('1.2.3', 2);
    expect(await after(store, clock, MINUTE)).toBe('advertised 2');
    expect(await store.settle.now('1.2.3')).toBe(false);
  });
});

test('an association that stays open is no news: an unfinished study is announced once for what came', async () => {
  const clock = manualClock();
  await usingStore({ clock }, async (store) => {
    store.ingest.associationOpened('a');
    await send(store, makeInstance(), { associationId: 'a' });
    const anHour = async (): Promise<void> => {
      for (let minute = 0; minute < 60; minute++) {
        clock.advance(MINUTE);
        store.ingest.associationActive('a');
        await store.idle();
      }
    };
    await anHour();
    expect(await kinds(store)).toEqual(['study-incomplete 1']);
    await send(store, makeInstance({ sop: '1.2.3.1.2' }), { associationId: 'a' });
    await anHour();
    expect(await kinds(store)).toEqual(['study-incomplete 1', 'study-incomplete 2']);
    store.ingest.associationClosed('a', 'released');
    expect(await after(store, clock, 15 * SECOND)).toBe('settled 3');
  });
});

test('a normal release shortens the wait, an abort does not, an open association that is active holds it open', async () => {
  const clock = manualClock();
  await usingStore({ clock }, async (store) => {
    store.ingest.associationOpened('a');
    await send(store, makeInstance(), { associationId: 'a' });
    expect(await after(store, clock, 4 * MINUTE)).toBe('receiving 1');
    store.ingest.associationActive('a');
    expect(await after(store, clock, 59 * SECOND)).toBe('receiving 1');
    await send(store, makeInstance({ sop: '1.2.3.1.9' }), { associationId: 'a' });
    store.ingest.associationClosed('a', 'released');
    expect(await after(store, clock, 14 * SECOND)).toBe('receiving 2');
    expect(await after(store, clock, 1 * SECOND)).toBe('settled 2');

    store.ingest.associationOpened('b');
    await send(store, makeInstance({ sop: '1.2.3.1.2' }), { associationId: 'b' });
    clock.advance(20 * SECOND);
    store.ingest.associationClosed('b', 'aborted');
    expect(await after(store, clock, 39 * SECOND)).toBe('amended 3');
    expect(await kinds(store)).toEqual(['study-incomplete 1', 'study-settled 2']);
    expect(await after(store, clock, 1 * SECOND)).toBe('amended 3');
    expect(await kinds(store)).toEqual(['study-incomplete 1', 'study-settled 2', 'study-amended 3']);

    store.ingest.associationOpened('c');
    await send(store, makeInstance({ sop: '1.2.3.1.3' }), { associationId: 'c' });
    expect(await after(store, clock, 5 * MINUTE - 1)).toBe('amended 4');
    expect((await kinds(store)).length).toBe(3);
    expect(await after(store, clock, 1)).toBe('amended 4');
    expect((await kinds(store)).at(-1)).toBe('study-amended 4');
    expect(store.settle.arriving()).toEqual([]);
  });
});

test('steady receiving is announced as incomplete every five minutes, and an explicit word settles at once', async () => {
  const clock = manualClock();
  await usingStore({ clock }, async (store) => {
    for (let n = 1; n <= 11; n++) {
      await send(store, makeInstance({ sop: `1.2.3.1.${n}`, instanceNumber: n }));
      await after(store, clock, 59 * SECOND);
    }
    expect(await kinds(store)).toEqual(['study-incomplete 1', 'study-incomplete 2']);
    let told = 0;
    const stop = store.changes.onChange(() => told++);
    expect(await store.settle.now('1.2.3')).toBe(true);
    expect(told).toBe(1);
    stop();
    expect((await kinds(store)).at(-1)).toBe('study-settled 3');
    expect((await store.changes.after(2, 10)).map(({ studyInstanceUid, detail }) => [studyInstanceUid, detail])).toEqual([
      ['1.2.3', { instances: 11 }],
    ]);
    expect(await store.changes.lastSeq()).toBe(3);
  });
});

test('studies that were arriving when the node stopped settle after the restart', async () => {
  const clock = manualClock();
  await usingStore({ clock }, async (store, { reopen }) => {
    await send(store, makeInstance());
    store = await reopen();
    expect(store.settle.arriving()).toEqual(['1.2.3']);
    expect(await after(store, clock, 59 * SECOND)).toBe('receiving 1');
    expect(await after(store, clock, 1 * SECOND)).toBe('settled 1');
  });
});
