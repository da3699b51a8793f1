// The report of changes that a reload cannot make and that need a restart.

import { expect, test } from "bun:test";
import { parseListenAddress } from "../../src/lib/address.ts";
import type { Listener } from "../../src/config/config.ts";
import { restartReport } from "../../src/config/restart.ts";

const listener = (address: string, key = "listener", reusePort = false) =>
  ({ key, address: parseListenAddress(address)!, reusePort }) as Listener;

const a = listener("127.0.0.1:1", "listeners[0]");
const b = listener("127.0.0.1:2", "listeners[1]");
const says = (key: string, running: string | number, configured: string | number) => [
  "needs a restart",
  { key, running, configured },
];

test.each<[string, (Listener | undefined)[], Listener[], (number | undefined)[], number, unknown[]]>([
  ["nothing where nothing has changed", [a, b], [a, b], [0, 1], 2, []],
  ["a changed number of workers", [a], [a], [0], 3, [says("workers", 2, 3)]],
  ["a changed address", [a], [b], [0], 2, [says("listeners[1].address", "127.0.0.1:1", "127.0.0.1:2")]],
  ["a new listener", [a], [a, b], [0], 2, [says("listeners[1].address", "none", "127.0.0.1:2")]],
  ["a removed listener", [a, b], [a], [0, undefined], 2, [["listener removed", { address: "127.0.0.1:2" }]]],
  ["nothing about a port that was closed before", [undefined, b], [b], [undefined, 0], 2, []],
  [
    "a changed reusePort",
    [a],
    [{ ...a, reusePort: true }],
    [0],
    2,
    [says("listeners[0].reusePort", "false", "true")],
  ],
])("the restart report has %s", (_, ports, listeners, pairs, workers, report) => {
  expect(restartReport({ workers: 2, ports }, { workers, listeners }, pairs) as unknown[]).toEqual(report);
});
