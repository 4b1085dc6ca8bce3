import type { Migrations } from '@meridian/shared/database';
import { createArchive } from './001-create-archive.ts';
import { addCopyValidity } from './002-add-copy-validity.ts';

/** All steps of the archive's schema. A step is never edited after it lands. */
export const storeMigrations: Migrations = {
  '001-create-archive': createArchive,
  '002-add-copy-validity': addCopyValidity,
};
