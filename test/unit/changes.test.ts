// Which keys a reload has changed, as its log line lists them.

import { expect, test } from "bun:test";
import { changedKeys, listed } from "../../src/config/changes.ts";
import type { Config, ProxyConfig } from "../../src/config/config.ts";
import { resolveConfig } from "../../src/config/resolve.ts";

const db = {
  name: "db",
  targets: ["10.0.0.5:5432"],
  authorizedGroups: ["dba"],
  serverNames: ["db.example.com"],
};
const cache = { name: "cache", targets: ["10.0.0.6:6379"], authorizedGroups: ["dba", "ops"] };
const at = (port: number, over = {}) => ({
  address: `:${port}`,
  ca: "a",
  certificate: "b",
  privateKey: "c",
  ...over,
});
const before: ProxyConfig = { upstreams: [db, cache] };
const many: ProxyConfig = { ...before, listeners: [at(1), at(2), at(3)] };

function resolved(input: ProxyConfig): Config {
  return resolveConfig(input, { directory: "/", cores: 1 }, []);
}

test.each<[string, ProxyConfig, ProxyConfig, string[]]>([
  ["none where nothing has changed", before, structuredClone(before), []],
  [
    "none where the same values are written differently",
    { ...before, timeout: "5m" },
    { ...before, timeout: 300_000 },
    [],
  ],
  [
    "values at every level",
    before,
    {
      timeout: "1s",
      maxConnections: 5,
      listener: { address: ":1", crl: "x" },
      rateLimit: { capacity: "unlimited", maxConnections: 1 },
      upstreams: [
        { ...db, authorizedGroups: ["dba", "ops"] },
        { ...cache, targets: ["10.0.0.6:1"] },
      ],
    },
    [
      "timeout",
      "maxConnections",
      "rateLimit.capacity",
      "rateLimit.maxConnections",
      "listener.address",
      "listener.crl",
      "upstreams[0].authorizedGroups",
      "upstreams[1].targets",
    ],
  ],
  [
    "a table that is added, and a table that changes",
    { upstreams: [db, { ...cache, tls: { ca: "a" } }] },
    {
      upstreams: [
        { ...db, healthCheck: { fall: 9 } },
        { ...cache, tls: { ca: "b" } },
      ],
    },
    ["upstreams[0].healthCheck", "upstreams[1].tls.ca"],
  ],
  [
    "a value within a health check, reported once",
    { upstreams: [{ ...db, healthCheck: { fall: 8 } }] },
    { upstreams: [{ ...db, healthCheck: { fall: 9 } }] },
    ["upstreams[0].healthCheck.fall"],
  ],
  [
    "an upstream that is removed, beside one that changes its place and its groups",
    before,
    { upstreams: [{ ...cache, authorizedGroups: ["ops"] }] },
    ["upstreams", "upstreams[0].authorizedGroups"],
  ],
  ["an upstream that is added", { upstreams: [cache] }, before, ["upstreams"]],
  ["a name", before, { upstreams: [db, { ...cache, name: "redis" }] }, ["upstreams[1].name"]],
  [
    "a listener that is removed, beside one that changes",
    many,
    { ...many, listeners: [at(1), at(3, { ca: "z" })] },
    ["listeners", "listeners[1].ca"],
  ],
  ["an address in a list", many, { ...many, listeners: [at(1), at(9), at(3)] }, ["listeners[1].address"]],
])("the changed keys of two configurations: %s", (_, from, to, keys) => {
  expect(changedKeys(resolved(from), resolved(to))).toEqual(keys);
});

test("a list of changed keys is one text, and a long list is cut short", () => {
  expect(listed([])).toBe("none");
  expect(listed(["a"])).toBe("a");
  expect(listed(["a", "b"])).toBe("a,b");
  const long = listed(Array.from({ length: 5_000 }, (_, i) => `upstreams[${i}].targets`));
  expect(long).toMatch(/^upstreams\[0\]\.targets,upstreams\[1\]\.targets,.*,and 49\d\d more$/);
  expect(long.length).toBeLessThan(1_100);
});
