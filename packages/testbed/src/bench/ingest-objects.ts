import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { part10Prefix } from '@meridian/node/dicom/part10';
import { generateStudy } from '../data/studies.ts';

/** Files of one run, each with UIDs that no other run has. */
export interface ObjectSet {
  readonly files: readonly string[];
  readonly bytes: number;
}

/** Which objects to make. */
export interface ObjectOrder {
  readonly folder: string;
  readonly seed: number;
  readonly count: number;
  /** Pixels a side, 2 bytes each: 512 makes 531 kB, 80 makes 20 kB. */
  readonly size: number;
}

/** What a scanner adds of its own: it brings the header to the 269 elements of a common CT. */
const PRIVATE_ELEMENTS = 224;

/** Writes CT objects as Part 10 files, explicit VR little endian. */
export async function makeObjects(order: ObjectOrder): Promise<ObjectSet> {
  await mkdir(order.folder, { recursive: true });
  const person = { name: 'Bench^Ingest', birthDate: '19700101', sex: 'F' as const };
  const extra = privateElements(order.size >= 512 ? PRIVATE_ELEMENTS : 100);
  const files: string[] = [];
  let bytes = 0;
  const instances = generateStudy({
    seed: order.seed,
    kind: 'ct',
    person,
    patientId: `B${order.seed}`,
    date: '20260301',
    time: '080000',
    institution: 'Bench',
    description: 'bench',
    slices: order.count,
    size: order.size,
    charset: 'utf8',
  });
  for (const [at, instance] of [...instances].entries()) {
    const insertAt = offsetOfGroup(instance.dataSet, 0x0009);
    const file = Buffer.concat([
      part10Prefix(instance),
      instance.dataSet.subarray(0, insertAt),
      extra,
      instance.dataSet.subarray(insertAt),
    ]);
    const path = join(order.folder, `${at}.dcm`);
    await writeFile(path, file);
    files.push(path);
    bytes += file.length;
  }
  return { files, bytes };
}

function privateElements(count: number): Buffer {
  const creator = element(0x0010, 'LO', 'MERIDIAN BENCH');
  return Buffer.concat([creator, ...Array.from({ length: count }, (_, at) => element(0x1000 + at, 'SH', `value ${at}`.padEnd(16)))]);
}

function element(number: number, vr: string, text: string): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt16LE(0x0009, 0);
  head.writeUInt16LE(number, 2);
  head.write(vr, 4, 'latin1');
  head.writeUInt16LE(text.length, 6);
  return Buffer.concat([head, Buffer.from(text, 'latin1')]);
}

/** Where the first element of a group, or of a later one, begins; every sequence before it has a stated length. */
function offsetOfGroup(dataSet: Buffer, group: number): number {
  let at = 0;
  while (at + 8 <= dataSet.length && dataSet.readUInt16LE(at) < group) {
    const vr = dataSet.toString('latin1', at + 4, at + 6);
    at += ['OB', 'OW', 'SQ', 'UN', 'UT', 'UC', 'UR'].includes(vr) ? 12 + dataSet.readUInt32LE(at + 8) : 8 + dataSet.readUInt16LE(at + 6);
  }
  return at;
}
