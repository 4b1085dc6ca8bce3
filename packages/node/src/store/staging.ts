/** Bytes of a slab: an object that fits is handed to the writer thread whole. */
export const SLAB_BYTES = 1024 * 1024;
/** Slabs of one store; objects beyond that number go to the disk as they come. */
const MOST_SLABS = 8;

/** Memory of one object that both threads see. */
export interface Slab {
  readonly memory: SharedArrayBuffer;
  readonly bytes: Buffer;
}

/** Slabs that are used again and again: neither fresh memory nor a copy between threads for every object. */
export interface Staging {
  /** Undefined while all are taken. */
  take(): Slab | undefined;
  /** Only when nobody reads the slab any more. */
  giveBack(slab: Slab): void;
}

/** Opens the slabs; each is made when it is first needed. */
export function openStaging(): Staging {
  const free: Slab[] = [];
  let made = 0;
  return {
    take: () => {
      const slab = free.pop();
      if (slab !== undefined || made >= MOST_SLABS) return slab;
      made += 1;
      const memory = new SharedArrayBuffer(SLAB_BYTES);
      return { memory, bytes: Buffer.from(memory) };
    },
    giveBack: (slab) => {
      free.push(slab);
    },
  };
}
