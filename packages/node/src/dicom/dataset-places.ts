import type { CharacterSet } from './character-sets.ts';
import type { DicomJson, DicomJsonElement } from './json.ts';

/** A value that was not kept. */
export interface BulkValue {
  /** Tags and 0-based item numbers from the top: `00400555/0/00400510`. */
  readonly path: string;
  readonly vr: string;
  readonly offset: number;
  readonly length: number;
}

/** Where the pixel data of the top level stands. */
export interface PixelDataPlace {
  /** `7FE00010`, `7FE00008` or `7FE00009`. */
  readonly tag: string;
  readonly vr: string;
  /** Where the element begins: everything before it is the header. */
  readonly elementOffset: number;
  /** Where the value begins; of encapsulated data the item with the basic offset table. */
  readonly offset: number;
  /** Bytes of the value, `undefined` for encapsulated data. */
  length: number | 'undefined';
  /** Bytes from `offset` to the end of the value, of encapsulated data with the sequence delimiter. */
  totalBytes: number;
  /** Encapsulated data: items after the basic offset table. */
  fragments?: number;
}

/** One open data set, sequence or run of fragments. */
export interface Frame {
  readonly kind: 'set' | 'sequence' | 'fragments';
  /** Offset where it ends; of a delimited one, where what encloses it ends. */
  readonly limit: number;
  readonly delimited: boolean;
  readonly explicit: boolean;
  readonly littleEndian: boolean;
  /** The elements of a set. */
  readonly set: DicomJson;
  /** The items of a sequence. */
  readonly items: DicomJson[];
  /** The element that a sequence or fragments are the value of. */
  readonly element: DicomJsonElement;
  readonly tag: number;
  /** Where the value of a sequence or fragments begins. */
  readonly start: number;
  characterSet: CharacterSet;
  signedPixels: boolean;
  lastTag: number;
  /** Elements of a set, items of a sequence or fragments. */
  count: number;
}
