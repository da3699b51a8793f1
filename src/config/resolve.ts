// The one resolver from what people write to what the proxy runs on. Pure: nobody else validates a shape, and nothing
// here opens a file.

import { isAbsolute, resolve as resolvePath } from "node:path";
import { formatAddress, parseTarget } from "../lib/address.ts";
import {
  BUILT_IN,
  HEALTH_CHECK,
  PROXY_PROTOCOLS,
  type Config,
  type Listener,
  type ProxyConfig,
  type Target,
  type Upstream,
} from "./config.ts";
import { quote, type Fault } from "../lib/errors.ts";
import { isGroupName } from "../auth/identity.ts";
import { LOG_LEVELS } from "../lib/log.ts";
import { Reader } from "./reader.ts";
import { parseRange } from "../lib/source.ts";
import { parseServerName, restOf } from "../auth/server-name.ts";

/** The most threads, and what `"auto"` comes to at most. */
const MAX_WORKERS = 64;

/** What the resolver has to be told of its surroundings. */
export interface Surroundings {
  /** What relative paths are taken from, itself absolute. */
  readonly directory: string;
  /** Cores, for `workers = "auto"`. */
  readonly cores: number;
  /**
   * Whether the input was read from a configuration file. Then a number is no duration, and the demonstration's
   * certificates and upstreams are not built in.
   */
  readonly fromFile?: boolean;
}

/**
 * Turns what people write into what the proxy runs on.
 * @param input a `ProxyConfig`, from anywhere: nothing about it is taken on trust
 * @param faults collects what is wrong, in the order of the keys; the result is fit for use only if it stays empty.
 *   A path that is at fault comes back as ""
 */
export function resolveConfig(
  input: unknown,
  { directory, cores, fromFile = false }: Surroundings,
  faults: Fault[],
): Config {
  const absolute = (path: string) => (isAbsolute(path) ? path : resolvePath(directory, path));
  const read = new Reader(faults, absolute, !fromFile);
  const { listener: _, upstreams, ...always } = BUILT_IN;
  const builtIn = fromFile ? always : { ...always, upstreams };
  const optional = ["maxConnectionDuration", "maxConnections", "listener", "listeners", "upstreams"];
  const top = read.table(input, "", builtIn, optional);
  const millions = (key: string) => (value: unknown) => read.count(value, key, 1_000_000);
  const config = {
    timeout: read.duration(top.timeout, "timeout"),
    handshakeTimeout: read.duration(top.handshakeTimeout, "handshakeTimeout"),
    connectTimeout: read.duration(top.connectTimeout, "connectTimeout"),
    shutdownTimeout: read.duration(top.shutdownTimeout, "shutdownTimeout"),
    maxConnectionDuration: read.optional(top.maxConnectionDuration, (value) =>
      read.duration(value, "maxConnectionDuration"),
    ),
    disconnectExpired: read.flag(top.disconnectExpired, "disconnectExpired"),
    revocationGrace: read.durationOrNone(top.revocationGrace, "revocationGrace"),
    maxConnections: read.optional(top.maxConnections, millions("maxConnections")),
    workers:
      top.workers === "auto"
        ? Math.min(cores, MAX_WORKERS)
        : read.count(top.workers, "workers", MAX_WORKERS, ', or "auto"'),
    watch: read.flag(top.watch, "watch"),
    logLevel: read.choice(top.logLevel, "logLevel", LOG_LEVELS),
    handshakes: handshakes(read, top.handshakes),
    listeners: listeners(read, input, top, fromFile),
    upstreams: read.list(top.upstreams, "upstreams", "upstream").map((value, i) => upstream(read, value, i)),
    rateLimit: (() => {
      const rateLimit = read.table(top.rateLimit, "rateLimit", BUILT_IN.rateLimit, ["maxConnections"]);
      return {
        capacity:
          rateLimit.capacity === "unlimited"
            ? Infinity
            : read.count(rateLimit.capacity, "rateLimit.capacity", 1_000_000, ', or "unlimited"'),
        fillRate: read.duration(rateLimit.fillRate, "rateLimit.fillRate"),
        maxConnections: read.optional(rateLimit.maxConnections, millions("rateLimit.maxConnections")),
      };
    })(),
  };
  const { max = 0 } = config.handshakes;
  if (config.maxConnections !== undefined && max > config.maxConnections) {
    read.fault("handshakes.max", `${max} is more than maxConnections, which is ${config.maxConnections}`);
  }
  return deepFreeze({ ...config, fallback: routing(read, config) });
}

function handshakes(read: Reader, value: unknown): Config["handshakes"] {
  const table = read.table(value, "handshakes", BUILT_IN.handshakes, ["max"]);
  const millions = (key: string) => (number: unknown) => read.count(number, `handshakes.${key}`, 1_000_000);
  const { exempt } = table;
  if (!Array.isArray(exempt)) read.reject(exempt, "handshakes.exempt", "a list", RANGES);
  return {
    max: read.optional(table.max, millions("max")),
    perSource: millions("perSource")(table.perSource),
    failures: millions("failures")(table.failures),
    failuresRefill: read.duration(table.failuresRefill, "handshakes.failuresRefill"),
    exempt: (Array.isArray(exempt) ? exempt : []).map((range: unknown, i) => {
      if (parseRange(range) === undefined) {
        read.reject(range, `handshakes.exempt[${i}]`, "a range of addresses", RANGES);
      }
      return typeof range === "string" ? range : "";
    }),
  };
}

const RANGES = 'write it like ["10.0.0.0/8", "2001:db8::/32"]';

/** Whether a configuration that was not read from a file leaves a listener's file to the demonstration's. */
export function usesDemonstration({ listener = {}, listeners }: ProxyConfig): boolean {
  const { ca, certificate, privateKey } = listener;
  return listeners === undefined && [ca, certificate, privateKey].includes(undefined);
}

/** Either the one `listener` over its built-in values, or the list, whose entries have none for what identifies them. */
function listeners(
  read: Reader,
  input: unknown,
  top: Record<string, unknown>,
  fromFile: boolean,
): Listener[] {
  const { address, sessionTickets, reusePort } = BUILT_IN.listener;
  if (top.listeners === undefined) {
    const builtIn = fromFile ? { address, sessionTickets, reusePort } : BUILT_IN.listener;
    return [listener(read, top.listener, "listener", builtIn)];
  }
  if ((input as { listener?: unknown }).listener !== undefined) {
    read.fault("listeners", "is given beside listener; it takes its place, so give one of them");
  }
  const all = read
    .list(top.listeners, "listeners", "listener")
    .map((value, i) => listener(read, value, `listeners[${i}]`, { sessionTickets, reusePort }));
  const addresses = all.map(({ address }) => (address.port === 0 ? "" : formatAddress(address)));
  read.unique(addresses, "listeners", ".address");
  return all;
}

function listener(read: Reader, value: unknown, key: string, builtIn: object): Listener {
  const table = read.table(value, key, builtIn, [
    "address",
    "ca",
    "certificate",
    "privateKey",
    "crl",
    "upstream",
  ]);
  return {
    key,
    address: read.address(table.address, `${key}.address`),
    ca: read.path(table.ca, `${key}.ca`),
    certificate: read.path(table.certificate, `${key}.certificate`),
    privateKey: read.path(table.privateKey, `${key}.privateKey`),
    crl: read.optional(table.crl, (path) => read.path(path, `${key}.crl`)),
    sessionTickets: read.flag(table.sessionTickets, `${key}.sessionTickets`),
    reusePort: read.flag(table.reusePort, `${key}.reusePort`),
    upstream: read.optional(table.upstream, (name) =>
      read.text(name, `${key}.upstream`, "an upstream's name"),
    ),
  };
}

const UPSTREAM_KEYS = [
  "name",
  "targets",
  "authorizedGroups",
  "serverNames",
  "healthCheck",
  "slowStart",
  "tls",
  "proxyProtocol",
];

function upstream(read: Reader, value: unknown, index: number): Upstream {
  const key = `upstreams[${index}]`;
  const table = read.table(value, key, {}, UPSTREAM_KEYS);
  const name = read.text(table.name, `${key}.name`, "a name");
  const targets = read
    .list(table.targets, `${key}.targets`, "target")
    .map((each, i) => target(read, each, `${key}.targets[${i}]`));
  read.unique(
    targets.map(({ address }) => formatAddress(address)),
    `${key}.targets`,
  );
  const groups = read.list(table.authorizedGroups, `${key}.authorizedGroups`, "group").map((group, i) => {
    if (typeof group === "string" && isGroupName(group)) return group;
    const hint =
      typeof group === "string" && group.includes("*")
        ? "a group cannot be called so, and there are no patterns: list each group by its name"
        : "it is what follows the @ of a Common Name, without @ and white space";
    read.reject(group, `${key}.authorizedGroups[${i}]`, "a group", hint);
    return "";
  });
  read.unique(groups, `${key}.authorizedGroups`);
  const serverNames = read.optional(table.serverNames, (names) =>
    read.list(names, `${key}.serverNames`, "server name").map((each, i) => {
      const parsed = parseServerName(each);
      const hint = 'write it like "db.example.com" or "*.example.com"';
      if (parsed === undefined) read.reject(each, `${key}.serverNames[${i}]`, "a server name", hint);
      return parsed ?? "";
    }),
  );
  const healthCheck = read.optional(table.healthCheck, (check) =>
    healthCheckOf(read, check, `${key}.healthCheck`),
  );
  return {
    name,
    targets,
    authorizedGroups: groups,
    serverNames,
    healthCheck,
    fall: healthCheck?.fall ?? HEALTH_CHECK.fall,
    slowStart: read.durationOrNone(table.slowStart ?? 0, `${key}.slowStart`),
    tls: read.optional(table.tls, (tls) => tlsOf(read, tls, `${key}.tls`, targets)),
    proxyProtocol: read.optional(table.proxyProtocol, (version) =>
      read.choice(version, `${key}.proxyProtocol`, PROXY_PROTOCOLS),
    ),
  };
}

function target(read: Reader, value: unknown, key: string): Target {
  const plain = typeof value !== "object" || value === null;
  const table = plain
    ? { address: value, weight: 1, backup: false }
    : read.table(value, key, { weight: 1, backup: false }, ["address"]);
  const where = plain ? key : `${key}.address`;
  const address = parseTarget(table.address);
  if (address === undefined) {
    const hint = 'write it like "10.0.0.5:5432", "[::1]:5432" or "unix:/run/db.sock"';
    read.reject(table.address, where, "host:port", hint);
  }
  return {
    address: address ?? { hostname: "", port: 0 },
    weight: read.count(table.weight, `${key}.weight`, 1_000),
    backup: read.flag(table.backup, `${key}.backup`),
  };
}

function healthCheckOf(read: Reader, value: unknown, key: string): Upstream["healthCheck"] {
  const table = read.table(value, key, HEALTH_CHECK, []);
  return {
    interval: read.duration(table.interval, `${key}.interval`),
    timeout: read.duration(table.timeout, `${key}.timeout`),
    rise: read.count(table.rise, `${key}.rise`, 100),
    fall: read.count(table.fall, `${key}.fall`, 100),
  };
}

function tlsOf(read: Reader, value: unknown, key: string, targets: readonly Target[]): Upstream["tls"] {
  const table = read.table(value, key, {}, ["ca", "certificate", "privateKey", "serverName"]);
  const file = (name: string) => read.optional(table[name], (path) => read.path(path, `${key}.${name}`));
  const tls = {
    ca: read.path(table.ca, `${key}.ca`),
    certificate: file("certificate"),
    privateKey: file("privateKey"),
    serverName: read.optional(table.serverName, (text) => {
      const name = parseServerName(text);
      if (name === undefined || name.startsWith("*")) read.reject(text, `${key}.serverName`, "a host name");
      return name ?? "";
    }),
  };
  if ((tls.certificate === undefined) !== (tls.privateKey === undefined)) {
    read.fault(key, "has one of certificate and privateKey; give both, or neither");
  }
  if (tls.serverName === undefined && targets.some(({ address }) => "unix" in address)) {
    read.fault(`${key}.serverName`, "is missing; a unix: target has no host that its certificate could name");
  }
  return tls;
}

/** What goes over more than one entry: every name unique, every pin to somewhere, no server name to two places. */
function routing(read: Reader, config: Omit<Config, "fallback">): string | undefined {
  const { upstreams, listeners } = config;
  const names = upstreams.map(({ name }) => name);
  read.unique(names, "upstreams", ".name");
  const served = upstreams.flatMap(({ serverNames = [] }, i) =>
    serverNames.map((name, j) => ({ name, key: `upstreams[${i}].serverNames[${j}]` })),
  );
  for (const [i, { name, key }] of served.entries()) {
    const first = served.findIndex((other) => other.name === name);
    if (first !== i && name !== "") {
      read.fault(
        key,
        `${quote(name)} is taken by ${served[first]?.key}; a server name leads to one upstream`,
      );
    }
  }
  for (const { upstream: pin, key } of listeners) {
    if (pin !== undefined && pin !== "" && !names.includes(pin)) {
      read.fault(
        `${key}.upstream`,
        `${quote(pin)} is no upstream's name; there are ${names.map(quote).join(", ")}`,
      );
    }
  }
  const rest = restOf(upstreams, new Set(listeners.map(({ upstream }) => upstream ?? "")));
  if (typeof rest !== "object") return rest;
  read.fault(
    "upstreams",
    `${rest.map(quote).join(" and ")} have no serverNames; only one upstream can take the rest, unless a listener is pinned to it`,
  );
  return undefined;
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null) {
    Object.values(value).forEach(deepFreeze);
    Object.freeze(value);
  }
  return value;
}
