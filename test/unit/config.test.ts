import { describe, expect, test } from "bun:test";
import { BUILT_IN, resolveConfig, type Config } from "../../src/config.ts";
import type { Fault } from "../../src/errors.ts";

function resolved(input: unknown, directory = "/etc/proxy"): { config: Config; faults: Fault[] } {
  const faults: Fault[] = [];
  return { config: resolveConfig(input, directory, faults), faults };
}

function keys(input: unknown): string[] {
  return resolved(input).faults.map(({ key }) => key);
}

const upstream = { name: "db", targets: ["10.0.0.5:5432"], authorizedGroups: ["dba"] };

test("nothing at all is the built-in configuration", () => {
  const { config, faults } = resolved({}, "/somewhere");
  expect(faults).toEqual([]);
  expect(config).toEqual({
    timeout: 300_000,
    handshakeTimeout: 10_000,
    connectTimeout: 5_000,
    shutdownTimeout: 30_000,
    maxConnections: undefined,
    listener: {
      address: { hostname: "", port: 5000 },
      ca: "/somewhere/certs/ca.crt",
      certificate: "/somewhere/certs/server.crt",
      privateKey: "/somewhere/certs/server.key",
      crl: undefined,
    },
    upstreams: [
      {
        name: "echo",
        targets: [9001, 9002, 9003].map((port) => ({ hostname: "127.0.0.1", port })),
        authorizedGroups: ["admin"],
      },
    ],
    rateLimit: { capacity: 10, fillRate: 1_000, maxConnections: undefined },
  });
});

test("every key is understood", () => {
  const { config, faults } = resolved({
    timeout: "1m30s",
    handshakeTimeout: 250,
    connectTimeout: "2s",
    shutdownTimeout: "1h",
    maxConnections: 100,
    listener: { address: "[::1]:7000", ca: "/a", certificate: "b", privateKey: "../c", crl: "./d" },
    upstreams: [{ name: "db", targets: ["db.internal:5432", "[::1]:1"], authorizedGroups: ["dba", "ops"] }],
    rateLimit: { capacity: 3, fillRate: "250ms", maxConnections: 7 },
  });
  expect(faults).toEqual([]);
  expect(config).toEqual({
    timeout: 90_000,
    handshakeTimeout: 250,
    connectTimeout: 2_000,
    shutdownTimeout: 3_600_000,
    maxConnections: 100,
    listener: {
      address: { hostname: "::1", port: 7000 },
      ca: "/a",
      certificate: "/etc/proxy/b",
      privateKey: "/etc/c",
      crl: "/etc/proxy/d",
    },
    upstreams: [
      {
        name: "db",
        targets: [
          { hostname: "db.internal", port: 5432 },
          { hostname: "::1", port: 1 },
        ],
        authorizedGroups: ["dba", "ops"],
      },
    ],
    rateLimit: { capacity: 3, fillRate: 250, maxConnections: 7 },
  });
});

test("what was put in is left alone, what comes out is frozen", () => {
  const input = structuredClone(BUILT_IN);
  const { config } = resolved(input);
  expect(Object.isFrozen(config)).toBe(true);
  expect(Object.isFrozen(config.upstreams[0]!.targets[0])).toBe(true);
  expect(Object.isFrozen(input.upstreams[0]!.targets)).toBe(false);
  expect(input).toEqual(BUILT_IN);
});

describe("faults", () => {
  test.each<[string, unknown, string[]]>([
    ["no table", null, ["configuration"]],
    ["a list", [], ["configuration"]],
    ["a text", "timeout", ["configuration"]],
    [
      "unknown keys, at every level",
      {
        timeuot: 1,
        listener: { port: 1 },
        upstreams: [{ ...upstream, weight: 1 }],
        rateLimit: { burst: 1 },
      },
      ["timeuot", "listener.port", "upstreams[0].weight", "rateLimit.burst"],
    ],
    [
      "__proto__",
      JSON.parse('{"__proto__": {}, "listener": {"__proto__": 1}}'),
      ["__proto__", "listener.__proto__"],
    ],
    [
      "times out of range",
      { timeout: 0, handshakeTimeout: "0s", connectTimeout: -1, shutdownTimeout: NaN },
      ["timeout", "handshakeTimeout", "connectTimeout", "shutdownTimeout"],
    ],
    ["a number without unit in a text", { timeout: "60" }, ["timeout"]],
    ["connections", { maxConnections: 0 }, ["maxConnections"]],
    ["a fraction of a connection", { maxConnections: 1.5 }, ["maxConnections"]],
    ["a number as text", { rateLimit: { capacity: "10" } }, ["rateLimit.capacity"]],
    [
      "limits out of range",
      { rateLimit: { capacity: Infinity, fillRate: 0, maxConnections: -1 } },
      ["rateLimit.capacity", "rateLimit.fillRate", "rateLimit.maxConnections"],
    ],
    [
      "null is not the built-in value",
      { listener: null, rateLimit: null, timeout: null },
      ["timeout", "listener", "rateLimit"],
    ],
    [
      "paths",
      { listener: { ca: "", certificate: 1, privateKey: "a\0b", crl: {} } },
      ["listener.ca", "listener.certificate", "listener.privateKey", "listener.crl"],
    ],
    ["an address", { listener: { address: "5000" } }, ["listener.address"]],
    ["no upstream", { upstreams: [] }, ["upstreams"]],
    ["upstreams as a table", { upstreams: upstream }, ["upstreams"]],
    ["two upstreams", { upstreams: [upstream, { ...upstream, name: "b" }] }, ["upstreams"]],
    [
      "nothing is built in within an upstream",
      { upstreams: [{}] },
      ["upstreams[0].targets", "upstreams[0].authorizedGroups", "upstreams[0].name"],
    ],
    [
      "empty lists",
      { upstreams: [{ name: "", targets: [], authorizedGroups: [] }] },
      ["upstreams[0].targets", "upstreams[0].authorizedGroups", "upstreams[0].name"],
    ],
    [
      "targets",
      { upstreams: [{ ...upstream, targets: ["a:1", "b", ":1", 1, "a:1"] }] },
      [
        "upstreams[0].targets[1]",
        "upstreams[0].targets[2]",
        "upstreams[0].targets[3]",
        "upstreams[0].targets[4]",
      ],
    ],
    [
      "groups",
      { upstreams: [{ ...upstream, authorizedGroups: ["a", "", "b c", "x@y", 1, "*", "a"] }] },
      [
        "upstreams[0].authorizedGroups[1]",
        "upstreams[0].authorizedGroups[2]",
        "upstreams[0].authorizedGroups[3]",
        "upstreams[0].authorizedGroups[4]",
        "upstreams[0].authorizedGroups[6]",
      ],
    ],
  ])("%s", (_, input, expected) => {
    expect(keys(input)).toEqual(expected);
  });

  test("each says what is wrong and what would be right", () => {
    const { faults } = resolved({
      timeout: "soon",
      Listener: {},
      upstreams: [{ ...upstream, targets: ["a"], authorizedGroups: undefined }],
      rateLimit: { capacity: 0 },
    });
    expect(faults.map(({ key, problem }) => `${key}: ${problem}`)).toEqual([
      "Listener: unknown key; did you mean listener?",
      'timeout: "soon" is not a duration; write it like "250ms", "60s" or "1m30s", from 1ms to 596h31m23s647ms',
      'upstreams[0].targets[0]: "a" is not host:port; write it like "10.0.0.5:5432" or "[::1]:5432"',
      "upstreams[0].authorizedGroups: is missing; it is a list; at least one group is needed",
      "rateLimit.capacity: 0 is not a whole number from 1 to 1000000",
    ]);
  });
});
