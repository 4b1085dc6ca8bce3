import { MeshError } from '@meridian/shared/errors';
import type { Viewport } from './renderer.ts';
import type { Window, WindowFunction } from './render/image-description.ts';

/** How a picture is asked for (PS3.18 8.3.5.1). */
export interface RenderQuery {
  readonly window?: Window;
  readonly viewport?: Viewport;
  /** JPEG quality, 1 to 100. */
  readonly quality: number;
}

const DEFAULT_QUALITY = 85;
const THUMBNAIL_PIXELS = 128;
const MAX_PIXELS = 8_192;
const FUNCTIONS: Readonly<Record<string, WindowFunction>> = { linear: 'LINEAR', 'linear-exact': 'LINEAR_EXACT', sigmoid: 'SIGMOID' };

/**
 * Reads `window=center,width,function`, `viewport=width,height[,left,top,width,height]` and `quality`.
 * @throws MeshError INVALID_ARGUMENT / QUERY_VALUE_INVALID
 */
export function parseRenderQuery(search: string, thumbnail: boolean): RenderQuery {
  const query = new URLSearchParams(search);
  const window = query.get('window');
  const viewport = query.get('viewport');
  const quality = query.get('quality');
  if (quality !== null && !(/^\d{1,3}$/.test(quality) && Number(quality) >= 1 && Number(quality) <= 100))
    throw invalid('quality must be a whole number from 1 to 100.');
  return {
    ...(window === null ? {} : { window: parseWindow(window) }),
    ...(viewport === null
      ? thumbnail
        ? { viewport: { width: THUMBNAIL_PIXELS, height: THUMBNAIL_PIXELS } }
        : {}
      : { viewport: parseViewport(viewport) }),
    quality: quality === null ? DEFAULT_QUALITY : Number(quality),
  };
}

function parseWindow(text: string): Window {
  const [center, width, shape = 'linear', ...rest] = text.split(',').map((part) => part.trim());
  const named = FUNCTIONS[shape.toLowerCase()];
  const numbers = [center, width].map((part) => (part === undefined || part === '' ? Number.NaN : Number(part)));
  if (
    rest.length > 0 ||
    named === undefined ||
    !numbers.every(Number.isFinite) ||
    (numbers[1] ?? 0) <= 0 ||
    (named === 'LINEAR' && (numbers[1] ?? 0) < 1)
  )
    throw invalid('window must be center,width,function with a width above 0 and a function of linear, linear-exact or sigmoid.');
  return { center: numbers[0] ?? 0, width: numbers[1] ?? 1, function: named };
}

function parseViewport(text: string): Viewport {
  const parts = text.split(',').map((part) => (/^\d{1,5}$/.test(part.trim()) ? Number(part) : Number.NaN));
  const [width = 0, height = 0, left = 0, top = 0, regionWidth = 0, regionHeight = 0] = parts;
  const whole = parts.every(Number.isInteger) && width >= 1 && height >= 1 && width <= MAX_PIXELS && height <= MAX_PIXELS;
  if (!whole || (parts.length !== 2 && (parts.length !== 6 || regionWidth < 1 || regionHeight < 1)))
    throw invalid(`viewport must be width,height or width,height,left,top,width,height in pixels, at most ${MAX_PIXELS}.`);
  return { width, height, ...(parts.length === 6 ? { region: { left, top, width: regionWidth, height: regionHeight } } : {}) };
}

function invalid(message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', 'QUERY_VALUE_INVALID', message);
}
