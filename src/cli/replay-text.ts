// What `proxy replay` prints for people. Pure.

import { thousands } from "../config/values.ts";
import type { ReplayCount, ReplayResult } from "../engine/replay.ts";
import { escapeInvisible } from "../lib/errors.ts";
import { wrap } from "./columns.ts";

/** How many rows a table has, and how many clients the first line names. */
const MAX_ROWS = 50;
const MAX_NAMES = 5;

export function replayText(result: ReplayResult): string {
  const { admissions, refused, refusedBy, refusals, admitted, admittedBy, moved, movedTo } = result;
  return [
    `of ${thousands(admissions)} admissions ${thousands(refused)} would be refused${named(refusedBy)}`,
    ...table(refusedBy, (reason) => reason),
    ...(refusals === 0
      ? []
      : [`of ${thousands(refusals)} refusals ${thousands(admitted)} would be admitted${named(admittedBy)}`]),
    ...table(admittedBy, (reason) => `was ${reason}`),
    ...(moved === 0 ? [] : [`${thousands(moved)} admissions would reach another upstream${named(movedTo)}`]),
    ...table(movedTo, (upstream) => `now ${upstream || "none"}`),
    ...notes(result).flatMap((note) => wrap(`note: ${note}`)),
  ].join("\n");
}

function notes({ limits, skipped }: ReplayResult): string[] {
  return [
    "certificates are not judged again: a log has none",
    ...(limits
      ? []
      : [
          'limits are not replayed: the log has no lines "admitted"; the proxy writes them with log.admissions = true',
        ]),
    ...(skipped === 0 ? [] : [`${thousands(skipped)} lines are none of a JSON log`]),
  ];
}

/** The clients with the most: `: bob@etl 14×, …`. */
function named(counts: readonly ReplayCount[]): string {
  const sums = new Map<string, number>();
  for (const { client, count } of counts) sums.set(client, (sums.get(client) ?? 0) + count);
  const most = [...sums].sort(([, a], [, b]) => b - a);
  const names = most
    .slice(0, MAX_NAMES)
    .map(([client, count]) => `${escapeInvisible(client)} ${thousands(count)}×`);
  if (names.length === 0) return "";
  const more = most.length > MAX_NAMES ? `, and ${thousands(most.length - MAX_NAMES)} more clients` : "";
  return `: ${names.join(", ")}${more}`;
}

function table(counts: readonly ReplayCount[], what: (reason: string) => string): string[] {
  const rows = counts
    .slice(0, MAX_ROWS)
    .map(({ client, upstream, reason, count }) =>
      [`${thousands(count)}×`, client, upstream || "-", what(reason)].map(escapeInvisible),
    );
  const widths = [0, 1, 2].map((i) => Math.max(0, ...rows.map((row) => (row[i] as string).length)));
  const lines = rows.map(([count = "", ...others]) =>
    `  ${[count.padStart(widths[0] as number), ...others.map((cell, i) => cell.padEnd(widths[i + 1] ?? 0))].join("  ")}`.trimEnd(),
  );
  const more = counts.length - rows.length;
  return more > 0 ? [...lines, `  and ${thousands(more)} more rows`] : lines;
}
