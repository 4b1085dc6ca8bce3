import type { FastifyRequest } from 'fastify';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import type { Coercion } from '../dicom/coerce.ts';
import type { Door } from '../http/http-server.ts';
import type { StudyRow } from '../store/rows.ts';
import type { Store } from '../store/store.ts';
import { DICOMWEB_PATH } from './addresses.ts';
import { mountFrames } from './frames-rs.ts';
import { mountMetadata } from './metadata-rs.ts';
import { mountQido } from './qido-rs.ts';
import { mountRendered } from './rendered-rs.ts';
import type { Renderer } from './renderer.ts';
import { mountStow } from './stow-rs.ts';
import { mountWado } from './wado-rs.ts';

/** What a client is about to be given; for the audit trail. */
export interface ReadEvent {
  readonly kind: 'view' | 'export';
  readonly transaction: 'retrieve' | 'metadata' | 'frames' | 'bulkdata' | 'rendered';
  readonly studyInstanceUid: string;
  readonly instances: number;
  readonly request: FastifyRequest;
}

/** What the DICOMweb door stands on. */
export interface DicomwebParts {
  readonly store: Pick<Store, 'ingest' | 'studies'>;
  /** Authority of the ids without issuer in what is stored by STOW-RS. */
  readonly assigningAuthority: string;
  /** What a fetched copy is served under; undefined: as stored. */
  readonly coercionFor: (study: StudyRow) => Coercion | undefined;
  readonly renderer: Renderer;
  readonly log: Logger;
  readonly clock?: Clock;
  /** Called before the first byte leaves; a rejection refuses the request. */
  readonly onRead?: (event: ReadEvent) => Promise<void>;
}

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
