// What `proxy check` says of settings: those that differ from the built-in ones.

import { expect, test } from "bun:test";
import { differences } from "../../src/cli/differences.ts";
import { BUILT_IN, type ProxyConfig } from "../../src/config/config.ts";

const UPSTREAM = { name: "a", targets: ["10.0.0.1:1"], authorizedGroups: ["g"] };
const LISTENER = { ca: "ca.crt", certificate: "a.crt", privateKey: "a.key" };

test.each<[string, ProxyConfig, [key: string, value: string, builtIn?: string][]]>([
  ["an empty configuration has none", {}, []],
  ["the built-in configuration has none", BUILT_IN, []],
  ["a key that is undefined is none", { timeout: undefined } as object, []],
  ["another value is one", { timeout: "1m" }, [["timeout", '"1m"', '"5m"']]],
  ["the same time in another unit is none", { timeout: "300s" }, []],
  ["the same time as a number is none", { timeout: 300_000 }, []],
  ["no time at all is none, however it is written", { revocationGrace: "0s" }, []],
  ["a word in place of a number is one", { workers: "auto" }, [["workers", '"auto"', "1"]]],
  ["a switch is one", { watch: false }, [["watch", "false", "true"]]],
  ["a key without a built-in value is one", { maxConnections: 5 }, [["maxConnections", "5"]]],
  ["an empty list is none where that is built in", { handshakes: { exempt: [] } }, []],
  [
    "a list shows its entries",
    { handshakes: { exempt: ["10.0.0.0/8", "::1"] } },
    [["handshakes.exempt", '"10.0.0.0/8", "::1"', "none"]],
  ],
  [
    "only those keys of a table are that differ",
    { rateLimit: { capacity: 10, fillRate: "2s", maxConnections: 3 } },
    [
      ["rateLimit.fillRate", '"2s"', '"1s"'],
      ["rateLimit.maxConnections", "3"],
    ],
  ],
  [
    "what the summary shows of a listener is none",
    { listener: { ...LISTENER, address: ":1", crl: "x", upstream: "a", reusePort: true } },
    [["listener.reusePort", "true", "false"]],
  ],
  [
    "each listener of several is compared with the built-in one",
    {
      listeners: [
        { ...LISTENER, address: ":1", sessionTickets: false },
        { ...LISTENER, address: ":2", sessionTickets: true },
      ],
    },
    [["listeners[0].sessionTickets", "false", "true"]],
  ],
  [
    "what the summary shows of an upstream is none",
    { upstreams: [{ ...UPSTREAM, serverNames: ["a.example"] }] },
    [],
  ],
  [
    "a health check is compared with the built-in one",
    { upstreams: [UPSTREAM, { ...UPSTREAM, healthCheck: { interval: "2000ms", fall: 5 } }] },
    [["upstreams[1].healthCheck.fall", "5", "3"]],
  ],
  ["an empty health check is none", { upstreams: [{ ...UPSTREAM, healthCheck: {}, slowStart: 0 }] }, []],
  [
    "what cannot be seen is escaped",
    { upstreams: [{ ...UPSTREAM, slowStart: "30s", tls: { ca: "x", serverName: "a\u202eb" } }] },
    [
      ["upstreams[0].slowStart", '"30s"', "0"],
      ["upstreams[0].tls.ca", '"x"'],
      ["upstreams[0].tls.serverName", '"a\\u202eb"'],
    ],
  ],
])("%s", (_, written, expected) => {
  expect(differences(written)).toEqual(expected.map(([key, value, builtIn]) => ({ key, value, builtIn })));
});
