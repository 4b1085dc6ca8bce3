/** One line of a bench's table: who did what, and how fast. */
export type BenchRow = Readonly<Record<string, string | number>>;

/** What a bench measured. */
export interface BenchResult {
  readonly rows: readonly BenchRow[];
  /** Ours over theirs, in the same run: above 1 we are faster. */
  readonly ratios: Readonly<Record<string, number>>;
  readonly peakMemoryMb: Readonly<Record<string, number>>;
  readonly notes?: readonly string[];
}

/** A timed comparison beside a peer or a physical limit in the same run. Benches never gate tests. */
export interface Bench {
  readonly name: string;
  readonly describe: string;
  run(options: { readonly log: (line: string) => void; readonly signal: AbortSignal }): Promise<BenchResult>;
}

/** The middle value; the lower of two middles. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? Number.NaN;
}
