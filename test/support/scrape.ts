// Scrapes a proxy's metrics and reads the text, strictly.

import type { Line, Log } from "./proxy.ts";

/** A series with its value. */
export interface Series {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** What was scraped. */
export class Scrape {
  readonly series: readonly Series[];

  constructor(text: string) {
    this.series = text.split("\n").flatMap((line) => (line === "" || line.startsWith("#") ? [] : read(line)));
    const keys = this.series.map(({ name, labels }) => JSON.stringify([name, Object.entries(labels).sort()]));
    if (new Set(keys).size !== keys.length) throw new Error("a series is there twice");
  }

  /** The series of a name whose labels are these, and maybe more. */
  all(name: string, labels: Readonly<Record<string, string>> = {}): Series[] {
    return this.series.filter(
      (each) =>
        each.name === `tcpproxy_${name}` &&
        Object.entries(labels).every(([key, value]) => each.labels[key] === value),
    );
  }

  sum(name: string, labels: Readonly<Record<string, string>> = {}): number {
    return this.all(name, labels).reduce((sum, { value }) => sum + value, 0);
  }

  /** By a label, what is not zero. */
  by(label: string, name: string, labels: Readonly<Record<string, string>> = {}): Record<string, number> {
    const found: Record<string, number> = {};
    for (const { labels: own, value } of this.all(name, labels)) {
      const key = own[label] ?? "";
      if (value !== 0) found[key] = (found[key] ?? 0) + value;
    }
    return found;
  }

  /** Names and labels without values, in order: equal where two scrapes have the same series. */
  get shape(): string[] {
    return this.series.map(({ name, labels }) => `${name} ${JSON.stringify(labels)}`);
  }
}

function read(line: string): Series {
  const match = /^([a-zA-Z_:][\w:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)$/.exec(
    line,
  );
  if (match === null) throw new Error(`not a line of metrics: ${line}`);
  const [, name, labels = "", value] = match;
  const pairs = [...labels.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g)].map(([, key, text]) => [
    key!,
    text!.replace(/\\(.)/g, (_, char: string) => (char === "n" ? "\n" : char)),
  ]);
  const number = value === "+Inf" ? Infinity : Number(value);
  if (Number.isNaN(number)) throw new Error(`not a number: ${line}`);
  return { name: name!, labels: Object.fromEntries(pairs) as Record<string, string>, value: number };
}

/** Where a proxy with `metrics` is monitored: the log says it. */
export async function monitoredAt(
  log: Pick<Log, "line"> | { line(msg: string): Promise<Line> },
): Promise<string> {
  return `http://${String((await log.line("metrics listening"))["address"])}`;
}

export async function scrape(url: string): Promise<Scrape> {
  const response = await fetch(`${url}/metrics`);
  if (response.status !== 200) throw new Error(`${response.status}: ${await response.text()}`);
  return new Scrape(await response.text());
}

/** Scrapes until it is so: threads count on their own. */
export async function scrapeUntil(
  url: string,
  condition: (scraped: Scrape) => boolean,
  what: string,
  ms = 10_000,
): Promise<Scrape> {
  const deadline = performance.now() + ms;
  for (;;) {
    const scraped = await scrape(url);
    if (condition(scraped)) return scraped;
    if (performance.now() > deadline) throw new Error(`waited ${ms} ms in vain until ${what}`);
  }
}
