/** How the story is told to a person in a terminal. */
export interface Teller {
  chapter(title: string): void;
  say(line: string): void;
  /** A line that is written over as it changes; where there is no terminal only its end is told. */
  progress(line: string): void;
}

/** Tells to a stream; colours only where a person watches. */
export function openTeller(out: NodeJS.WriteStream): Teller {
  const live = out.isTTY === true;
  const bold = (text: string): string => (live ? `\u001B[1m${text}\u001B[0m` : text);
  let pending = false;
  const endLine = (): void => {
    if (pending) out.write('\n');
    pending = false;
  };
  let chapters = 0;
  return {
    chapter(title) {
      endLine();
      chapters += 1;
      out.write(`\n${bold(`${chapters}. ${title}`)}\n`);
    },
    say(line) {
      endLine();
      out.write(`   ${line}\n`);
    },
    progress(line) {
      if (!live) return;
      out.write(`\r\u001B[K   ${line}`);
      pending = true;
    },
  };
}
