// What a benchmark says in the end: medians and ratios, for people and for machines.

import type { Floor } from "./floor.ts";
import type { Machine } from "./machine.ts";
import type { Figures } from "./rounds.ts";

/** All that is known at the end. */
export interface WorkerEvent {
  readonly machine: Machine;
  readonly versions: Readonly<Record<string, string>>;
  /** Names of those that took part, this proxy first. */
  readonly peers: readonly string[];
  readonly missing: readonly string[];
  /** Why measures have no row, by their names. */
  readonly failed: Readonly<Record<string, string>>;
  readonly floor: Floor;
  readonly rows: readonly Figures[];
  readonly quick: boolean;
  readonly seconds: number;
}

/** One JSON document. */
export function toJson({ rows, floor, ...rest }: WorkerEvent): string {
  const measures = rows.map(({ row, byPeer, samples }) => ({
    name: row.name,
    unit: row.unit,
    about: row.about,
    better: row.more ? "more" : "less",
    ...(samples !== undefined && { samples }),
    ...(row.floor && { floor: floor.figures[row.floor] }),
    medians: Object.fromEntries(mediansOf({ row, byPeer })),
    ratio: ratioOf({ row, byPeer }, rest.peers) ?? null,
    rounds: Object.fromEntries(byPeer),
  }));
  return JSON.stringify({ ...rest, floor, measures }, undefined, 2);
}

/** For a terminal, and for pasting into Markdown. */
export function toText(report: WorkerEvent): string {
  const { cpu, cores, kernel, descriptors } = report.machine;
  const versions = Object.entries(report.versions).map(([name, version]) => `${name} ${version}`);
  const missing = report.missing.map((name) => `${name} is missing`);
  const failed = Object.entries(report.failed).map(([name, problem]) => `${name} FAILED: ${problem}`);
  const explain = ({ row: { about, more }, samples }: Figures) =>
    about +
    (samples === undefined ? "" : `; of ${samples.toLocaleString("en")} samples`) +
    (more ? "; more is better" : "");
  return `
${cores} × ${cpu}, ${kernel}, ${descriptors} descriptors
${versions.join(", ")}
${[...missing, ...failed].map((line) => `${line}\n`).join("")}
${table(report)}

${report.rows.map((figures) => `${figures.row.name}: ${explain(figures)}`).join("\n")}

Medians of all rounds; a percentile for which one round has too few samples is that of all rounds together, and
one for which they have too few is left out. The ratio is ${report.peers[0]}'s to that of the best of the others. The floor is what the
arithmetic alone costs, by openssl speed:
${report.floor.lines.join("\n")}
`;
}

/** Markdown: a row per measure, a column per peer. */
function table({ rows, peers, floor }: WorkerEvent): string {
  const head = ["measure", "unit", ...peers, "ratio", "floor"];
  const body = rows.map((figures) => {
    const { row } = figures;
    const medians = mediansOf(figures);
    return [
      row.name,
      row.unit,
      ...peers.map((peer) => show(medians.get(peer))),
      ratioOf(figures, peers)?.toFixed(2) ?? "–",
      show(row.floor && floor.figures[row.floor]),
    ];
  });
  const widths = head.map((_, i) => Math.max(...[head, ...body].map((cells) => cells[i]!.length)));
  const line = (cells: string[]) => `| ${cells.map((cell, i) => cell.padEnd(widths[i]!)).join(" | ")} |`;
  return [line(head), line(widths.map((width) => "-".repeat(width))), ...body.map(line)].join("\n");
}

function mediansOf({ byPeer }: Figures): Map<string, number> {
  return new Map([...byPeer].map(([peer, figures]) => [peer, median(figures)]));
}

/** The first peer's median to the best of the others'; none where one of the two is missing. */
function ratioOf(figures: Figures, [ours, ...others]: readonly string[]): number | undefined {
  const medians = mediansOf(figures);
  const theirs = others.flatMap((peer) => medians.get(peer) ?? []);
  const mine = medians.get(ours!);
  if (mine === undefined || theirs.length === 0) return undefined;
  return mine / (figures.row.more ? Math.max(...theirs) : Math.min(...theirs));
}

/** The middle one, or the mean of the middle two. */
function median(figures: readonly number[]): number {
  const sorted = figures.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

function show(figure: number | undefined): string {
  if (figure === undefined) return "–";
  return figure >= 100 ? figure.toFixed(0) : figure >= 10 ? figure.toFixed(1) : figure.toFixed(2);
}
