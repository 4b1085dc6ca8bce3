// Jobs of database.test.ts; they run in the writer thread.
import type { JobDatabase } from './database.ts';
import { MeshError } from './errors.ts';

export function addItem(database: JobDatabase, argument: { id: number; text: string }): number {
  return database.prepare('INSERT INTO item (id, text) VALUES (@id, @text)').run(argument).changes;
}

export function addThenFail(database: JobDatabase, id: number): never {
  database.prepare('INSERT INTO item (id) VALUES (?)').run(id);
  throw new MeshError('DATA_LOSS', 'TEST_FAILED', 'On purpose.');
}
