// Wraps text for a terminal. Pure.

/**
 * Breaks a text between words into lines of at most `width` characters, each indented by `indent` spaces. A word that
 * is longer than a line has a line of its own.
 */
export function wrap(text: string, indent = 0, width = 80): string {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(/\s+/).filter(Boolean)) {
    const longer = line === "" ? word : `${line} ${word}`;
    if (line !== "" && indent + longer.length > width) {
      lines.push(line);
      line = word;
    } else line = longer;
  }
  return [...lines, line].map((each) => " ".repeat(indent) + each).join("\n");
}
