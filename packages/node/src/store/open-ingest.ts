import type { Ingest, InstanceSink } from './ingest.ts';
import { openSink, type SinkParts } from './sink.ts';

/** The entrance as the store itself sees it. */
export interface OpenIngest extends Ingest {
  /** Resolves when no object is being finished. */
  idle(): Promise<void>;
  /** Aborts the sinks that are open, and waits for those that are ending. */
  close(): Promise<void>;
}

/** Opens the entrance. */
export function openIngest(parts: SinkParts): OpenIngest {
  const open = new Set<InstanceSink>();
  const ending = new Set<Promise<unknown>>();
  const finish = <Result>(sink: InstanceSink, work: Promise<Result>): Promise<Result> => {
    open.delete(sink);
    const ended: Promise<unknown> = work
      .then(
        () => undefined,
        () => undefined,
      )
      .then(() => ending.delete(ended));
    ending.add(ended);
    return work;
  };
  const idle = async (): Promise<void> => {
    while (ending.size > 0) await Promise.all(ending);
  };
  return {
    begin: (source) => {
      parts.space.assertRoom();
      const sink = openSink(parts, source);
      open.add(sink);
      return { ...sink, end: () => finish(sink, sink.end()), abort: () => finish(sink, sink.abort()) };
    },
    associationOpened: (id) => parts.settle.associationOpened(id),
    associationActive: (id) => parts.settle.associationActive(id),
    associationClosed: (id, how) => parts.settle.associationClosed(id, how),
    idle,
    close: async () => {
      await Promise.all([...open].map((sink) => finish(sink, sink.abort())));
      await idle();
    },
  };
}
