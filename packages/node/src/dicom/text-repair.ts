import type { Coding, DecodedText } from './coding.ts';

const STRICT_UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const STRICT_GB18030 = new TextDecoder('gb18030', { fatal: true });

/**
 * Reads a value whose bytes contradict the declared character set: the many files that declare ISO_IR 100 or nothing
 * but hold GBK or UTF-8. Judged on one value: UTF-8 is recognised by its strict form, GB18030 by runs of whole, common
 * characters.
 * @returns undefined where the declared set fits and should be used.
 */
export function repairText(bytes: Buffer, declared: Coding): DecodedText | undefined {
  switch (declared) {
    case 'ascii':
      return {
        text: strictUtf8(bytes) ?? strictGb18030(bytes, looksChinese) ?? strictGb18030(bytes, isMostlyPaired) ?? bytes.toString('latin1'),
        repaired: true,
      };
    case 'latin1':
      return repaired(strictUtf8(bytes) ?? strictGb18030(bytes, looksChinese));
    case 'utf-8':
      return repairUtf8(bytes);
    case 'gb18030':
    case 'gbk':
      return hasUncommonPair(bytes) ? repaired(strictUtf8(bytes)) : undefined;
    default:
      return undefined;
  }
}

function repaired(text: string | undefined): DecodedText | undefined {
  return text === undefined ? undefined : { text, repaired: true };
}

function repairUtf8(bytes: Buffer): DecodedText | undefined {
  if (strictUtf8(bytes) !== undefined) return undefined;
  // A writer that cut the value at its maximal length may have cut a character: then all but the end is UTF-8.
  for (let cut = 1; cut <= 3 && cut < bytes.length; cut++)
    if (strictUtf8(bytes.subarray(0, -cut)) !== undefined && (bytes.at(-cut) ?? 0) >= 0xc0) return undefined;
  return { text: strictGb18030(bytes, () => true) ?? bytes.toString('latin1'), repaired: true };
}

/** The text if the bytes are well-formed UTF-8. */
function strictUtf8(bytes: Buffer): string | undefined {
  try {
    return STRICT_UTF8.decode(bytes);
  } catch {
    return undefined;
  }
}

function strictGb18030(bytes: Buffer, plausible: (bytes: Buffer) => boolean): string | undefined {
  if (!plausible(bytes)) return undefined;
  try {
    return STRICT_GB18030.decode(bytes);
  } catch {
    return undefined;
  }
}

const isLetter = (byte: number | undefined): boolean =>
  byte !== undefined && ((byte >= 0x41 && byte <= 0x5a) || (byte >= 0x61 && byte <= 0x7a));

/**
 * True where the high bytes read as common Chinese rather than as accented letters: they stand in pairs of the GB 2312
 * characters, at least half of them in its common level 1 (lead B0-D7), and a lone pair does not touch a Latin letter
 * (`Größe` is no Chinese).
 */
function looksChinese(bytes: Buffer): boolean {
  let pairs = 0;
  let common = 0;
  for (let index = 0; index < bytes.length; index++) {
    if ((bytes[index] as number) < 0x80) continue;
    const start = index;
    while (index < bytes.length && (bytes[index] as number) >= 0x81) {
      const trail = bytes[index + 1];
      if (trail === undefined || trail < 0x40) return false;
      const lead = bytes[index] as number;
      pairs++;
      if (lead >= 0xb0 && lead <= 0xd7 && trail >= 0xa1) common++;
      index += 2;
    }
    if (index - start < 2 || (index - start === 2 && (isLetter(bytes[start - 1]) || isLetter(bytes[index])))) return false;
  }
  return pairs > 0 && common * 2 >= pairs;
}

/** Looser, for a data set that declares nothing, where no high byte is lawful: whole pairs only, none alone between letters. */
function isMostlyPaired(bytes: Buffer): boolean {
  for (let index = 0; index < bytes.length; index++) {
    if ((bytes[index] as number) < 0x80) continue;
    if ((bytes[index + 1] ?? 0) < 0x40 || (isLetter(bytes[index - 1]) && isLetter(bytes[index + 1]))) return false;
    index++;
  }
  return true;
}

/** True where a GB reading holds a pair outside the common GB 2312 block, or a broken one: the mark of UTF-8 read as GBK. */
function hasUncommonPair(bytes: Buffer): boolean {
  for (let index = 0; index < bytes.length; index++) {
    const lead = bytes[index] as number;
    if (lead < 0x80) continue;
    const trail = bytes[++index];
    if (trail === undefined || lead < 0xa1 || trail < 0xa1) return true;
  }
  return false;
}
