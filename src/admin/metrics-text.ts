// Writes numbers down for Prometheus: as text 0.0.4, or as OpenMetrics 1.0. Pure.

import type { Histogram } from "../state/counters.ts";
import { METRICS, scrapedName, type Metric, type MetricName } from "./metrics-list.ts";

/** The values of one metric at a moment, with the values of its labels in their order. */
export type Samples = readonly (readonly [labels: readonly string[], value: number | Histogram])[];

/** Metrics at a moment. A metric without samples is left out. */
export type Reading = Readonly<Partial<Record<MetricName, Samples>>>;

export type Format = "text" | "openmetrics";

export const CONTENT_TYPE: Readonly<Record<Format, string>> = {
  text: "text/plain; version=0.0.4; charset=utf-8",
  openmetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8",
};

export function metricsText(reading: Reading, format: Format): string {
  // Joined at the end: one text that grows by small pieces takes longer to send.
  const lines: string[] = [];
  // All metrics of a target have the same array of values.
  const known = new Map<readonly string[], string>();
  for (const [name, metric] of Object.entries<Metric>(METRICS)) {
    const samples = reading[name as MetricName] ?? [];
    if (samples.length === 0) continue;
    const scraped = scrapedName(name);
    lines.push(head(scraped, metric, format));
    for (const [values, value] of samples) {
      let labels = known.get(values);
      if (labels === undefined) known.set(values, (labels = labelsOf(metric.labels, values)));
      if (typeof value === "number") lines.push(line(scraped, labels, value));
      else addHistogram(lines, scraped, labels, value, metric.bounds ?? []);
    }
  }
  if (format === "openmetrics") lines.push("# EOF\n");
  return lines.join("");
}

/** OpenMetrics calls a counter or an info by its name without the suffix. */
function head(name: string, { kind, help }: Metric, format: Format): string {
  const said = help.replace(/[\\\n]/g, (char) => (char === "\n" ? "\\n" : "\\\\"));
  if (format === "text") {
    return `# HELP ${name} ${said}\n# TYPE ${name} ${kind === "info" ? "gauge" : kind}\n`;
  }
  const family = name.replace(kind === "counter" ? /_total$/ : kind === "info" ? /_info$/ : /$^/, "");
  const unit = /_(seconds|bytes)$/.exec(family)?.[1];
  return (
    `# TYPE ${family} ${kind}\n` +
    (unit === undefined ? "" : `# UNIT ${family} ${unit}\n`) +
    `# HELP ${family} ${said.replaceAll('"', '\\"')}\n`
  );
}

function addHistogram(
  lines: string[],
  name: string,
  labels: string,
  { counts, sum }: Histogram,
  bounds: readonly number[],
): void {
  const start = `${name}_bucket{${labels}${labels === "" ? "" : ","}`;
  const ends = boundsOf(bounds);
  let count = 0;
  for (let i = 0; i < counts.length; i++) {
    count += counts[i] as number;
    lines.push(`${start}${ends[i]}${count}\n`);
  }
  lines.push(line(`${name}_sum`, labels, sum / 1_000), line(`${name}_count`, labels, count));
}

/** What follows the other labels of each bucket. There are four lists of bounds: each is written once. */
function boundsOf(bounds: readonly number[]): readonly string[] {
  const known = written.get(bounds);
  if (known !== undefined) return known;
  const made = [...bounds, undefined].map((bound) => `le="${boundOf(bound)}"} `);
  written.set(bounds, made);
  return made;
}
const written = new WeakMap<readonly number[], readonly string[]>();

/** In seconds. OpenMetrics wants a point in it; with one, both formats are of the same series. */
function boundOf(ms: number | undefined): string {
  if (ms === undefined) return "+Inf";
  const seconds = ms / 1_000;
  return Number.isInteger(seconds) ? `${seconds}.0` : String(seconds);
}

function line(name: string, labels: string, value: number): string {
  const number = value === Infinity ? "+Inf" : value === -Infinity ? "-Inf" : String(value);
  return labels === "" ? `${name} ${number}\n` : `${name}{${labels}} ${number}\n`;
}

function labelsOf(names: readonly string[], values: readonly string[]): string {
  let text = "";
  names.forEach((name, i) => {
    text += `${i === 0 ? "" : ","}${name}="${escapeLabel(values[i] as string)}"`;
  });
  return text;
}

/** All that the formats want escaped. Halves of characters become U+FFFD, as they would on the wire. */
function escapeLabel(value: string): string {
  // Most have nothing of the kind.
  if (/^[ !#-[\]-~]*$/.test(value)) return value;
  return value.toWellFormed().replace(/[\\"\n]/g, (char) => (char === "\n" ? "\\n" : `\\${char}`));
}

/** Which format a scraper asks for: OpenMetrics where it prefers that to plain text, or likes both the same. */
export function formatFor(accept: string): Format {
  let openmetrics = 0;
  let text = 0;
  for (const entry of accept.toLowerCase().split(",")) {
    const [type = "", ...parameters] = entry.split(";").map((part) => part.trim());
    const given = parameters.find((part) => part.startsWith("q="));
    const weight = given === undefined ? 1 : Number(given.slice(2)) || 0;
    const version = parameters.find((part) => part.startsWith("version="));
    const known = version === undefined || version === "version=1.0.0" || version === "version=0.0.1";
    if (type === "application/openmetrics-text" && known) openmetrics = Math.max(openmetrics, weight);
    else if (type === "text/plain") text = Math.max(text, weight);
  }
  return openmetrics > 0 && openmetrics >= text ? "openmetrics" : "text";
}
