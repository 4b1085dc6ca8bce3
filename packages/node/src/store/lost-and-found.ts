import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, rename } from 'node:fs/promises';
import path from 'node:path';
import { MeshError } from '@meridian/shared/errors';
import { createHeaderReader } from '../dicom/header-reader.ts';
import { readPart10Start } from '../dicom/part10.ts';

const FOLDER = 'lost-and-found';
const HEAD_BYTES = 64 * 1024;
/** What the header reader says of a data set that was cut. */
const TORN: ReadonlySet<string> = new Set(['DICOM_TRUNCATED', 'DICOM_LENGTH_LIE', 'DICOM_NOT_PART10']);

/** Whole files that the tables do not know: nobody can say that they were never acknowledged. */
export interface LostAndFound {
  readonly folder: string;
  /** Moves a file in; `settle` makes that durable. */
  keep(file: string): Promise<void>;
  settle(): Promise<void>;
  /** Files that lie there. */
  count(): Promise<number>;
}

/** Opens `<folder>/lost-and-found`, which is made with the first file. */
export function openLostAndFound(archiveFolder: string): LostAndFound {
  const folder = path.join(archiveFolder, FOLDER);
  return {
    folder,
    keep: async (file) => {
      await mkdir(folder, { recursive: true });
      await rename(file, path.join(folder, path.basename(file)));
    },
    settle: async () => {
      const handle = await open(folder, 'r');
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
    },
    count: async () => {
      try {
        return (await readdir(folder)).filter((name) => name.endsWith('.dcm')).length;
      } catch (thrown) {
        if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return 0;
        throw thrown;
      }
    },
  };
}

/** True where the file is a Part 10 file with a data set from end to end; false also where it cannot be read as one. */
export async function isWholeInstance(file: string): Promise<boolean> {
  try {
    const start = readPart10Start(await headOf(file), { ended: true });
    if (start === 'need-more') return false;
    const reader = createHeaderReader({ transferSyntaxUid: start.transferSyntaxUid });
    for await (const chunk of createReadStream(file, { start: start.metaEndOffset })) reader.push(chunk as Buffer);
    reader.finish();
    return true;
  } catch (thrown) {
    // What the disk would not give is no proof that the file is torn.
    if ((thrown as NodeJS.ErrnoException).syscall !== undefined) throw thrown;
    // Only what was cut is torn; what a limit or a rule of today refuses may have been acknowledged before it.
    return !(thrown instanceof MeshError && TORN.has(thrown.reason));
  }
}

async function headOf(file: string): Promise<Buffer> {
  const handle = await open(file, 'r');
  try {
    const head = Buffer.alloc(HEAD_BYTES);
    const { bytesRead } = await handle.read(head, 0, HEAD_BYTES, 0);
    return head.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}
