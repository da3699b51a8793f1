// What the tool about slow round trips prints. Times are microseconds.

import { percentile, percentileOfRounds, together } from "../percentiles.ts";
import { CAUSES, mean, type Parts } from "./causes.ts";

/** What slow round trips are made of, by run: the mean, and how often each cause is the main one. */
interface Slow {
  readonly means: Parts[];
  readonly mains: Parts[];
}

/** What each run found. */
export interface Attribution {
  /** The mean of ordinary round trips, p45 to p55. */
  readonly ordinary: Parts[];
  /** Above p99, and above p99.9. */
  readonly slow: Slow;
  readonly slowest: Slow;
  /** How long each collection and each tick took, in milliseconds. */
  readonly collections: number[][];
  readonly ticks: number[][];
}

/** A table of causes. */
export function causesText({ ordinary, slow, slowest, collections, ticks }: Attribution): string {
  const shares = ({ means }: Slow) =>
    means.map((parts, run) => {
      const excess = parts.map((ms, i) => Math.max(0, ms - ordinary[run]![i]!));
      const total = excess.reduce((sum, ms) => sum + ms, 0);
      return excess.map((ms) => ms / total);
    });
  const column = (some: readonly Parts[], i: number) => median(some.map((parts) => parts[i]!));
  const us = (ms: number) => (ms * 1_000).toFixed(0);
  const percent = (share: number) => `${(share * 100).toFixed(0)} %`;
  const above99 = shares(slow);
  const above999 = shares(slowest);
  const rows = CAUSES.map(([cause, about], i) => [
    cause,
    us(column(ordinary, i)),
    us(column(slow.means, i)),
    us(column(slowest.means, i)),
    percent(column(above99, i)),
    percent(column(above999, i)),
    percent(mean(slow.mains)[i]!),
    percent(mean(slowest.mains)[i]!),
    about,
  ]);
  const sum = (some: readonly Parts[]) => us(median(some.map((parts) => parts.reduce((a, b) => a + b, 0))));
  rows.push(["all", sum(ordinary), sum(slow.means), sum(slowest.means), "", "", "", "", ""]);
  const head = [
    "cause",
    "p45–p55",
    "> p99",
    "> p99.9",
    "share > p99",
    "> p99.9",
    "main > p99",
    "> p99.9",
    "what it is",
  ];
  const each = (runs: readonly number[][]) => {
    const all = runs.flat().sort((a, b) => a - b);
    if (all.length === 0) return "none";
    return `${(all.length / runs.length).toFixed(1)} a run, ${us(percentile(all, 0.5))} µs each (median), ${us(all.at(-1)!)} the longest`;
  };
  return `
Traced: microseconds of one round trip by cause (mean of a run, median of the runs), of ordinary round trips and of slow
ones; each cause's share in what the slow ones take more than an ordinary one; and in how many of the slow ones it is the
main cause (of all runs). A few very slow round trips weigh heavily in the share, and not in the last two columns. The trace makes
everything slower, and the collector's log makes each collection longer.

${table([head, ...rows])}

Collections: ${each(collections)}. Ticks: ${each(ticks)}.`;
}

/** How many round trips took how long, of all runs. */
export function histogramText(taken: ReadonlyMap<string, Float64Array>): string {
  const names = [...taken.keys()];
  const rows = BUCKETS.map((from, bucket) => {
    const to = BUCKETS[bucket + 1] ?? Infinity;
    const counts = names.map((name) => {
      const all = taken.get(name)!;
      return firstAt(all, to) - firstAt(all, from);
    });
    const label = to === Infinity ? `${from} or more` : `${from}–${to}`;
    return [label, ...counts.map((count) => (count === 0 ? "" : count.toLocaleString("en")))];
  }).filter(([, ...cells]) => cells.some((cell) => cell !== ""));
  const total = names.map((name) => taken.get(name)!.length.toLocaleString("en"));
  return `
Not traced, in turn: how many round trips took so many microseconds, in all runs.

${table([["µs", ...names], ...rows, ["all", ...total]])}`;
}

/** Percentiles of the variants. */
export function variantsText(taken: ReadonlyMap<string, readonly Float64Array[]>): string {
  const rows = [...taken].map(([name, rounds]) => {
    const cell = (share: number) => {
      const figures = percentileOfRounds(rounds, share);
      return figures.length === 0 ? "–" : (median(figures) * 1_000).toFixed(0);
    };
    const all = together(rounds);
    const largest = (percentile(all, 1) * 1_000).toFixed(0);
    return [name, cell(0.5), cell(0.99), cell(0.999), cell(0.9999), largest];
  });
  return `
The same in percentiles, medians of the runs (of all runs together where one run has too few).

${table([["variant", "p50", "p99", "p99.9", "p99.99", "largest"], ...rows])}`;
}

/** Steps of a factor of some 1.4, in microseconds. */
const BUCKETS = [
  0, 100, 140, 200, 280, 400, 560, 800, 1_100, 1_600, 2_200, 3_200, 4_500, 6_400, 9_000, 13_000, 25_000,
];

/** The place of the first sample that took so long or longer; samples are milliseconds, sorted. */
function firstAt(sorted: Float64Array, us: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! * 1_000 < us) low = middle + 1;
    else high = middle;
  }
  return low;
}

function median(figures: readonly number[]): number {
  const sorted = figures.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

function table([head = [], ...body]: readonly (readonly string[])[]): string {
  const widths = head.map((_, i) => Math.max(...[head, ...body].map((cells) => cells[i]!.length)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, i) => cell.padEnd(widths[i]!)).join(" | ")} |`;
  return [line(head), line(widths.map((width) => "-".repeat(width))), ...body.map(line)].join("\n");
}
