/** What a campaign is told. */
export interface CampaignOptions {
  /** How many trials; each campaign says what one trial is. */
  readonly count: number;
  readonly seed: number;
  /** A planted bug, one of the campaign's `plants`: the positive control that must turn it red. */
  readonly plant?: string;
  /** One line of progress for a person. */
  readonly log: (line: string) => void;
  readonly signal: AbortSignal;
}

/** What a campaign found. */
export interface CampaignResult {
  /** False when a promise was broken, or when too little was tried to say so. */
  readonly ok: boolean;
  readonly figures: Readonly<Record<string, unknown>>;
  /** One plain sentence for each thing that was wrong. */
  readonly problems: readonly string[];
}

/** A long trial with a seed and a count that prints how much it tried and has a planted bug that turns it red. */
export interface Campaign {
  readonly name: string;
  readonly describe: string;
  readonly defaults: { readonly count: number; readonly seed: number };
  readonly plants: readonly string[];
  run(options: CampaignOptions): Promise<CampaignResult>;
}

// Taken once: inside a test runner's context every look at a global is slow.
const { imul } = Math;

/** A small seeded generator (mulberry32): the same seed makes the same campaign. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
