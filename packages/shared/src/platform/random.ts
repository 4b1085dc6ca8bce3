import { randomBytes, randomUUID } from 'node:crypto';

/** Randomness as a part, so that a seeded process can replay. */
export interface Random {
  bytes(length: number): Buffer;
  uuid(): string;
}

/** Cryptographically strong randomness of the operating system. */
export const systemRandom: Random = {
  bytes: (length) => randomBytes(length),
  uuid: () => randomUUID(),
};
