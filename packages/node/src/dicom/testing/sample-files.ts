import { readFileSync } from 'node:fs';
import path from 'node:path';
import { sharedDataFolder } from '@meridian/shared/testing/needs';
import { createHeaderReader } from '../header-reader.ts';
import type { DicomHeader, HeaderLimits } from '../header-reader.ts';
import { readPart10Start } from '../part10.ts';

/** A line of the collection's manifest. */
export interface Sample {
  readonly name: string;
  readonly file: string;
  readonly transferSyntax: string;
  readonly note: string;
}

/** Every file of the collection. */
export function samples(): Sample[] {
  return readFileSync(path.join(sharedDataFolder, 'MANIFEST.tsv'), 'utf8')
    .split('\n')
    .slice(1)
    .filter((line) => line !== '')
    .map((line) => {
      const columns = line.split('\t');
      return {
        name: columns[0] ?? '',
        file: path.join(sharedDataFolder, columns[0] ?? ''),
        transferSyntax: columns[5] ?? '',
        note: columns[8] ?? '',
      };
    });
}

/** The sample of this name in the manifest. */
export function sample(name: string): Buffer {
  return readFileSync(path.join(sharedDataFolder, name));
}

/** The data set of a file and its transfer syntax. */
export function datasetOf(file: Buffer): { dataset: Buffer; transferSyntaxUid: string } {
  const start = readPart10Start(file, { ended: true });
  if (start === 'need-more') throw new Error('unreachable');
  return { dataset: file.subarray(start.metaEndOffset), transferSyntaxUid: start.transferSyntaxUid };
}

/** Reads a data set fed in pieces. */
export function readDataset(
  dataset: Buffer,
  transferSyntaxUid: string,
  options: { readonly chunkBytes?: number; readonly limits?: Partial<HeaderLimits> } = {},
): DicomHeader {
  const { chunkBytes = 65_536, limits = {} } = options;
  const reader = createHeaderReader({ transferSyntaxUid, limits });
  for (let at = 0; at < dataset.length; at += chunkBytes) {
    // A chunk is only lent: spoil it after use, as a pool of buffers would.
    const lent = Buffer.from(dataset.subarray(at, at + chunkBytes));
    reader.push(lent);
    lent.fill(0xee);
  }
  return reader.finish();
}

/** Reads a whole file. */
export function readFile(
  file: Buffer,
  options: { readonly chunkBytes?: number; readonly limits?: Partial<HeaderLimits> } = {},
): DicomHeader {
  const { dataset, transferSyntaxUid } = datasetOf(file);
  return readDataset(dataset, transferSyntaxUid, options);
}
