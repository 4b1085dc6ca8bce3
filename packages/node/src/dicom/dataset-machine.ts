import { DEFAULT_CHARACTER_SET, characterSetOf } from './character-sets.ts';
import type { BulkValue, Frame, PixelDataPlace } from './dataset-places.ts';
import { dictionaryEntry, tagText } from './dictionary.ts';
import { UNDEFINED_LENGTH, emptyElementHeader, readElementHeader, readTag } from './element-header.ts';
import { addCost, BULK_URI_JSON_BYTES, ELEMENT_JSON_BYTES } from './header-cost.ts';
import type { HeaderCost } from './header-cost.ts';
import { refuse } from './header-limits.ts';
import type { HeaderLimits } from './header-limits.ts';
import { bulkUri } from './json.ts';
import type { DicomJson, DicomJsonElement } from './json.ts';
import type { TransferSyntax } from './transfer-syntaxes.ts';
import { decodeValue } from './value-decoder.ts';
import { vrOfCode } from './value-representations.ts';

const ITEM = 0xfffe_e000;
const ITEM_END = 0xfffe_e00d;
const SEQUENCE_END = 0xfffe_e0dd;
const SPECIFIC_CHARACTER_SET = 0x0008_0005;
const PIXEL_REPRESENTATION = 0x0028_0103;
const PIXEL_TAGS: ReadonlySet<number> = new Set([0x7fe0_0008, 0x7fe0_0009, 0x7fe0_0010]);

/**
 * The state machine that reads a data set as its bytes come. It holds no bytes itself: `consume` is given a window that
 * begins where the last one was left, and says how much of it it is done with.
 */
export class DatasetMachine {
  /** Offset of the next byte. */
  position = 0;
  /** Bytes the next window must hold for any progress. */
  wanted = 8;
  readonly dataset: DicomJson = {};
  readonly bulk: BulkValue[] = [];
  pixelData: PixelDataPlace | undefined;
  charactersRepaired = false;
  /** Where the last element ended and NULs began, if they did. */
  paddingOffset: number | undefined;
  /** Tags of the top level in file order, and where each begins. */
  readonly topTags: number[] = [];
  readonly topOffsets: number[] = [];

  private readonly limits: HeaderLimits;
  private readonly syntax: TransferSyntax;
  private readonly stack: Frame[];
  private readonly header = emptyElementHeader();
  private skip = 0;
  private skipIsPixels = false;
  private skipLength = 0;
  private elements = 0;
  private keptBytes = 0;
  private readonly cost: HeaderCost = { values: 0, jsonBytes: 0 };
  private depth = 0;
  private readonly noteRepair = (): void => {
    this.charactersRepaired = true;
  };

  constructor(syntax: TransferSyntax, limits: HeaderLimits) {
    this.syntax = syntax;
    this.limits = limits;
    this.stack = [
      {
        kind: 'set',
        limit: Number.POSITIVE_INFINITY,
        delimited: true,
        explicit: syntax.explicitVr,
        littleEndian: syntax.littleEndian,
        set: this.dataset,
        items: [],
        element: { vr: 'SQ' },
        tag: 0,
        start: 0,
        characterSet: DEFAULT_CHARACTER_SET,
        signedPixels: false,
        lastTag: -1,
        count: 0,
      },
    ];
  }

  /** Reads as far as the window goes; returns the bytes it is done with and sets `wanted`. */
  consume(window: Buffer): number {
    let at = 0;
    for (;;) {
      if (this.skip > 0) {
        const step = Math.min(this.skip, window.length - at);
        this.skip -= step;
        this.position += step;
        at += step;
        if (this.skip > 0) return this.want(1, at);
      }
      const frame = this.stack[this.stack.length - 1] as Frame;
      if (!frame.delimited && this.position >= frame.limit) {
        if (this.position > frame.limit) throw refuse('DICOM_LENGTH_LIE');
        this.close(frame);
        continue;
      }
      if (this.paddingOffset !== undefined) return this.consumePadding(window, at);
      const available = window.length - at;
      if (frame.limit - this.position < 8) throw refuse('DICOM_LENGTH_LIE');
      if (available < 8) return this.want(8, at);
      const used = frame.kind === 'set' ? this.element(frame, window, at) : this.item(frame, window, at);
      if (used < 0) return this.want(-used, at);
      at += used;
      this.position += used;
    }
  }

  /** Bytes of the header as DICOM JSON, or more. */
  get jsonBytes(): number {
    return this.cost.jsonBytes;
  }

  /** Checks that the data set is whole, with `rest` the bytes left over. @throws MeshError DICOM_TRUNCATED, DICOM_LENGTH_LIE, DICOM_MALFORMED */
  finish(rest: Buffer): void {
    const totalBytes = this.position + rest.length;
    // Pixel data cut short is common, so its length counts as a lie only when it is beyond reason.
    if (this.skip > 0) throw refuse(this.skipLength > totalBytes * (this.skipIsPixels ? 16 : 1) ? 'DICOM_LENGTH_LIE' : 'DICOM_TRUNCATED');
    if (this.stack.length > 1) throw refuse('DICOM_TRUNCATED');
    if (rest.some((byte) => byte !== 0)) throw refuse('DICOM_TRUNCATED');
    if (this.topTags.length === 0) throw refuse(totalBytes === 0 ? 'DICOM_TRUNCATED' : 'DICOM_MALFORMED');
  }

  private want(bytes: number, at: number): number {
    this.wanted = bytes;
    return at;
  }

  /** One element of a data set. Returns bytes used, or minus the bytes it needs. */
  private element(frame: Frame, window: Buffer, at: number): number {
    const { header } = this;
    const needed = readElementHeader(header, window, at, frame);
    if (window.length - at < needed) return -needed;
    const { tag, headerBytes, length } = header;
    if (tag >>> 16 === 0xfffe) return this.delimiter(frame, tag);
    const top = this.stack.length === 1;
    if (top && tag === 0 && length === 0) return this.startPadding();
    if (top) this.checkSyntax(frame, window, at);
    const start = this.position + headerBytes;
    if (length !== UNDEFINED_LENGTH && start + length > frame.limit) throw refuse('DICOM_LENGTH_LIE');
    const isUnknown = header.explicit && header.vr === 'UN' && length <= this.limits.maxKeptValueBytes;
    if (isUnknown && window.length - at < headerBytes + length) return -(headerBytes + length);
    const vr = this.resolveVr(frame, isUnknown ? vrOfUnknown(tag, window, at + headerBytes, length) : header.vr, length);
    const isBulk = length === UNDEFINED_LENGTH || vr === 'SQ' || length > this.limits.maxKeptValueBytes || (top && PIXEL_TAGS.has(tag));
    if (!isBulk && window.length - at < headerBytes + length) return -(headerBytes + length);
    this.count(headerBytes + (isBulk ? 0 : length));
    if (top) {
      this.topTags.push(tag);
      this.topOffsets.push(this.position);
    }
    const valueAt = at + headerBytes;
    if (isBulk) {
      // The value of UN is implicit little endian whatever stands around it (PS3.5 6.2.2 note), but for writers that forgot.
      const implicit =
        frame.explicit && header.vr === 'UN' && !(isUnknown && length >= 16 && vrOfCode(window.readUInt16BE(valueAt + 12)) !== undefined);
      return this.large(frame, tag, vr, { start, length, headerBytes, implicit });
    }
    addCost(this.cost, vr, window, valueAt, valueAt + length);
    this.checkCost();
    const littleEndian = frame.littleEndian || isUnknown;
    const element = decodeValue(
      { vr, bytes: window, start: valueAt, end: valueAt + length, littleEndian, characterSet: frame.characterSet },
      this.noteRepair,
    );
    const isFirst = this.keep(frame, tag, element);
    if (!isFirst) return headerBytes + length;
    if (tag === SPECIFIC_CHARACTER_SET)
      frame.characterSet = characterSetOf((element.Value ?? []).map((value) => (typeof value === 'string' ? value : '')));
    else if (tag === PIXEL_REPRESENTATION) frame.signedPixels = element.Value?.[0] === 1;
    return headerBytes + length;
  }

  /** A sequence, fragments, pixel data, or a value too long to keep. Returns the bytes of its header. */
  private large(
    frame: Frame,
    tag: number,
    vr: string,
    place: { readonly start: number; readonly length: number; readonly headerBytes: number; readonly implicit: boolean },
  ): number {
    const { start, length, headerBytes, implicit } = place;
    const isTopPixels = this.stack.length === 1 && PIXEL_TAGS.has(tag);
    const isUndefined = length === UNDEFINED_LENGTH;
    this.cost.jsonBytes += BULK_URI_JSON_BYTES;
    // A compressed syntax with native pixel data: neither we nor the receiver could tell what the bytes are.
    if (isTopPixels && !isUndefined && length > 0 && this.syntax.encapsulated && tag === 0x7fe0_0010)
      throw refuse('DICOM_WRONG_TRANSFER_SYNTAX');
    if (isTopPixels && this.pixelData === undefined) {
      this.pixelData = {
        tag: tagText(tag),
        vr,
        elementOffset: this.position,
        offset: start,
        length: isUndefined ? 'undefined' : length,
        totalBytes: isUndefined ? 0 : length,
      };
    }
    if (isUndefined && (PIXEL_TAGS.has(tag) || isBinary(vr))) {
      const element = { vr };
      this.keep(frame, tag, element);
      this.open(frame, 'fragments', { tag, element, length, start, implicit: false });
    } else if (vr === 'SQ' || isUndefined) {
      const element = { vr: 'SQ' };
      this.keep(frame, tag, element);
      this.open(frame, 'sequence', { tag, element, length, start, implicit });
    } else {
      const element: DicomJsonElement = { vr };
      if (length > 0) {
        element.BulkDataURI = isTopPixels ? this.pixelUri(start, length, headerBytes) : bulkUri({ offset: start, length });
        if (!isTopPixels) this.bulk.push({ path: this.pathOf(tag), vr, offset: start, length });
      }
      this.keep(frame, tag, element);
      this.skip = length;
      this.skipLength = length;
      this.skipIsPixels = isTopPixels;
    }
    return headerBytes;
  }

  /** One item of a sequence or fragment. Returns bytes used. */
  private item(frame: Frame, window: Buffer, at: number): number {
    const tag = readTag(window, at, frame.littleEndian);
    const length = frame.littleEndian ? window.readUInt32LE(at + 4) : window.readUInt32BE(at + 4);
    if (tag === SEQUENCE_END) {
      if (!frame.delimited) return 8;
      this.close(frame, 8);
      return 8;
    }
    if (tag !== ITEM) throw refuse('DICOM_MALFORMED');
    const start = this.position + 8;
    if (length !== UNDEFINED_LENGTH && start + length > frame.limit) throw refuse('DICOM_LENGTH_LIE');
    this.count(frame.kind === 'sequence' ? 8 : 0);
    frame.count++;
    if (frame.kind === 'fragments') {
      if (length === UNDEFINED_LENGTH) throw refuse('DICOM_MALFORMED');
      this.skip = length;
      this.skipLength = length;
      this.skipIsPixels = true;
      return 8;
    }
    const set: DicomJson = {};
    frame.items.push(set);
    frame.element.Value = frame.items;
    const delimited = length === UNDEFINED_LENGTH;
    this.stack.push({
      ...frame,
      kind: 'set',
      limit: delimited ? frame.limit : start + length,
      delimited,
      set,
      items: [],
      lastTag: -1,
      count: 0,
    });
    return 8;
  }

  private delimiter(frame: Frame, tag: number): number {
    if (this.stack.length === 1) throw refuse('DICOM_MALFORMED');
    if (tag === ITEM_END) {
      // Some writers end items of a stated length with a delimiter too.
      if (frame.delimited) this.close(frame);
      return 8;
    }
    if (tag === SEQUENCE_END && frame.delimited) {
      // The item's own delimiter is missing: the sequence's ends both; it is read again by the sequence.
      this.close(frame);
      return 0;
    }
    throw refuse('DICOM_MALFORMED');
  }

  private open(
    parent: Frame,
    kind: 'sequence' | 'fragments',
    of: {
      readonly tag: number;
      readonly element: DicomJsonElement;
      readonly length: number;
      readonly start: number;
      readonly implicit: boolean;
    },
  ): void {
    if (++this.depth > this.limits.maxDepth) throw refuse('DICOM_TOO_DEEP');
    const delimited = of.length === UNDEFINED_LENGTH;
    this.stack.push({
      kind,
      limit: delimited ? parent.limit : of.start + of.length,
      delimited,
      explicit: parent.explicit && !of.implicit,
      littleEndian: parent.littleEndian || of.implicit,
      set: {},
      items: [],
      element: of.element,
      tag: of.tag,
      start: of.start,
      characterSet: parent.characterSet,
      signedPixels: parent.signedPixels,
      lastTag: -1,
      count: 0,
    });
  }

  private close(frame: Frame, trailing = 0): void {
    if (this.stack.length === 1) throw refuse('DICOM_MALFORMED');
    this.stack.pop();
    if (frame.kind === 'set') return;
    this.depth--;
    if (frame.kind !== 'fragments') return;
    const length = this.position + trailing - frame.start;
    const pixels = this.stack.length === 1 && this.pixelData?.offset === frame.start ? this.pixelData : undefined;
    if (pixels === undefined) {
      frame.element.BulkDataURI = bulkUri({ offset: frame.start, length });
      this.bulk.push({ path: this.pathOf(frame.tag), vr: frame.element.vr, offset: frame.start, length });
      return;
    }
    frame.element.BulkDataURI = this.pixelUri(frame.start, length, frame.start - pixels.elementOffset);
    pixels.totalBytes = length;
    pixels.fragments = Math.max(0, frame.count - 1);
  }

  /** Puts an element into its set; false where the set has it already. */
  private keep(frame: Frame, tag: number, element: DicomJsonElement): boolean {
    if (++frame.count > this.limits.maxElementsPerSet) throw refuse('DICOM_TOO_MANY_ELEMENTS');
    const key = tagText(tag);
    // Of an element that stands twice the first counts, for every reader alike.
    if (tag <= frame.lastTag) {
      if (frame.set[key] !== undefined) return false;
    } else frame.lastTag = tag;
    // Group lengths are about the encoding, not part of the model (PS3.18 F.2.2).
    if ((tag & 0xffff) !== 0) frame.set[key] = element;
    return true;
  }

  private count(bytes: number): void {
    this.keptBytes += bytes;
    if (++this.elements > this.limits.maxElements) throw refuse('DICOM_TOO_MANY_ELEMENTS');
    if (this.keptBytes > this.limits.maxHeaderBytes) throw refuse('DICOM_TOO_LARGE_HEADER');
    this.cost.jsonBytes += ELEMENT_JSON_BYTES;
    this.checkCost();
  }

  /** Few bytes may be many values: they are counted before anything is made of them. */
  private checkCost(): void {
    if (this.cost.values > this.limits.maxValues || this.cost.jsonBytes > this.limits.maxJsonBytes) throw refuse('DICOM_TOO_LARGE_HEADER');
  }

  /** Alternatives of PS3.6 settled by the data set (PS3.5 A.1): signedness by Pixel Representation, else words. */
  private resolveVr(frame: Frame, vr: string, length: number): string {
    if (vr.length === 2) return length === UNDEFINED_LENGTH && vr === 'UN' ? 'SQ' : vr;
    if (vr === 'US|SS') return frame.signedPixels ? 'SS' : 'US';
    if (vr === 'US|OW') return length > 2 ? 'OW' : 'US';
    return vr === 'OB|OW' ? 'OW' : 'UN';
  }

  /** The first element tells whether VRs are stated; a declared implicit set that states them would be read as garbage. */
  private checkSyntax(frame: Frame, window: Buffer, at: number): void {
    if (this.topTags.length > 0 || frame.explicit) return;
    const stated = vrOfCode(window.readUInt16BE(at + 4));
    if (stated !== undefined && this.header.length > 0x4000) throw refuse('DICOM_WRONG_TRANSFER_SYNTAX');
  }

  private startPadding(): number {
    if (this.topTags.length === 0) throw refuse('DICOM_MALFORMED');
    this.paddingOffset = this.position;
    return 8;
  }

  /** NULs after the last element, as some writers fill their blocks. */
  private consumePadding(window: Buffer, from: number): number {
    for (let at = from; at < window.length; at++) if (window[at] !== 0) throw refuse('DICOM_MALFORMED');
    this.position += window.length - from;
    return this.want(1, window.length);
  }

  /** The length of the element's header is stated only where the transfer syntax does not tell it. */
  private pixelUri(offset: number, length: number, headerBytes: number): string {
    return bulkUri({ offset, length, ...(headerBytes === (this.syntax.explicitVr ? 12 : 8) ? {} : { headerBytes }) });
  }

  private pathOf(tag: number): string {
    let path = '';
    for (const frame of this.stack) if (frame.kind === 'sequence') path += `${tagText(frame.tag)}/${frame.items.length - 1}/`;
    return path + tagText(tag);
  }
}

/**
 * The VR of an element of PS3.6 that a converter passed on as UN (PS3.5 6.2.2 note 3); a sequence only where its value
 * begins with an item.
 */
function vrOfUnknown(tag: number, bytes: Buffer, at: number, length: number): string {
  const vr = dictionaryEntry(tag)?.vr ?? 'UN';
  return vr === 'SQ' && (length < 8 || readTag(bytes, at, true) !== ITEM) ? 'UN' : vr;
}

function isBinary(vr: string): boolean {
  return vr === 'OB' || vr === 'OW' || vr === 'OD' || vr === 'OF' || vr === 'OL' || vr === 'OV';
}
