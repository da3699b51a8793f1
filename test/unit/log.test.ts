// The two log formats. Values that come from a peer must not break a line or reach a terminal unescaped.

import { describe, expect, test } from "bun:test";
import { createLogger, type LogLevel } from "../../src/lib/log.ts";

function lines(
  options: { level?: LogLevel; format?: "json" | "pretty" },
  log: (logger: ReturnType<typeof createLogger>) => void,
) {
  const written: string[] = [];
  log(createLogger({ ...options, write: (line) => written.push(line) }));
  return written;
}

describe("the JSON log", () => {
  test("the JSON log has one object a line: time, level, msg, then the fields that have a value", () => {
    const [line] = lines({ format: "json" }, (log) =>
      log.info("closed", { client: "a@x", bytesIn: 1, target: undefined }),
    );
    expect(line).toEndWith("}\n");
    const record = JSON.parse(line!);
    expect(Object.keys(record)).toEqual(["time", "level", "msg", "client", "bytesIn"]);
    expect(record).toMatchObject({ level: "info", msg: "closed", client: "a@x", bytesIn: 1 });
    expect(new Date(record.time).toISOString()).toBe(record.time);
  });

  test("the JSON log keeps hostile values on one line of printable ASCII, and they parse back unchanged", () => {
    const hostile = 'x\n{"level":"info"}\r\x1b[31m\x9b31m\u202e\u2028\u200b"\\\ud800';
    const [line, ...more] = lines({ format: "json" }, (log) => log.warn("refused", { client: hostile }));
    expect(more).toEqual([]);
    expect(line!.slice(0, -1)).toMatch(/^[\x20-\x7e]*$/);
    expect(JSON.parse(line!).client).toBe(hostile);
  });
});

describe("the pretty log", () => {
  test("the pretty log has time, level, message and fields", () => {
    const [line] = lines({ format: "pretty" }, (log) =>
      log.warn("refused", { remote: "[::1]:5", reason: "rate_limited", detail: "a b", upstream: undefined }),
    );
    expect(line).toMatch(
      /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} warn  refused remote=\[::1\]:5 reason=rate_limited detail="a b"\n$/,
    );
  });

  test("the pretty log keeps hostile values on one line of printable ASCII", () => {
    const [line] = lines({ format: "pretty" }, (log) =>
      log.warn("refused", { client: "a\n\x1b[31m\u202e b\x9b" }),
    );
    expect(line!.slice(0, -1)).toMatch(/^[\x20-\x7e]*$/);
  });
});

test.each<[LogLevel, string[]]>([
  ["debug", ["debug", "info", "warn", "error"]],
  ["info", ["info", "warn", "error"]],
  ["warn", ["warn", "error"]],
  ["error", ["error"]],
  ["silent", []],
])("the log at level %s writes %p", (level, expected) => {
  const written = lines({ level, format: "json" }, (log) => {
    for (const each of ["debug", "info", "warn", "error"] as const) log[each]("x", {});
  });
  expect(written.map((line) => JSON.parse(line).level)).toEqual(expected);
});

test("the log writes a thousand equal lines as a thousand lines", () => {
  expect(
    lines({ format: "json" }, (log) => {
      for (let i = 0; i < 1_000; i++) log.warn("refused", { reason: "rate_limited" });
    }),
  ).toHaveLength(1_000);
});
