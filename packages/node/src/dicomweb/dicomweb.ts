import type { Door } from '../http/http-server.ts';
import { DICOMWEB_PATH } from './addresses.ts';
import { mountFrames } from './frames-rs.ts';
import { mountMetadata } from './metadata-rs.ts';
import type { DicomwebParts } from './parts.ts';
import { mountQido } from './qido-rs.ts';
import { mountRendered } from './rendered-rs.ts';
import { mountStow } from './stow-rs.ts';
import { mountWado } from './wado-rs.ts';

/** The DICOMweb door (PS3.18 10): STOW-RS, QIDO-RS and WADO-RS under `/dicomweb`. */
export function dicomwebDoor(parts: DicomwebParts): Door {
  return async (app) => {
    await app.register(async (scope) => mountStow(scope, parts), { prefix: DICOMWEB_PATH });
    await app.register(async (scope) => {
      mountQido(scope, parts);
      mountWado(scope, parts);
      mountMetadata(scope, parts);
      mountFrames(scope, parts);
      mountRendered(scope, parts);
    }, { prefix: DICOMWEB_PATH });
  };
}
