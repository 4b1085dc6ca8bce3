/** A media type with its parameters; type and parameter names in lower case. */
export interface MediaType {
  readonly type: string;
  readonly parameters: ReadonlyMap<string, string>;
}

/** One range of an Accept header. */
export interface AcceptedRange extends MediaType {
  /** 0 to 1; 0 says never. */
  readonly quality: number;
}

const MAX_RANGES = 50;

/**
 * A Content-Type with its parameters. Values may be quoted or not, also where RFC 9110 wants quotes: many DICOMweb
 * clients write `type=application/dicom` bare.
 * @returns undefined where the text is no media type.
 */
export function parseMediaType(text: string): MediaType | undefined {
  const [head, ...rest] = splitOutsideQuotes(text, ';');
  const type = (head ?? '').trim().toLowerCase();
  if (!/^[^\s/;,"]+\/[^\s/;,"]+$/.test(type)) return undefined;
  const parameters = new Map<string, string>();
  for (const part of rest) {
    const equals = part.indexOf('=');
    if (equals < 0) continue;
    const name = part.slice(0, equals).trim().toLowerCase();
    if (!parameters.has(name)) parameters.set(name, unquote(part.slice(equals + 1).trim()));
  }
  return { type, parameters };
}

/**
 * The ranges of an Accept header, best first; an absent or empty header accepts everything (RFC 9110 12.5.1). Ranges of
 * quality 0 stay in the list, at its end.
 */
export function parseAccept(header: string | undefined): AcceptedRange[] {
  const ranges = splitOutsideQuotes(header ?? '', ',')
    .slice(0, MAX_RANGES)
    .flatMap((text) => {
      const media = parseMediaType(text);
      if (media === undefined) return [];
      const q = Number(media.parameters.get('q') ?? '1');
      return [{ ...media, quality: q >= 0 && q <= 1 ? q : 0 }];
    });
  if (ranges.length === 0) return [{ type: '*/*', parameters: new Map(), quality: 1 }];
  // Array sort is stable: equal qualities keep the client's order.
  return ranges.sort((a, b) => b.quality - a.quality);
}

/** True where a range (`*` allowed) covers a type. */
export function rangeCovers(range: string, type: string): boolean {
  return range === '*/*' || range === type || (range.endsWith('/*') && type.startsWith(range.slice(0, -1)));
}

/** The first of our types, in our order of preference within equal quality, that the header accepts; undefined if none. */
export function chooseType(header: string | undefined, offered: readonly string[]): string | undefined {
  const ranges = parseAccept(header);
  const qualityOf = (type: string): number => {
    // The most exact range decides (RFC 9110 12.5.1).
    const covering = ranges.filter((range) => rangeCovers(range.type, type));
    const exact = covering.find((range) => range.type === type) ?? covering.find((range) => range.type !== '*/*') ?? covering[0];
    return exact?.quality ?? 0;
  };
  let best: { type: string; quality: number } | undefined;
  for (const type of offered) {
    const quality = qualityOf(type);
    if (quality > (best?.quality ?? 0)) best = { type, quality };
  }
  return best?.type;
}

function splitOutsideQuotes(text: string, separator: string): string[] {
  const parts: string[] = [];
  let from = 0;
  let quoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at];
    if (quoted && character === '\\') at += 1;
    else if (character === '"') quoted = !quoted;
    else if (!quoted && character === separator) {
      parts.push(text.slice(from, at));
      from = at + 1;
    }
  }
  parts.push(text.slice(from));
  return parts;
}

function unquote(text: string): string {
  if (!text.startsWith('"')) return text;
  const end = text.endsWith('"') && text.length > 1 ? -1 : text.length;
  return text.slice(1, end).replace(/\\(.)/g, '$1');
}
