import { systemClock } from '@meridian/shared/platform/clock';
import type { Door } from '../http/http-server.ts';
import { DICOMWEB_PATH } from './addresses.ts';
import { READ_MEMORY_BYTES } from './data-set-source.ts';
import { mountFrames } from './frames-rs.ts';
import { openMemoryBudget } from './memory-budget.ts';
import { mountMetadata } from './metadata-rs.ts';
import type { DicomwebParts } from './parts.ts';
import { mountQido } from './qido-rs.ts';
import { mountRendered } from './rendered-rs.ts';
import { mountStow } from './stow-rs.ts';
import { mountWado } from './wado-rs.ts';

/** The DICOMweb door (PS3.18 10): STOW-RS, QIDO-RS and WADO-RS under `/dicomweb`. */
export function dicomwebDoor(parts: DicomwebParts): Door {
  const reading = {
    ...parts,
    memory: openMemoryBudget({ totalBytes: READ_MEMORY_BYTES, waitMs: 30_000, clock: parts.clock ?? systemClock }),
  };
  return async (app) => {
    await app.register(async (scope) => mountStow(scope, parts), { prefix: DICOMWEB_PATH });
    await app.register(
      async (scope) => {
        mountQido(scope, parts);
        mountWado(scope, reading);
        mountMetadata(scope, parts);
        mountFrames(scope, reading);
        mountRendered(scope, reading);
      },
      { prefix: DICOMWEB_PATH },
    );
  };
}
