// An explanation for people: a line for each step, then the answer. Pure.

import type { Explanation } from "../connection/explanation.ts";
import { escapeInvisible } from "../lib/errors.ts";
import { columns, widthFor } from "./columns.ts";
import { markOf, type Marks } from "./marks.ts";

export function explanationText({ steps, upstream, reason }: Explanation, marks: Marks): string {
  const names = steps.map(({ step, ok }) => `${markOf(ok, marks)} ${step}`);
  const rows = steps.map(({ text, key, remedy }, i): [string, string] => {
    const by = key === undefined ? "" : ` (${key})`;
    const change = remedy === undefined ? "" : `\n${marks.hint} ${remedy}`;
    return [names[i]!, escapeLines(`${text}${by}${change}`)];
  });
  const answer = upstream === undefined ? `refused: ${reason}` : `allowed: ${escapeInvisible(upstream)}`;
  return [...columns(rows, widthFor(names, 0), 0), answer].join("\n");
}

/** Escapes everything but the line ends between the parts. */
function escapeLines(text: string): string {
  return text.split("\n").map(escapeInvisible).join("\n");
}
