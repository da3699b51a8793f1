import { describe, expect, test } from "bun:test";
import { BUILT_IN, type Config, type ProxyConfig } from "../../src/config/config.ts";
import type { Fault } from "../../src/lib/errors.ts";
import { resolveConfig, usesDemonstration } from "../../src/config/resolve.ts";

function resolved(input: unknown, directory = "/etc/proxy"): { config: Config; faults: Fault[] } {
  const faults: Fault[] = [];
  return { config: resolveConfig(input, { directory, cores: 6 }, faults), faults };
}

function keys(input: unknown): string[] {
  return resolved(input).faults.map(({ key }) => key);
}

const upstream = { name: "db", targets: ["10.0.0.5:5432"], authorizedGroups: ["dba"] };

/** An upstream of which nothing but the name, the targets and the groups was said. */
const plainUpstream = {
  serverNames: undefined,
  healthCheck: undefined,
  fall: 3,
  slowStart: 0,
  tls: undefined,
  proxyProtocol: undefined,
};

test("nothing at all is the built-in configuration", () => {
  const { config, faults } = resolved({}, "/somewhere");
  expect(faults).toEqual([]);
  expect(config).toEqual({
    timeout: 300_000,
    handshakeTimeout: 10_000,
    connectTimeout: 5_000,
    shutdownTimeout: 30_000,
    maxConnectionDuration: undefined,
    disconnectExpired: true,
    revocationGrace: 0,
    maxConnections: undefined,
    workers: 1,
    watch: true,
    logLevel: "info",
    handshakes: { max: undefined, perSource: 64, failures: 20, failuresRefill: 1_000, exempt: [] },
    listeners: [
      {
        key: "listener",
        address: { hostname: "", port: 5000 },
        ca: "/somewhere/certs/ca.crt",
        certificate: "/somewhere/certs/server.crt",
        privateKey: "/somewhere/certs/server.key",
        crl: undefined,
        sessionTickets: true,
        reusePort: false,
        upstream: undefined,
      },
    ],
    upstreams: [
      {
        ...plainUpstream,
        name: "echo",
        targets: [9001, 9002, 9003].map((port) => ({
          address: { hostname: "127.0.0.1", port },
          weight: 1,
          backup: false,
        })),
        authorizedGroups: ["admin"],
      },
    ],
    fallback: "echo",
    rateLimit: { capacity: 10, fillRate: 1_000, maxConnections: undefined },
    fleet: undefined,
  });
});

test("the faults of handshakes say what would be right", () => {
  const handshakes = { max: 11, exempt: ["10.0.0.0/33"] };
  const { faults } = resolved({ maxConnections: 10, handshakes });
  expect(faults.map(({ key, problem }) => `${key}: ${problem}`)).toEqual([
    'handshakes.exempt[0]: "10.0.0.0/33" is not a range of addresses; write it like ["10.0.0.0/8", "2001:db8::/32"]',
    "handshakes.max: 11 is more than maxConnections, which is 10",
  ]);
  expect(resolved({ maxConnections: 10, handshakes: { max: 10 } }).faults).toEqual([]);
  expect(resolved({ handshakes: { max: 1_000_000 } }).faults).toEqual([]);
});

test("every key is understood", () => {
  const { config, faults } = resolved({
    timeout: "1m30s",
    handshakeTimeout: 250,
    connectTimeout: "2s",
    shutdownTimeout: "1h",
    maxConnectionDuration: "8h",
    disconnectExpired: false,
    revocationGrace: "30s",
    maxConnections: 100,
    workers: "auto",
    watch: false,
    logLevel: "warn",
    listeners: [
      {
        address: "[::1]:7000",
        ca: "/a",
        certificate: "b",
        privateKey: "../c",
        crl: "./d",
        sessionTickets: false,
      },
      { address: ":7001", ca: "/a", certificate: "b", privateKey: "c", reusePort: true, upstream: "db" },
    ],
    upstreams: [
      {
        name: "db",
        targets: [
          "db.internal:5432",
          { address: "[::1]:1", weight: 3 },
          { address: "unix:/run/db.sock", backup: true },
        ],
        authorizedGroups: ["dba", "ops"],
        serverNames: ["DB.Example.com.", "*.db.example.com"],
        healthCheck: { interval: "1s", fall: 5 },
        slowStart: "10s",
        tls: { ca: "ca", certificate: "/c", privateKey: "/k", serverName: "db.internal" },
        proxyProtocol: "v2",
      },
    ],
    handshakes: {
      max: 50,
      perSource: 8,
      failures: 5,
      failuresRefill: "500ms",
      exempt: ["10.0.0.0/8", "2001:db8::/32", "::1"],
    },
    rateLimit: { capacity: 3, fillRate: "250ms", maxConnections: 7 },
  });
  expect(faults).toEqual([]);
  const listener = { crl: undefined, sessionTickets: true, reusePort: false, upstream: undefined };
  expect(config).toEqual({
    timeout: 90_000,
    handshakeTimeout: 250,
    connectTimeout: 2_000,
    shutdownTimeout: 3_600_000,
    maxConnectionDuration: 28_800_000,
    disconnectExpired: false,
    revocationGrace: 30_000,
    maxConnections: 100,
    workers: 6,
    watch: false,
    logLevel: "warn",
    handshakes: {
      max: 50,
      perSource: 8,
      failures: 5,
      failuresRefill: 500,
      exempt: ["10.0.0.0/8", "2001:db8::/32", "::1"],
    },
    listeners: [
      {
        ...listener,
        key: "listeners[0]",
        address: { hostname: "::1", port: 7000 },
        ca: "/a",
        certificate: "/etc/proxy/b",
        privateKey: "/etc/c",
        crl: "/etc/proxy/d",
        sessionTickets: false,
      },
      {
        ...listener,
        key: "listeners[1]",
        address: { hostname: "", port: 7001 },
        ca: "/a",
        certificate: "/etc/proxy/b",
        privateKey: "/etc/proxy/c",
        reusePort: true,
        upstream: "db",
      },
    ],
    upstreams: [
      {
        name: "db",
        targets: [
          { address: { hostname: "db.internal", port: 5432 }, weight: 1, backup: false },
          { address: { hostname: "::1", port: 1 }, weight: 3, backup: false },
          { address: { unix: "/run/db.sock" }, weight: 1, backup: true },
        ],
        authorizedGroups: ["dba", "ops"],
        serverNames: ["db.example.com", "*.db.example.com"],
        healthCheck: { interval: 1_000, timeout: 1_000, rise: 2, fall: 5 },
        fall: 5,
        slowStart: 10_000,
        tls: { ca: "/etc/proxy/ca", certificate: "/c", privateKey: "/k", serverName: "db.internal" },
        proxyProtocol: "v2",
      },
    ],
    fallback: undefined,
    rateLimit: { capacity: 3, fillRate: 250, maxConnections: 7 },
    fleet: undefined,
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
      "unknown keys that would spoil a line",
      { "a\nproxy: all is well": 1, rateLimit: { "\u001b[31m": 1, "x y": 1 } },
      ['"a\\nproxy: all is well"', 'rateLimit."\\u001b[31m"', 'rateLimit."x y"'],
    ],
    [
      "unknown keys, at every level",
      {
        timeuot: 1,
        listener: { port: 1 },
        upstreams: [{ ...upstream, weight: 1, healthCheck: { path: "/" }, tls: { ca: "a", insecure: true } }],
        rateLimit: { burst: 1 },
      },
      [
        "timeuot",
        "listener.port",
        "upstreams[0].weight",
        "upstreams[0].healthCheck.path",
        "upstreams[0].tls.insecure",
        "rateLimit.burst",
      ],
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
    [
      "handshakes out of range",
      {
        handshakes: {
          max: 0,
          perSource: 0,
          failures: 1.5,
          failuresRefill: 0,
          exempt: "10.0.0.0/8",
          burst: 1,
        },
      },
      [
        "handshakes.burst",
        "handshakes.max",
        "handshakes.perSource",
        "handshakes.failures",
        "handshakes.failuresRefill",
        "handshakes.exempt",
      ],
    ],
    [
      "ranges that are none",
      { handshakes: { exempt: ["10.0.0.0/8", "10.0.0.0/33", "db.example", 8, null, Object.create(null)] } },
      [1, 2, 3, 4, 5].map((i) => `handshakes.exempt[${i}]`),
    ],
    ["more handshakes than connections", { maxConnections: 10, handshakes: { max: 11 } }, ["handshakes.max"]],
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
    ["two upstreams for the same", { upstreams: [upstream, { ...upstream, name: "b" }] }, ["upstreams"]],
    [
      "two upstreams of one name",
      { upstreams: [upstream, { ...upstream, serverNames: ["a.b"] }] },
      ["upstreams[1].name"],
    ],
    [
      "a server name in two places",
      {
        upstreams: [
          { ...upstream, serverNames: ["a.b", "*.a.b", "A.b."] },
          { ...upstream, name: "b", serverNames: ["c.d", "*.A.B"] },
        ],
      },
      ["upstreams[0].serverNames[2]", "upstreams[1].serverNames[1]"],
    ],
    [
      "server names",
      {
        upstreams: [{ ...upstream, serverNames: ["a..b", "*", "*.*.a", "a.*", "10.0.0.1", "a b", 1, "-a"] }],
      },
      [0, 1, 2, 3, 4, 5, 6, 7].map((i) => `upstreams[0].serverNames[${i}]`),
    ],
    [
      "no server name at all",
      { upstreams: [{ ...upstream, serverNames: [] }] },
      ["upstreams[0].serverNames"],
    ],
    [
      "target tables",
      {
        upstreams: [
          {
            ...upstream,
            targets: [
              { address: "a:1", weight: 0 },
              { address: "b:1", weight: 1.5, backup: "yes" },
              { weight: 1 },
              { address: "unix:relative" },
              { address: `unix:/${"x".repeat(107)}` },
              null,
              { address: "c:1", port: 1 },
            ],
          },
        ],
      },
      [
        "upstreams[0].targets[0].weight",
        "upstreams[0].targets[1].weight",
        "upstreams[0].targets[1].backup",
        "upstreams[0].targets[2].address",
        "upstreams[0].targets[3].address",
        "upstreams[0].targets[4].address",
        "upstreams[0].targets[5]",
        "upstreams[0].targets[6].port",
      ],
    ],
    [
      "health checks",
      {
        upstreams: [
          { ...upstream, healthCheck: { interval: 0, timeout: "x", rise: 0, fall: 101 }, slowStart: -1 },
        ],
      },
      [
        "upstreams[0].healthCheck.interval",
        "upstreams[0].healthCheck.timeout",
        "upstreams[0].healthCheck.rise",
        "upstreams[0].healthCheck.fall",
        "upstreams[0].slowStart",
      ],
    ],
    [
      "a health check that is none",
      { upstreams: [{ ...upstream, healthCheck: true }] },
      ["upstreams[0].healthCheck"],
    ],
    ["TLS without a CA", { upstreams: [{ ...upstream, tls: {} }] }, ["upstreams[0].tls.ca"]],
    [
      "half a pair, and a name that is none",
      { upstreams: [{ ...upstream, tls: { ca: "a", certificate: "b", serverName: "*.a" } }] },
      ["upstreams[0].tls.serverName", "upstreams[0].tls"],
    ],
    [
      "a socket in the file system whose certificate nobody could check",
      { upstreams: [{ ...upstream, targets: ["unix:/run/a"], tls: { ca: "a" } }] },
      ["upstreams[0].tls.serverName"],
    ],
    ["a PROXY protocol", { upstreams: [{ ...upstream, proxyProtocol: 2 }] }, ["upstreams[0].proxyProtocol"]],
    [
      "listener and listeners",
      { listener: {}, listeners: [{ address: ":1", ca: "a", certificate: "b", privateKey: "c" }] },
      ["listeners"],
    ],
    [
      "nothing that identifies a listener is built in within the list",
      { listeners: [{}] },
      ["address", "ca", "certificate", "privateKey"].map((key) => `listeners[0].${key}`),
    ],
    [
      "one address twice",
      {
        listeners: [":1", ":0", ":0", ":1"].map((address) => ({
          address,
          ca: "a",
          certificate: "b",
          privateKey: "c",
        })),
      },
      ["listeners[3].address"],
    ],
    ["a pin to nowhere", { listener: { upstream: "nowhere" } }, ["listener.upstream"]],
    [
      "switches that are none",
      { disconnectExpired: 1, watch: "yes", listener: { sessionTickets: 0, reusePort: null } },
      ["disconnectExpired", "watch", "listener.sessionTickets", "listener.reusePort"],
    ],
    ["workers", { workers: 0 }, ["workers"]],
    ["workers of a kind", { workers: "all" }, ["workers"]],
    ["a log level", { logLevel: "loud" }, ["logLevel"]],
    ["no time for a connection", { maxConnectionDuration: 0 }, ["maxConnectionDuration"]],
    ["a grace", { revocationGrace: "soon" }, ["revocationGrace"]],
    [
      "nothing is built in within an upstream",
      { upstreams: [{}] },
      ["upstreams[0].name", "upstreams[0].targets", "upstreams[0].authorizedGroups"],
    ],
    [
      "empty lists",
      { upstreams: [{ name: "", targets: [], authorizedGroups: [] }] },
      ["upstreams[0].name", "upstreams[0].targets", "upstreams[0].authorizedGroups"],
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
        "upstreams[0].authorizedGroups[5]",
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
      'upstreams[0].targets[0]: "a" is not host:port; write it like "10.0.0.5:5432", "[::1]:5432" or "unix:/run/db.sock"',
      "upstreams[0].authorizedGroups: is missing; it is a list; at least one group is needed",
      'rateLimit.capacity: 0 is not a whole number from 1 to 1000000, or "unlimited"',
    ]);
  });

  test("an unknown key gets the nearest known one as a suggestion, or all that are known", () => {
    const { faults } = resolved({ timeuot: "1s", rateLimit: { burst: 1, maxConection: 2 } });
    expect(faults.map(({ key, problem }) => `${key}: ${problem}`)).toEqual([
      "timeuot: unknown key; did you mean timeout?",
      "rateLimit.burst: unknown key; known are capacity, fillRate, maxConnections",
      "rateLimit.maxConection: unknown key; did you mean maxConnections?",
    ]);
  });

  test("a pattern is not a group, and the fault says that there are none", () => {
    for (const group of ["*", "team-*"]) {
      const { faults } = resolved({ upstreams: [{ ...upstream, authorizedGroups: [group] }] });
      expect(faults.map(({ problem }) => problem)).toEqual([
        `"${group}" is not a group; a group cannot be called so, and there are no patterns: list each group by its name`,
      ]);
    }
  });

  test("a number in a text has no unit, in a library's configuration too", () => {
    expect(resolved({ timeout: "60" }).faults).toEqual([
      { key: "timeout", problem: '"60" is not a duration; it has no unit: write "60s" or "60ms"' },
    ]);
  });
});

test('a capacity of "unlimited" is no limit', () => {
  const { config, faults } = resolved({ rateLimit: { capacity: "unlimited" } });
  expect(faults).toEqual([]);
  expect(config.rateLimit.capacity).toBe(Infinity);
});

describe("a configuration from a file", () => {
  const files = { ca: "a", certificate: "b", privateKey: "c" };
  const fromFile = (input: unknown) => {
    const faults: Fault[] = [];
    const config = resolveConfig(input, { directory: "/etc", cores: 1, fromFile: true }, faults);
    return { config, faults: faults.map(({ key, problem }) => `${key}: ${problem}`) };
  };

  test.each([{}, { listener: {} }])("has nothing of the demonstration: %p", (input) => {
    expect(fromFile(input).faults).toEqual([
      "listener.ca: is missing; it is the path of a PEM file",
      "listener.certificate: is missing; it is the path of a PEM file",
      "listener.privateKey: is missing; it is the path of a PEM file",
      "upstreams: is missing; it is a list; at least one upstream is needed",
    ]);
  });

  test("lacks one file: that one is named, and the demonstration's does not take its place", () => {
    const { config, faults } = fromFile({ listener: { ...files, ca: undefined }, upstreams: [upstream] });
    expect(faults).toEqual(["listener.ca: is missing; it is the path of a PEM file"]);
    expect(config.listeners[0]?.ca).toBe("");
  });

  test("has the other built-in values", () => {
    const { config, faults } = fromFile({ listener: files, upstreams: [upstream] });
    expect(faults).toEqual([]);
    expect(config).toMatchObject({
      timeout: 300_000,
      revocationGrace: 0,
      listeners: [{ address: { hostname: "", port: 5000 }, ca: "/etc/a", sessionTickets: true }],
      rateLimit: { capacity: 10, fillRate: 1_000 },
    });
  });

  test.each([60, "60"])("has no duration without a unit: %p", (value) => {
    const said = `${JSON.stringify(value)} is not a duration; it has no unit: write "60s" or "60ms"`;
    const { faults } = fromFile({
      ...{ timeout: value, handshakeTimeout: value, connectTimeout: value, shutdownTimeout: value },
      ...{ maxConnectionDuration: value, revocationGrace: value },
      listener: files,
      upstreams: [{ ...upstream, slowStart: value, healthCheck: { interval: value, timeout: value } }],
      rateLimit: { fillRate: value },
    });
    expect(faults).toEqual(
      [
        ...["timeout", "handshakeTimeout", "connectTimeout", "shutdownTimeout", "maxConnectionDuration"],
        ...["revocationGrace", "upstreams[0].healthCheck.interval", "upstreams[0].healthCheck.timeout"],
        ...["upstreams[0].slowStart", "rateLimit.fillRate"],
      ].map((key) => `${key}: ${said}`),
    );
  });

  test.each([0, "0", "0s", "0ms"])("may say %p where no time at all is a choice", (none) => {
    const input = { revocationGrace: none, listener: files, upstreams: [{ ...upstream, slowStart: none }] };
    expect(fromFile(input).faults).toEqual([]);
    expect(fromFile({ ...input, timeout: none }).faults).toEqual([
      expect.stringMatching(/^timeout: "?0m?s?"? is not a duration; write it like "250ms", "60s"/),
    ]);
  });
});

test.each<[boolean, ProxyConfig]>([
  [true, {}],
  [true, { listener: { address: ":1" }, upstreams: [upstream] }],
  [true, { listener: { ca: "a", certificate: "b" } }],
  [false, { listener: { ca: "a", certificate: "b", privateKey: "c" } }],
  [false, { listeners: [{ address: ":1" }] }],
])("whether a file is left to the demonstration's: %p in %p", (uses, input) => {
  expect(usesDemonstration(input)).toBe(uses);
});

describe("the upstream that takes the rest", () => {
  const other = { ...upstream, name: "b" };
  const at = (port: number, over = {}) => ({
    address: `:${port}`,
    ca: "a",
    certificate: "b",
    privateKey: "c",
    ...over,
  });
  test.each<[string, unknown, string | undefined]>([
    ["is the only one, pinned or not", { listener: { upstream: "db" }, upstreams: [upstream] }, "db"],
    ["is the one without server names", { upstreams: [{ ...other, serverNames: ["a.b"] }, upstream] }, "db"],
    [
      "is nobody where all have server names",
      { upstreams: [{ ...upstream, serverNames: ["a.b"] }] },
      undefined,
    ],
    [
      "is the one that no listener is pinned to",
      { listeners: [at(1, { upstream: "b" }), at(2)], upstreams: [upstream, other] },
      "db",
    ],
    [
      "is nobody where listeners are pinned to all",
      { listeners: [at(1, { upstream: "b" }), at(2, { upstream: "db" })], upstreams: [upstream, other] },
      undefined,
    ],
  ])("%s", (_, input, rest) => {
    expect(resolved(input).faults).toEqual([]);
    expect(resolved(input).config.fallback).toBe(rest);
  });
});
