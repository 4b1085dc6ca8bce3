import { createHash } from 'node:crypto';
import { createHeaderReader } from '../dicom/header-reader.ts';
import { identityOf } from '../dicom/identity.ts';
import type { Ingest, InstanceSink } from './ingest.ts';
import type { Clock } from '@meridian/shared/platform/clock';

/** Faults that a campaign plants to prove that it would notice them. Never set in a product. */
export interface StoreFaults {
  /** `end()` answers at once; bytes wait in memory and are stored later, so that a kill loses what was acknowledged. */
  readonly acknowledgeBeforeWrite?: boolean;
}

const LATER_MS = 1_000;

/** The entrance with the fault built in. */
export function acknowledgingBeforeWrite(ingest: Ingest, clock: Clock): Ingest {
  return {
    ...ingest,
    begin: (source): InstanceSink => {
      const chunks: Buffer[] = [];
      return {
        write: (chunk) => chunks.push(chunk) > 0,
        drained: () => Promise.resolve(),
        abort: () => Promise.resolve(),
        end: () => {
          const reader = createHeaderReader({ transferSyntaxUid: source.transferSyntaxUid });
          for (const chunk of chunks) reader.push(chunk);
          const { studyInstanceUid, seriesInstanceUid, sopInstanceUid, sopClassUid } = identityOf(reader.finish().dataset);
          const bytes = chunks.reduce((total, { length }) => total + length, 0);
          const hash = createHash('sha256');
          for (const chunk of chunks) hash.update(chunk);
          clock.after(LATER_MS, () => {
            const sink = ingest.begin(source);
            for (const chunk of chunks) sink.write(chunk);
            sink.end().catch(() => undefined);
          });
          return Promise.resolve({
            outcome: 'stored',
            studyInstanceUid,
            seriesInstanceUid,
            sopInstanceUid,
            sopClassUid,
            sha256: hash.digest(),
            bytes,
          });
        },
      };
    },
  };
}
