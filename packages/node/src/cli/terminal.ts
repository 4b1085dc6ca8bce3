import { bytesText } from '../portal/doctor.ts';
import type { Language, Say } from './words.ts';

/** Where a command writes, and how it speaks. */
export interface Terminal {
  readonly say: Say;
  readonly language: Language;
  readonly json: boolean;
  /** One line of the answer (standard output); silent with --json. */
  readonly print: (line: string) => void;
  /** A line for the person who waits (standard error), written over the last one on a terminal. */
  readonly progress: (line: string) => void;
  /** A line that stays (standard error). */
  readonly note: (line: string) => void;
  /** The JSON object of the command: its last line. */
  readonly finish: (result: object) => void;
}

/** @param streams standard output and error of the process. */
export function openTerminal({
  say,
  language,
  json,
  out,
  err,
}: {
  say: Say;
  language: Language;
  json: boolean;
  out: NodeJS.WriteStream;
  err: NodeJS.WriteStream;
}): Terminal {
  let pending = false;
  let lastAt = 0;
  const settle = (): void => {
    if (pending) err.write('\n');
    pending = false;
  };
  return {
    say,
    language,
    json,
    print(line) {
      settle();
      if (!json) out.write(`${line}\n`);
    },
    progress(line) {
      const now = performance.now();
      if (err.isTTY) {
        err.write(`\r\u001b[K${line}`);
        pending = true;
      } else if (now - lastAt > 2000) {
        // A file or a pipe gets a line now and then, not one a picture.
        err.write(`${line}\n`);
        lastAt = now;
      }
    },
    note(line) {
      settle();
      err.write(`${line}\n`);
    },
    finish(result) {
      settle();
      if (json) out.write(`${JSON.stringify(result)}\n`);
    },
  };
}

/** Rows under a heading, columns aligned; wide characters count two. */
export function table(heading: string, rows: readonly (readonly string[])[]): string[] {
  const all = [heading.split('|'), ...rows];
  const widths = all[0]?.map((_, column) => Math.max(...all.map((row) => width(row[column] ?? '')))) ?? [];
  return all.map((row) =>
    row.map((cell, column) => (column === row.length - 1 ? cell : cell + ' '.repeat((widths[column] ?? 0) - width(cell)))).join('  '),
  );
}

function width(text: string): number {
  let columns = 0;
  for (const character of text)
    columns += /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]/u.test(character) ? 2 : 1;
  return columns;
}

/** DA as 2024-03-01; what is no DA is shown as it is. */
export function dateText(date: string | undefined): string {
  return date !== undefined && /^\d{8}$/.test(date) ? `${date.slice(0, 4)}-${date.slice(4, 6)}-${date.slice(6)}` : (date ?? '');
}

/** Local date and time, to the minute. */
export function momentText(epochMs: number): string {
  const at = new Date(epochMs);
  const two = (number: number): string => String(number).padStart(2, '0');
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}`;
}

export { bytesText };
