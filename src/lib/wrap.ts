// Wraps text for a terminal. Pure.

/** Puts words into lines of at most `width` characters. A word that is longer than a line gets a line to itself. */
export function fill(words: readonly string[], width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of words) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line];
}

/** Breaks a text between words into lines of at most `width` characters, each indented by `indent` spaces. */
export function wrap(text: string, indent = 0, width = 80): string {
  const words = text.split(/\s+/).filter(Boolean);
  return fill(words, width - indent)
    .map((line) => " ".repeat(indent) + line)
    .join("\n");
}
