// How a configuration resolves, and every fault that it may have.

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

/** What an upstream has where only its name, targets and groups are configured. */
const plainUpstream = {
  authorizedClients: [],
  anyGroup: false,
  serverNames: undefined,
  healthCheck: undefined,
  fall: 3,
  slowStart: 0,
  tls: undefined,
  proxyProtocol: undefined,
};

test("an empty configuration resolves to the built-in one", () => {
  const { config, faults } = resolved({}, "/somewhere");
  expect(faults).toEqual([]);
  expect(config).toEqual({
    timeout: 300_000,
    handshakeTimeout: 10_000,
    connectTimeout: 5_000,
    shutdownTimeout: 30_000,
    maxConnectionDuration: undefined,
    disconnectExpired: true,
    expiryGrace: 0,
    revocationGrace: 0,
    maxConnections: undefined,
    workers: 1,
    watch: true,
    logLevel: "info",
    log: { admissions: false, progress: undefined },
    metrics: undefined,
    admin: undefined,
    shadow: undefined,
    handshakes: { max: undefined, perSource: 64, failures: 20, failuresRefill: 1_000, exempt: [] },
    listeners: [
      {
        key: "listener",
        address: { hostname: "", port: 5000 },
        ca: "/somewhere/certs/ca.crt",
        certificate: "/somewhere/certs/server.crt",
        privateKey: "/somewhere/certs/server.key",
        certificates: undefined,
        alpn: undefined,
        crl: undefined,
        allow: undefined,
        deny: undefined,
        acceptProxy: undefined,
        sessionTickets: true,
        reusePort: false,
        upstream: undefined,
        identity: undefined,
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
    limits: [],
    tests: [],
    fleet: undefined,
  });
});

test("a fault in the handshakes table says what would be right", () => {
  const handshakes = { max: 11, exempt: ["10.0.0.0/33"] };
  const { faults } = resolved({ maxConnections: 10, handshakes });
  expect(faults.map(({ key, problem }) => `${key}: ${problem}`)).toEqual([
    'handshakes.exempt[0]: "10.0.0.0/33" is not a range of addresses; write it like ["10.0.0.0/8", "2001:db8::/32"]',
    "handshakes.max: 11 is more than maxConnections, which is 10",
  ]);
  expect(resolved({ maxConnections: 10, handshakes: { max: 10 } }).faults).toEqual([]);
  expect(resolved({ handshakes: { max: 1_000_000 } }).faults).toEqual([]);
});

test.each<[string, object, string]>([
  ["of nobody", { expect: "echo" }, "tests[0]: needs either client or certificate"],
  [
    "of both",
    { client: "a@b", certificate: "c", expect: "echo" },
    "tests[0]: needs either client or certificate",
  ],
  [
    "without an expectation",
    { client: "a@b" },
    "tests[0].expect: is missing; it is an upstream's name or a reason",
  ],
  [
    "that expects an upstream that is misspelt",
    { client: "a@b", expect: "ehco" },
    'tests[0].expect: "ehco" is neither an upstream\'s name nor a reason of refusal; did you mean "echo"?',
  ],
  [
    "that expects a reason that is misspelt",
    { client: "a@b", expect: "group_not_authorised" },
    'tests[0].expect: "group_not_authorised" is neither an upstream\'s name nor a reason of refusal; did you mean "group_not_authorized"?',
  ],
  [
    "that expects what depends on the moment",
    { client: "a@b", expect: "rate_limited" },
    'tests[0].expect: "rate_limited" depends on more than the configuration; a test can expect proxy_header_missing, address_denied, handshake_failed, certificate_untrusted, certificate_expired, certificate_revoked, certificate_weak, identity_invalid, unknown_server_name, group_not_authorized, proxy_header',
  ],
  [
    "of a listener that is not there",
    { client: "a@b", expect: "echo", listener: ":1" },
    'tests[0].listener: ":1" is no listener\'s address; there is ":5000"',
  ],
  [
    "of a whole group",
    { client: "*@b", expect: "echo" },
    'tests[0].client: "*@b" is not a client; write it like "alice@admin"',
  ],
  [
    "at no date",
    { client: "a@b", expect: "echo", at: "tomorrow" },
    'tests[0].at: "tomorrow" is not a date; write it like "2027-01-01" or "2027-01-01T08:00:00Z"',
  ],
  [
    "from nowhere",
    { client: "a@b", expect: "echo", from: "10.0.0" },
    'tests[0].from: "10.0.0" is not an IP address; write it like "10.0.0.5" or "2001:db8::1"',
  ],
])("a test %s is a fault", (_, written, message) => {
  const { faults } = resolved({ tests: [written] });
  expect(faults.map(({ key, problem }) => `${key}: ${problem}`)).toEqual([message]);
});

test("a test must name its listener if there are several", () => {
  const listener = { ca: "a", certificate: "b", privateKey: "c" };
  const { faults } = resolved({
    listeners: [
      { ...listener, address: ":1" },
      { ...listener, address: ":2" },
    ],
    tests: [{ client: "a@b", expect: "echo" }],
  });
  expect(faults.map(({ key, problem }) => `${key}: ${problem}`)).toEqual([
    'tests[0].listener: is missing; there are several listeners: ":1", ":2"',
  ]);
});

test("a configuration with every key resolves", () => {
  const { config, faults } = resolved({
    timeout: "1m30s",
    handshakeTimeout: 250,
    connectTimeout: "2s",
    shutdownTimeout: "1h",
    maxConnectionDuration: "8h",
    disconnectExpired: false,
    expiryGrace: "5m",
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
        allow: ["10.0.0.0/8", "2001:db8::/32"],
        deny: ["10.6.0.1"],
        sessionTickets: false,
      },
      {
        address: ":7001",
        ca: "/a",
        certificate: "b",
        privateKey: "c",
        reusePort: true,
        upstream: "db",
        identity: { from: "dns", pattern: "{user}.{group}" },
      },
    ],
    upstreams: [
      {
        name: "db",
        targets: [
          "db.internal:5432",
          { address: "[::1]:1", weight: 3, maxConnections: 20 },
          { address: "unix:/run/db.sock", backup: true },
        ],
        authorizedGroups: ["dba", "ops"],
        authorizedClients: ["carol@etl"],
        anyGroup: false,
        serverNames: ["DB.Example.com.", "*.db.example.com"],
        healthCheck: { interval: "1s", fall: 5 },
        slowStart: "10s",
        maxConnections: 50,
        tls: { ca: "ca", certificate: "/c", privateKey: "/k", serverName: "db.internal" },
        proxyProtocol: "v2",
      },
    ],
    log: { admissions: true, progress: "1m" },
    metrics: { address: "127.0.0.1:9090", topClients: 20 },
    admin: {
      socket: "admin.sock",
      address: "127.0.0.1:9443",
      ca: "a",
      certificate: "b",
      privateKey: "c",
      readers: ["*@ops"],
      operators: ["alice@admin"],
      stateDirectory: "state",
    },
    shadow: { config: "next.toml" },
    handshakes: {
      max: 50,
      perSource: 8,
      failures: 5,
      failuresRefill: "500ms",
      exempt: ["10.0.0.0/8", "2001:db8::/32", "::1"],
    },
    rateLimit: { capacity: 3, fillRate: "250ms", maxConnections: 7 },
    limits: [
      { match: "*@etl", capacity: "unlimited" },
      { match: "alice@dba", fillRate: "1s", maxConnections: 9 },
    ],
    tests: [
      { client: "alice@dba", serverName: "db.example.com", listener: "[::1]:7000", expect: "db" },
      {
        certificate: "pki/alice.crt",
        listener: ":7001",
        from: "10.0.0.5",
        at: "2027-01-01",
        expect: "group_not_authorized",
      },
    ],
  });
  expect(faults).toEqual([]);
  const listener = {
    certificates: undefined,
    alpn: undefined,
    crl: undefined,
    allow: undefined,
    deny: undefined,
    acceptProxy: undefined,
    sessionTickets: true,
    reusePort: false,
    upstream: undefined,
    identity: undefined,
  };
  expect(config).toEqual({
    timeout: 90_000,
    handshakeTimeout: 250,
    connectTimeout: 2_000,
    shutdownTimeout: 3_600_000,
    maxConnectionDuration: 28_800_000,
    disconnectExpired: false,
    expiryGrace: 300_000,
    revocationGrace: 30_000,
    maxConnections: 100,
    workers: 6,
    watch: false,
    logLevel: "warn",
    log: { admissions: true, progress: 60_000 },
    metrics: { address: { hostname: "127.0.0.1", port: 9090 }, topClients: 20 },
    admin: {
      socket: "/etc/proxy/admin.sock",
      address: { hostname: "127.0.0.1", port: 9443 },
      ca: "/etc/proxy/a",
      certificate: "/etc/proxy/b",
      privateKey: "/etc/proxy/c",
      readers: ["*@ops"],
      operators: ["alice@admin"],
      stateDirectory: "/etc/proxy/state",
    },
    shadow: { config: "/etc/proxy/next.toml" },
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
        allow: ["10.0.0.0/8", "2001:db8::/32"],
        deny: ["10.6.0.1"],
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
        identity: { from: "dns", pattern: "{user}.{group}" },
      },
    ],
    upstreams: [
      {
        name: "db",
        targets: [
          { address: { hostname: "db.internal", port: 5432 }, weight: 1, backup: false },
          { address: { hostname: "::1", port: 1 }, weight: 3, backup: false, maxConnections: 20 },
          { address: { unix: "/run/db.sock" }, weight: 1, backup: true },
        ],
        authorizedGroups: ["dba", "ops"],
        authorizedClients: ["carol@etl"],
        anyGroup: false,
        serverNames: ["db.example.com", "*.db.example.com"],
        healthCheck: { interval: 1_000, timeout: 1_000, rise: 2, fall: 5 },
        fall: 5,
        slowStart: 10_000,
        maxConnections: 50,
        tls: { ca: "/etc/proxy/ca", certificate: "/c", privateKey: "/k", serverName: "db.internal" },
        proxyProtocol: "v2",
      },
    ],
    fallback: undefined,
    rateLimit: { capacity: 3, fillRate: 250, maxConnections: 7 },
    limits: [
      { match: "*@etl", capacity: Infinity },
      { match: "alice@dba", fillRate: 1_000, maxConnections: 9 },
    ],
    tests: [
      {
        client: "alice@dba",
        certificate: undefined,
        serverName: "db.example.com",
        listener: 0,
        from: undefined,
        at: undefined,
        expect: "db",
      },
      {
        client: undefined,
        certificate: "/etc/proxy/pki/alice.crt",
        serverName: undefined,
        listener: 1,
        from: "10.0.0.5",
        at: Date.UTC(2027, 0, 1),
        expect: "group_not_authorized",
      },
    ],
    fleet: undefined,
  });
});

test("a resolved configuration is frozen, and its input is left as it was", () => {
  const input = structuredClone(BUILT_IN);
  const { config } = resolved(input);
  expect(Object.isFrozen(config)).toBe(true);
  expect(Object.isFrozen(config.upstreams[0]!.targets[0])).toBe(true);
  expect(Object.isFrozen(input.upstreams[0]!.targets)).toBe(false);
  expect(input).toEqual(BUILT_IN);
});

describe("faults of a configuration", () => {
  test.each<[string, unknown, string[]]>([
    ["null instead of a table", null, ["configuration"]],
    ["a list instead of a table", [], ["configuration"]],
    ["a text instead of a table", "timeout", ["configuration"]],
    [
      "unknown keys with control characters",
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
      "the key __proto__",
      JSON.parse('{"__proto__": {}, "listener": {"__proto__": 1}}'),
      ["__proto__", "listener.__proto__"],
    ],
    [
      "times out of range",
      { timeout: 0, handshakeTimeout: "0s", connectTimeout: -1, shutdownTimeout: NaN },
      ["timeout", "handshakeTimeout", "connectTimeout", "shutdownTimeout"],
    ],
    ["a duration without a unit", { timeout: "60" }, ["timeout"]],
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
      "invalid address ranges",
      { handshakes: { exempt: ["10.0.0.0/8", "10.0.0.0/33", "db.example", 8, null, Object.create(null)] } },
      [1, 2, 3, 4, 5].map((i) => `handshakes.exempt[${i}]`),
    ],
    [
      "invalid ranges of a listener, and lists that are empty or none",
      { listener: { allow: [], deny: ["10.0.0.0/8", "::ffff:10.0.0.1", "10.0.0.1:80"] } },
      ["listener.allow", "listener.deny[1]", "listener.deny[2]"],
    ],
    ["balancers without addresses", { listener: { acceptProxy: {} } }, ["listener.acceptProxy.from"]],
    [
      "balancers with wrong addresses",
      { listener: { acceptProxy: { from: ["10.0.0.1", "lb.example"], trust: true } } },
      ["listener.acceptProxy.trust", "listener.acceptProxy.from[1]"],
    ],
    ["no balancers", { listener: { acceptProxy: { from: [] } } }, ["listener.acceptProxy.from"]],
    ["more handshakes than connections", { maxConnections: 10, handshakes: { max: 11 } }, ["handshakes.max"]],
    ["no connections", { maxConnections: 0 }, ["maxConnections"]],
    ["a fraction of a connection", { maxConnections: 1.5 }, ["maxConnections"]],
    ["a number as text", { rateLimit: { capacity: "10" } }, ["rateLimit.capacity"]],
    [
      "limits out of range",
      { rateLimit: { capacity: Infinity, fillRate: 0, maxConnections: -1 } },
      ["rateLimit.capacity", "rateLimit.fillRate", "rateLimit.maxConnections"],
    ],
    [
      "limits of clients that are wrong",
      {
        limits: [
          { match: "*@a", capacity: 0 },
          { match: "a", fillRate: "1s" },
          { match: "b@c" },
          { capacity: 1 },
          { match: "*@a", maxConnections: 1 },
        ],
      },
      [...["limits[0].capacity", "limits[1].match", "limits[2]", "limits[3].match", "limits[4].match"]],
    ],
    [
      "null instead of a value",
      { listener: null, rateLimit: null, timeout: null },
      ["timeout", "listener", "rateLimit"],
    ],
    [
      "invalid paths",
      { listener: { ca: "", certificate: 1, privateKey: "a\0b", crl: {} } },
      ["listener.ca", "listener.certificate", "listener.privateKey", "listener.crl"],
    ],
    ["an address without a colon", { listener: { address: "5000" } }, ["listener.address"]],
    ["no upstreams", { upstreams: [] }, ["upstreams"]],
    ["upstreams as a table", { upstreams: upstream }, ["upstreams"]],
    [
      "two upstreams without server names",
      { upstreams: [upstream, { ...upstream, name: "b" }] },
      ["upstreams"],
    ],
    [
      "two upstreams with the same name",
      { upstreams: [upstream, { ...upstream, serverNames: ["a.b"] }] },
      ["upstreams[1].name"],
    ],
    [
      "a server name that is given twice",
      {
        upstreams: [
          { ...upstream, serverNames: ["a.b", "*.a.b", "A.b."] },
          { ...upstream, name: "b", serverNames: ["c.d", "*.A.B"] },
        ],
      },
      ["upstreams[0].serverNames[2]", "upstreams[1].serverNames[1]"],
    ],
    [
      "invalid server names",
      {
        upstreams: [{ ...upstream, serverNames: ["a..b", "*", "*.*.a", "a.*", "10.0.0.1", "a b", 1, "-a"] }],
      },
      [0, 1, 2, 3, 4, 5, 6, 7].map((i) => `upstreams[0].serverNames[${i}]`),
    ],
    [
      "an empty list of server names",
      { upstreams: [{ ...upstream, serverNames: [] }] },
      ["upstreams[0].serverNames"],
    ],
    [
      "invalid target tables",
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
      "health checks out of range",
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
      "a health check that is not a table",
      { upstreams: [{ ...upstream, healthCheck: true }] },
      ["upstreams[0].healthCheck"],
    ],
    ["TLS without a CA", { upstreams: [{ ...upstream, tls: {} }] }, ["upstreams[0].tls.ca"]],
    [
      "a certificate without its key, and an invalid server name",
      { upstreams: [{ ...upstream, tls: { ca: "a", certificate: "b", serverName: "*.a" } }] },
      ["upstreams[0].tls.serverName", "upstreams[0].tls"],
    ],
    [
      "a Unix socket with TLS and no server name to check",
      { upstreams: [{ ...upstream, targets: ["unix:/run/a"], tls: { ca: "a" } }] },
      ["upstreams[0].tls.serverName"],
    ],
    [
      "an unknown version of the PROXY protocol",
      { upstreams: [{ ...upstream, proxyProtocol: 2 }] },
      ["upstreams[0].proxyProtocol"],
    ],
    [
      "both listener and listeners",
      { listener: {}, listeners: [{ address: ":1", ca: "a", certificate: "b", privateKey: "c" }] },
      ["listeners"],
    ],
    [
      "a listener in the list without address, CA, certificate and key",
      { listeners: [{}] },
      ["address", "ca", "certificate", "privateKey"].map((key) => `listeners[0].${key}`),
    ],
    [
      "an address that two listeners share",
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
    [
      "a listener pinned to an upstream that does not exist",
      { listener: { upstream: "nowhere" } },
      ["listener.upstream"],
    ],
    [
      "switches that are not true or false",
      { disconnectExpired: 1, watch: "yes", listener: { sessionTickets: 0, reusePort: null } },
      ["disconnectExpired", "watch", "listener.sessionTickets", "listener.reusePort"],
    ],
    ["no workers", { workers: 0 }, ["workers"]],
    ["a number of workers as an unknown word", { workers: "all" }, ["workers"]],
    ["an unknown log level", { logLevel: "loud" }, ["logLevel"]],
    ["a maximum connection duration of zero", { maxConnectionDuration: 0 }, ["maxConnectionDuration"]],
    ["a revocation grace that is not a duration", { revocationGrace: "soon" }, ["revocationGrace"]],
    [
      "an upstream without name, targets and groups",
      { upstreams: [{}] },
      ["upstreams[0].name", "upstreams[0].targets", "upstreams[0].authorizedGroups"],
    ],
    [
      "an upstream with an empty name and empty lists",
      { upstreams: [{ name: "", targets: [], authorizedGroups: [] }] },
      ["upstreams[0].name", "upstreams[0].targets", "upstreams[0].authorizedGroups"],
    ],
    [
      "invalid targets",
      { upstreams: [{ ...upstream, targets: ["a:1", "b", ":1", 1, "a:1"] }] },
      [
        "upstreams[0].targets[1]",
        "upstreams[0].targets[2]",
        "upstreams[0].targets[3]",
        "upstreams[0].targets[4]",
      ],
    ],
    [
      "invalid groups",
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
    [
      "invalid clients",
      { upstreams: [{ ...upstream, authorizedClients: ["a@b", "a", "*@b", "a b@c", "a@b@c", 1, "a@b"] }] },
      [1, 2, 3, 4, 5, 6].map((i) => `upstreams[0].authorizedClients[${i}]`),
    ],
    [
      "an empty list of clients beside groups",
      { upstreams: [{ ...upstream, authorizedClients: [] }] },
      ["upstreams[0].authorizedClients"],
    ],
    [
      "an upstream for everybody that also lists who may reach it",
      { upstreams: [{ ...upstream, authorizedClients: ["a@b"], anyGroup: true }] },
      ["upstreams[0].authorizedGroups", "upstreams[0].authorizedClients"],
    ],
    [
      "an upstream that is for nobody, and says so",
      { upstreams: [{ name: "db", targets: ["a:1"], anyGroup: false }] },
      ["upstreams[0].authorizedGroups"],
    ],
    [
      "a text in place of anyGroup",
      { upstreams: [{ ...upstream, anyGroup: "true" }] },
      ["upstreams[0].anyGroup"],
    ],
  ])("a configuration is refused for %s", (_, input, expected) => {
    expect(keys(input)).toEqual(expected);
  });

  test("a fault says what is wrong and what would be right", () => {
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
      "upstreams[0].authorizedGroups: is missing, and so is authorizedClients; at least one group or client is needed, or anyGroup = true for everybody with a valid identity",
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

  test("a pattern is not a group, and its fault says that there are no patterns", () => {
    for (const group of ["*", "team-*"]) {
      const { faults } = resolved({ upstreams: [{ ...upstream, authorizedGroups: [group] }] });
      expect(faults.map(({ problem }) => problem)).toEqual([
        `"${group}" is not a group; a group cannot have this name, and there are no patterns: list each group by its name`,
      ]);
    }
  });

  test("a duration as text needs a unit, also in the library's configuration", () => {
    expect(resolved({ timeout: "60" }).faults).toEqual([
      { key: "timeout", problem: '"60" is not a duration; it has no unit: write "60s" or "60ms"' },
    ]);
  });
});

test('a capacity of "unlimited" resolves to no limit', () => {
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

  test.each([{}, { listener: {} }])(
    "a configuration from a file takes nothing from the demonstration: %j",
    (input) => {
      expect(fromFile(input).faults).toEqual([
        "listener.ca: is missing; it is the path of a PEM file",
        "listener.certificate: is missing; it is the path of a PEM file",
        "listener.privateKey: is missing; it is the path of a PEM file",
        "upstreams: is missing; it is a list; at least one upstream is needed",
      ]);
    },
  );

  test("a configuration from a file without a CA is a fault, and the demonstration's CA does not replace it", () => {
    const { config, faults } = fromFile({ listener: { ...files, ca: undefined }, upstreams: [upstream] });
    expect(faults).toEqual(["listener.ca: is missing; it is the path of a PEM file"]);
    expect(config.listeners[0]?.ca).toBe("");
  });

  test("a configuration from a file has the other built-in values", () => {
    const { config, faults } = fromFile({ listener: files, upstreams: [upstream] });
    expect(faults).toEqual([]);
    expect(config).toMatchObject({
      timeout: 300_000,
      revocationGrace: 0,
      listeners: [{ address: { hostname: "", port: 5000 }, ca: "/etc/a", sessionTickets: true }],
      rateLimit: { capacity: 10, fillRate: 1_000 },
    });
  });

  test.each([60, "60"])("a configuration from a file has no duration without a unit: %p", (value) => {
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

  test.each([0, "0", "0s", "0ms"])(
    "a configuration from a file may have the duration %p only where zero is allowed",
    (none) => {
      const input = { revocationGrace: none, listener: files, upstreams: [{ ...upstream, slowStart: none }] };
      expect(fromFile(input).faults).toEqual([]);
      expect(fromFile({ ...input, timeout: none }).faults).toEqual([
        expect.stringMatching(/^timeout: "?0m?s?"? is not a duration; write it like "250ms", "60s"/),
      ]);
    },
  );
});

test.each<[boolean, ProxyConfig]>([
  [true, {}],
  [true, { listener: { address: ":1" }, upstreams: [upstream] }],
  [true, { listener: { ca: "a", certificate: "b" } }],
  [false, { listener: { ca: "a", certificate: "b", privateKey: "c" } }],
  [false, { listeners: [{ address: ":1" }] }],
])("usesDemonstration returns %j for %j", (uses, input) => {
  expect(usesDemonstration(input)).toBe(uses);
});

describe("the fallback upstream", () => {
  const other = { ...upstream, name: "b" };
  const at = (port: number, over = {}) => ({
    address: `:${port}`,
    ca: "a",
    certificate: "b",
    privateKey: "c",
    ...over,
  });
  test.each<[string, unknown, string | undefined]>([
    ["is the only upstream, pinned or not", { listener: { upstream: "db" }, upstreams: [upstream] }, "db"],
    [
      "is the upstream without server names",
      { upstreams: [{ ...other, serverNames: ["a.b"] }, upstream] },
      "db",
    ],
    [
      "is undefined where all have server names",
      { upstreams: [{ ...upstream, serverNames: ["a.b"] }] },
      undefined,
    ],
    [
      "is the upstream that no listener is pinned to",
      { listeners: [at(1, { upstream: "b" }), at(2)], upstreams: [upstream, other] },
      "db",
    ],
    [
      "is undefined where listeners are pinned to all upstreams",
      { listeners: [at(1, { upstream: "b" }), at(2, { upstream: "db" })], upstreams: [upstream, other] },
      undefined,
    ],
  ])("the fallback upstream %s", (_, input, rest) => {
    expect(resolved(input).faults).toEqual([]);
    expect(resolved(input).config.fallback).toBe(rest);
  });
});
