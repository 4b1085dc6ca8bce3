import { DatasetMachine } from './dataset-machine.ts';
import type { BulkValue, PixelDataPlace } from './dataset-places.ts';
import { DEFAULT_HEADER_LIMITS } from './header-limits.ts';
import type { HeaderLimits } from './header-limits.ts';
import { openInflateStream } from './inflate-stream.ts';
import type { DicomJson } from './json.ts';
import { encodingOf } from './transfer-syntaxes.ts';

export type { BulkValue, PixelDataPlace } from './dataset-places.ts';
export type { HeaderLimits } from './header-limits.ts';

/** What was read of one data set. Offsets count its bytes from 0, inflated where the syntax is deflated. */
export interface DicomHeader {
  readonly transferSyntaxUid: string;
  /** Every element, with its value or, of long ones, where it stands (BulkDataURI, see {@link parseBulkUri}). */
  readonly dataset: DicomJson;
  readonly pixelData?: PixelDataPlace;
  /** Values over the kept size, pixel data of the top level apart. */
  readonly bulk: readonly BulkValue[];
  /** Bytes of the data set. */
  readonly totalBytes: number;
  /** Bytes before pixel data; where there is none, up to the end of the last element. */
  readonly headerBytes: number;
  /** Bytes of `dataset` as JSON text, or somewhat more. */
  readonly jsonBytes: number;
  /** Some text did not fit its declared character set and was read in another. */
  readonly charactersRepaired: boolean;
  /** Elements of the top level in file order: tag as a 32-bit number, and where it begins. */
  readonly topLevel: { readonly tags: readonly number[]; readonly offsets: readonly number[] };
}

/** A reader that is fed a data set as it comes and gives its header at the end. */
export interface HeaderReader {
  /** The chunk is only lent: nothing of it is kept by reference. One call costs a few ms per 64 KiB: feed pieces of at most 256 KiB. */
  push(chunk: Buffer): void;
  /** What was read until now: whoever stores as the bytes come learns early which instance it is and where its pixels begin. */
  soFar(): { readonly dataset: DicomJson; readonly pixelData: PixelDataPlace | undefined };
  /** @throws MeshError INVALID_ARGUMENT with a reason of {@link refuse} if the data set is not whole. */
  finish(): DicomHeader;
}

/**
 * Opens a reader for one data set (PS3.5 7), without file meta information. Memory is bounded by the limits; pixel data
 * and long values are walked over and checked to be whole, not held.
 * @throws MeshError INVALID_ARGUMENT from push or finish: DICOM_TRUNCATED, DICOM_LENGTH_LIE, DICOM_TOO_DEEP,
 * DICOM_TOO_MANY_ELEMENTS, DICOM_TOO_LARGE_HEADER, DICOM_DEFLATE_BOMB, DICOM_DEFLATE_BROKEN, DICOM_MALFORMED, DICOM_WRONG_TRANSFER_SYNTAX
 */
export function createHeaderReader(options: { readonly transferSyntaxUid: string; readonly limits?: Partial<HeaderLimits> }): HeaderReader {
  const limits = { ...DEFAULT_HEADER_LIMITS, ...options.limits };
  const syntax = encodingOf(options.transferSyntaxUid);
  const machine = new DatasetMachine(syntax, limits);
  const carry = openCarry();
  const feed = (chunk: Buffer): void => carry.feed(machine, chunk);
  const inflate = syntax.deflated ? openInflateStream(limits, feed) : undefined;

  return {
    push(chunk) {
      if (chunk.length === 0) return;
      if (inflate === undefined) feed(chunk);
      else inflate.push(chunk);
    },
    soFar: () => ({ dataset: machine.dataset, pixelData: machine.pixelData }),
    finish() {
      inflate?.finish();
      machine.finish(carry.rest());
      const totalBytes = machine.position + carry.rest().length;
      return {
        transferSyntaxUid: options.transferSyntaxUid,
        dataset: machine.dataset,
        ...(machine.pixelData === undefined ? {} : { pixelData: machine.pixelData }),
        bulk: machine.bulk,
        totalBytes,
        headerBytes: machine.pixelData?.elementOffset ?? machine.paddingOffset ?? machine.position,
        jsonBytes: machine.jsonBytes,
        charactersRepaired: machine.charactersRepaired,
        topLevel: { tags: machine.topTags, offsets: machine.topOffsets },
      };
    },
  };
}

/** The bytes of an unfinished element between two chunks. They are looked at again only when enough have come. */
function openCarry(): { feed(machine: DatasetMachine, chunk: Buffer): void; rest(): Buffer } {
  let held = Buffer.alloc(0);
  let heldBytes = 0;
  const grow = (bytes: number): void => {
    if (bytes <= held.length) return;
    const larger = Buffer.allocUnsafe(Math.max(bytes, held.length * 2, 1024));
    held.copy(larger, 0, 0, heldBytes);
    held = larger;
  };
  const hold = (bytes: Buffer): void => {
    grow(heldBytes + bytes.length);
    bytes.copy(held, heldBytes);
    heldBytes += bytes.length;
  };
  return {
    feed(machine, chunk) {
      let rest = chunk;
      // Complete the element at the border alone, then read the chunk where it lies.
      while (heldBytes > 0 && rest.length > 0) {
        const missing = Math.max(1, machine.wanted - heldBytes);
        const step = Math.min(missing, rest.length);
        hold(rest.subarray(0, step));
        rest = rest.subarray(step);
        if (heldBytes < machine.wanted) return;
        const used = machine.consume(held.subarray(0, heldBytes));
        held.copyWithin(0, used, heldBytes);
        heldBytes -= used;
      }
      if (rest.length === 0) return;
      const used = machine.consume(rest);
      if (used < rest.length) hold(rest.subarray(used));
    },
    rest: () => held.subarray(0, heldBytes),
  };
}
