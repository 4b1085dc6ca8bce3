import type { FastifyRequest } from 'fastify';
import type { Logger } from '@meridian/shared/log';
import type { Clock } from '@meridian/shared/platform/clock';
import type { Coercion } from '../dicom/coerce.ts';
import type { StudyRow } from '../store/rows.ts';
import type { Store } from '../store/store.ts';
import type { MemoryBudget } from './memory-budget.ts';
import type { Renderer } from './renderer.ts';

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

/** The parts as the transactions that read objects use them: with the memory they share. */
export interface ReadingParts extends DicomwebParts {
  readonly memory: MemoryBudget;
}
