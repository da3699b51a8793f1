// Text in columns: wrapped at spaces, never within a word. Pure.

import { fill } from "../lib/wrap.ts";

/** The width that every terminal has, in columns. */
export const WIDTH = 80;

/** A space that is never a line end. */
export const NO_BREAK_SPACE = "\u00a0";

/** Wraps at spaces; a word that is longer than a line gets a line to itself. Line ends in the text stay. */
export function wrap(text: string, width = WIDTH): string[] {
  return text.split("\n").flatMap((line) => {
    return fill(line.split(" "), width).map((each) => each.replaceAll(NO_BREAK_SPACE, " "));
  });
}

/**
 * Two columns: names, and texts that are wrapped beside them. A name that is wider than `left` has its text below it.
 * @param left width of the first column, including the spaces before and after the name
 */
export function columns(rows: readonly (readonly [string, string])[], left: number, indent = 2): string[] {
  const start = " ".repeat(left);
  return rows.flatMap(([name, text]) => {
    const [first = "", ...rest] = wrap(text, WIDTH - left);
    const head = " ".repeat(indent) + name;
    const below = rest.map((line) => start + line);
    const lines = head.length < left ? [head.padEnd(left) + first] : [head, start + first];
    return [...lines, ...below].map((line) => line.trimEnd());
  });
}

/** The width of the first column that fits the longest of these names. */
export function widthFor(names: readonly string[], indent = 2): number {
  return Math.max(0, ...names.map((name) => name.length)) + indent + 2;
}
