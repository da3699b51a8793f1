// The text that Prometheus reads: its form, its escapes, and the format that is asked for.

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { METRICS, linesOf, scrapedName, type Metric } from "../../src/admin/metrics-list.ts";
import { formatFor, metricsText, type Reading } from "../../src/admin/metrics-text.ts";
import { Scrape } from "../support/scrape.ts";

const reading: Reading = {
  build_info: [[["1.2.3", "bun 9"], 1]],
  connections_accepted_total: [
    [[":5000"], 3],
    [["[::1]:5000"], 2 ** 53 - 1],
  ],
  connections_open: [],
  handshake_duration_seconds: [
    [[":5000", "true"], { counts: [1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 4], sum: 12_345 }],
  ],
  process_start_time_seconds: [[[], 1_700_000_000.25]],
};

describe("the text", () => {
  test("of Prometheus has a head for each metric that has samples, and the samples", () => {
    const lines = metricsText(reading, "text").split("\n");
    expect(lines.slice(0, 7)).toEqual([
      "# HELP tcpproxy_build_info The version of the proxy, and the runtime in it.",
      "# TYPE tcpproxy_build_info gauge",
      'tcpproxy_build_info{version="1.2.3",runtime="bun 9"} 1',
      "# HELP tcpproxy_connections_accepted_total Connections accepted, before TLS.",
      "# TYPE tcpproxy_connections_accepted_total counter",
      'tcpproxy_connections_accepted_total{listener=":5000"} 3',
      'tcpproxy_connections_accepted_total{listener="[::1]:5000"} 9007199254740991',
    ]);
    expect(lines.slice(-4)).toEqual([
      "# HELP process_start_time_seconds When the process started.",
      "# TYPE process_start_time_seconds gauge",
      "process_start_time_seconds 1700000000.25",
      "",
    ]);
    expect(lines.join()).not.toContain("connections_open");
  });

  test("of a histogram has cumulative buckets in seconds, the sum in seconds, and the count", () => {
    const { series } = new Scrape(metricsText(reading, "text"));
    const own = series.filter(({ name }) => name.startsWith("tcpproxy_handshake"));
    expect(own.slice(0, 12).map(({ labels, value }) => [labels["le"], value])).toEqual([
      ...["0.005", "0.01"].map((le) => [le, 1]),
      ...["0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0"].map((le) => [le, 3]),
      ["+Inf", 7],
    ]);
    expect(own.slice(12)).toEqual([
      { name: "tcpproxy_handshake_duration_seconds_sum", labels: labels("true"), value: 12.345 },
      { name: "tcpproxy_handshake_duration_seconds_count", labels: labels("true"), value: 7 },
    ]);
  });
  const labels = (resumed: string) => ({ listener: ":5000", resumed });

  test("of OpenMetrics names counters and infos without their suffix, has units, and an end", () => {
    const text = metricsText(reading, "openmetrics");
    expect(text).toStartWith("# TYPE tcpproxy_build info\n# HELP tcpproxy_build The");
    expect(text).toContain('\ntcpproxy_build_info{version="1.2.3",runtime="bun 9"} 1\n');
    expect(text).toContain("\n# TYPE tcpproxy_connections_accepted counter\n");
    expect(text).toContain('\ntcpproxy_connections_accepted_total{listener=":5000"} 3\n');
    expect(text).toContain(
      "\n# TYPE tcpproxy_handshake_duration_seconds histogram\n# UNIT tcpproxy_handshake_duration_seconds seconds\n",
    );
    expect(text).toEndWith("\n# EOF\n");
    expect(text.match(/# EOF/g)).toHaveLength(1);
    // The same series in both.
    expect(new Scrape(text).shape).toEqual(new Scrape(metricsText(reading, "text")).shape);
  });

  test.each([
    ['a"b', 'a\\"b'],
    ["a\\", "a\\\\"],
    ["a\nb", "a\\nb"],
    ['"} 1\ntcpproxy_evil{x="', '\\"} 1\\ntcpproxy_evil{x=\\"'],
    ["\\n", "\\\\n"],
    ["{,=}# ü 🦊", "{,=}# ü 🦊"],
    ["\ud800", "\ufffd"],
    ["", ""],
  ])("escapes the label value %j", (value, escaped) => {
    for (const format of ["text", "openmetrics"] as const) {
      const text = metricsText({ connections_open: [[[value], 1]] }, format);
      expect(text).toContain(`\ntcpproxy_connections_open{upstream="${escaped}"} 1\n`);
      expect(new Scrape(text).series).toEqual([
        { name: "tcpproxy_connections_open", labels: { upstream: value.toWellFormed() }, value: 1 },
      ]);
    }
  });
});

test.each([
  ["", "text"],
  ["*/*", "text"],
  ["text/plain", "text"],
  ["application/openmetrics-text", "openmetrics"],
  ["application/openmetrics-text; version=1.0.0; charset=utf-8", "openmetrics"],
  ["application/openmetrics-text;version=2.0.0", "text"],
  ["application/openmetrics-text;q=0", "text"],
  ["application/openmetrics-text;q=0.3,text/plain;q=0.8", "text"],
  [
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "openmetrics",
  ],
  [",,;;q=,=", "text"],
] as const)("the header Accept %j is answered with %s", (accept, format) => {
  expect(formatFor(accept)).toBe(format);
});

describe("the list of metrics", () => {
  const all = Object.entries<Metric>(METRICS);

  test.each(all)("has %s in the right form", (name, { kind, help, labels, bounds }) => {
    expect(name.endsWith("_total")).toBe(kind === "counter");
    expect(name.endsWith("_info")).toBe(kind === "info");
    expect(bounds !== undefined).toBe(kind === "histogram");
    if (kind === "histogram") expect(name).toEndWith("_seconds");
    expect(help).toMatch(/^[A-Z0-9].*\.$/);
    expect(labels).not.toContain("le");
  });

  test("counts a line for each bucket of a histogram, its sum and its count", () => {
    const lines = metricsText(reading, "text")
      .split("\n")
      .filter((line) => line.startsWith("tcpproxy_handshake"));
    expect(linesOf(METRICS.handshake_duration_seconds)).toBe(lines.length);
    expect(linesOf(METRICS.connections_open)).toBe(1);
  });

  test("is the table that `proxy help metrics` prints", () => {
    const page = readFileSync(`${import.meta.dir}/../../src/cli/topics/metrics.md`, "utf8");
    const rows = page
      .split("\n")
      .filter((line) => /^\| `(tcpproxy|process)_/.test(line))
      .map((line) =>
        line
          .split("|")
          .slice(1, -1)
          .map((cell) => cell.trim()),
      );
    expect(rows).toEqual(
      all.map(([name, { kind, labels, help }]) => [
        `\`${scrapedName(name)}\``,
        kind,
        labels.map((label) => `\`${label}\``).join(", "),
        help,
      ]),
    );
    const named = [...page.matchAll(/\b(?:tcpproxy|process)_[a-z_]+/g)].map(([name]) => name);
    const known = new Set(all.map(([name]) => scrapedName(name)));
    const unknown = named.filter((name) => !known.has(name.replace(/_bucket$/, "")));
    expect(unknown).toEqual([]);
  });
});
