import type { Ingest, IngestOutcome, IngestSource, InstanceSink } from '../../store/ingest.ts';

/** One object that reached the ingest, and how. */
export interface Received {
  readonly source: IngestSource;
  readonly bytes: Buffer;
}

/** An ingest that keeps what comes, in memory, and records what it is told. */
export class MemoryIngest implements Ingest {
  readonly received: Received[] = [];
  readonly events: string[] = [];
  begun = 0;
  aborted = 0;
  /** What `end()` gives or throws; Success unless set. */
  outcome: (source: IngestSource) => IngestOutcome['outcome'] | Error = () => 'stored';
  /** `end()` waits for it. */
  gate: Promise<void> = Promise.resolve();
  /** When set, a sink is full after this many bytes until `drain()` is called. */
  fullAfterBytes = Number.POSITIVE_INFINITY;
  /** Most bytes that a full sink was still handed. */
  bytesWhileFull = 0;
  #drains: (() => void)[] = [];

  begin(source: IngestSource): InstanceSink {
    this.begun += 1;
    const chunks: Buffer[] = [];
    let bytes = 0;
    let fullAt: number | undefined;
    return {
      write: (chunk) => {
        chunks.push(chunk);
        bytes += chunk.length;
        if (fullAt !== undefined) this.bytesWhileFull = Math.max(this.bytesWhileFull, bytes - fullAt);
        if (bytes <= this.fullAfterBytes) return true;
        fullAt ??= bytes;
        return false;
      },
      drained: () => new Promise((resolve) => this.#drains.push(resolve)),
      end: async () => {
        await this.gate;
        const outcome = this.outcome(source);
        if (outcome instanceof Error) throw outcome;
        this.received.push({ source, bytes: Buffer.concat(chunks) });
        return {
          outcome,
          studyInstanceUid: '1',
          seriesInstanceUid: '1',
          sopInstanceUid: '1',
          sopClassUid: '1',
          sha256: Buffer.alloc(32),
          bytes,
        } as IngestOutcome;
      },
      abort: async () => {
        this.aborted += 1;
      },
    };
  }

  drain(): void {
    this.fullAfterBytes = Number.POSITIVE_INFINITY;
    for (const drain of this.#drains.splice(0)) drain();
  }

  associationOpened(id: string): void {
    this.events.push(`opened ${id}`);
  }

  associationActive(id: string): void {
    this.events.push(`active ${id}`);
  }

  associationClosed(id: string, how: 'released' | 'aborted'): void {
    this.events.push(`${how} ${id}`);
  }
}
