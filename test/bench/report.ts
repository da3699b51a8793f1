// Medians, and a table of them.

/** One measure: the figures of all rounds, by peer. */
export interface Row {
  readonly name: string;
  readonly unit: string;
  readonly figures: ReadonlyMap<string, readonly number[]>;
}

/** The middle one, or the mean of the middle two. */
export function median(figures: readonly number[]): number {
  const sorted = figures.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/** Markdown: a row per measure, a column per peer, and the ratio of the first peer to the best of the others. */
export function table(rows: readonly Row[], peers: readonly string[]): string {
  const [ours, ...others] = peers;
  const head = ["measure", "unit", ...peers, "ratio to the best peer"];
  const body = rows.map(({ name, unit, figures }) => {
    const medians = new Map([...figures].map(([peer, all]) => [peer, median(all)]));
    const best = Math.min(...others.map((peer) => medians.get(peer) ?? Infinity));
    const ratio = medians.get(ours!)! / best;
    return [
      name,
      unit,
      ...peers.map((peer) => (medians.has(peer) ? show(medians.get(peer)!) : "–")),
      Number.isFinite(ratio) && best !== Infinity ? ratio.toFixed(2) : "–",
    ];
  });
  const all = [head, head.map(() => "---"), ...body];
  const widths = head.map((_, i) => Math.max(...all.map((cells) => cells[i]!.length)));
  const line = (cells: string[]) =>
    `| ${cells.map((cell, i) => (cell === "---" ? "-".repeat(widths[i]!) : cell.padEnd(widths[i]!))).join(" | ")} |`;
  return all.map(line).join("\n");
}

function show(figure: number): string {
  return figure >= 100 ? figure.toFixed(0) : figure >= 10 ? figure.toFixed(1) : figure.toFixed(2);
}
