// Formats Markdown for a terminal: wraps paragraphs and list entries to its width, keeps code, and prints a table that
// is too wide as a list of its rows. Pure.

import { WIDTH, columns, widthFor, wrap } from "./columns.ts";

const ENTRY = /^\s*([-*]|\d+\.) /;

export function reflow(markdown: string): string {
  const out: string[] = [];
  let paragraph: string[] = [];
  const table: string[] = [];
  let inCode = false;
  const flush = () => {
    const [first = "", ...rest] = paragraph;
    paragraph = [];
    if (first === "") return;
    const indent = " ".repeat(ENTRY.exec(first)?.[0].length ?? /^ */.exec(first)![0].length);
    const head = first.slice(0, indent.length);
    const text = [first.slice(indent.length), ...rest.map((line) => line.trim())].join(" ");
    out.push(...wrap(text, WIDTH - indent.length).map((line, i) => (i === 0 ? head : indent) + line));
  };
  for (const line of markdown.split("\n")) {
    const fence = /^\s*```/.test(line);
    if (!inCode && line.startsWith("|")) {
      if (table.length === 0) flush();
      table.push(line);
      continue;
    }
    if (table.length > 0) out.push(...tableLines(table.splice(0)));
    if (fence || inCode || line === "" || line.startsWith("#")) {
      flush();
      out.push(line);
      if (fence) inCode = !inCode;
      continue;
    }
    if (ENTRY.test(line)) flush();
    paragraph.push(line);
  }
  flush();
  out.push(...tableLines(table));
  return out.join("\n");
}

/** A row of a table that is too wide: its first cell, and below it the others, each after its column's name. */
function tableLines(table: readonly string[]): string[] {
  if (table.every((line) => line.length <= WIDTH)) return [...table];
  const cellsOf = (line: string) =>
    line
      .replace(/^\||\|\s*$/g, "")
      .split(/(?<!\\)\|/)
      .map((cell) => cell.trim().replaceAll("\\|", "|"));
  const [names = [], , ...rows] = table.map(cellsOf);
  if (names.length === 2) {
    const pairs = rows.map(([first = "", second = ""]) => [first, second] as const);
    return columns(pairs, Math.min(30, widthFor(pairs.map(([first]) => first))));
  }
  return rows.flatMap(([first = "", ...others]) => [
    `  ${first}`,
    ...columns(
      others.map((cell, i) => [`${names[i + 1]}:`, cell] as const),
      Math.max(0, ...names.slice(1).map((name) => name.length)) + 6,
      4,
    ),
  ]);
}
