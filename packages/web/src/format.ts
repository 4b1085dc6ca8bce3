import type { Language } from './settings.tsx';

/** DA (YYYYMMDD) as 2024-03-01; what is no DA is shown as it is. */
export function dateOfDa(date: string | undefined): string {
  return date !== undefined && /^\d{8}$/.test(date) ? `${date.slice(0, 4)}-${date.slice(4, 6)}-${date.slice(6)}` : (date ?? '');
}

/** Time of day; with the date where it is another day than today. */
export function momentText(epochMs: number, language: Language): string {
  const at = new Date(epochMs);
  const today = at.toDateString() === new Date().toDateString();
  return new Intl.DateTimeFormat(
    language,
    today ? { hour: '2-digit', minute: '2-digit', hour12: false } : { dateStyle: 'medium', timeStyle: 'short', hour12: false },
  ).format(at);
}

/** A day, in words of the language. */
export function dayText(epochMs: number, language: Language): string {
  return new Intl.DateTimeFormat(language, { dateStyle: 'medium' }).format(new Date(epochMs));
}

/** Bytes as a person reads them, powers of 1024. */
export function bytesText(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value >= 100 || unit === 0 ? Math.round(value) : Math.round(value * 10) / 10} ${units[unit] ?? ''}`;
}
