// What a dry run prints.

import { expect, test } from "bun:test";
import { forecastText } from "../../src/cli/forecast-text.ts";
import type { Ending, Forecast } from "tcpproxy";

const nothing: Forecast = {
  changed: { keys: [], files: [] },
  targets: { added: [], removed: [] },
  listeners: { added: [], removed: [] },
  restarts: [],
  warnings: [],
  endings: [],
  graceMs: 0,
};
const ending: Ending = {
  id: "x-1",
  client: "bob@etl",
  remote: "10.0.0.1:5",
  upstream: "db",
  reason: "group_not_authorized",
};

test("a dry run without a change says so", () => {
  expect(forecastText(nothing)).toBe(
    "keys that change: none\nfiles that changed: none\nno open connection would end",
  );
});

test("a dry run lists what comes, what goes, and each connection that would end", () => {
  const text = forecastText({
    ...nothing,
    changed: { keys: ["timeout", "workers"], files: ["/a"] },
    targets: { added: ["db 10.0.0.2:1"], removed: ["db 10.0.0.1:1"] },
    restarts: [{ key: "workers", running: "1", configured: "2" }],
    warnings: ["\u001b[2Jodd"],
    endings: [ending, { ...ending, id: "x-2", reason: "certificate_revoked" }],
    graceMs: 30_000,
  });
  expect(text.split("\n")).toEqual([
    "keys that change: timeout, workers",
    "files that changed: /a",
    "+ target db 10.0.0.2:1",
    "- target db 10.0.0.1:1",
    "needs a restart: workers, 1 to 2",
    "warning: \\u001b[2Jodd",
    "open connections that would end, within 30s: 2 (1 group_not_authorized, 1 certificate_revoked)",
    "  x-1  bob@etl  db  10.0.0.1:5  group_not_authorized",
    "  x-2  bob@etl  db  10.0.0.1:5  certificate_revoked",
  ]);
});

test("a dry run lists fifty connections, and counts the others", () => {
  const text = forecastText({ ...nothing, endings: Array(60).fill(ending) });
  expect(text.split("\n").length).toBe(54);
  expect(text).toEndWith("\n  and 10 more");
});
