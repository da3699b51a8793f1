// The configuration: one loose shape that people write, one strict shape that the proxy runs on, and the one resolver
// between them. Pure: nobody else validates a shape, and nothing here opens a file.

import { isAbsolute, resolve as resolvePath } from "node:path";
import { formatAddress, parseTarget, type Address } from "./address.ts";
import type { Fault } from "./errors.ts";
import { isGroupName } from "./identity.ts";
import { Reader } from "./reader.ts";

/** A text such as `"250ms"`, `"60s"`, `"1m30s"`, `"1h"`, or a number of milliseconds; 1 ms to just under 25 days. */
export type Duration = string | number;

/**
 * What the proxy does, as one writes it: in TypeScript, TOML, YAML or JSON. Every key may be left out and then has its
 * built-in value, except within an entry of `upstreams`, which has none: nobody gets in by omission.
 */
export interface ProxyConfig {
  /** Idle time, no byte in either direction, after which a connection is closed. Built in: `"5m"`. */
  timeout?: Duration;
  /** From accept to a finished handshake; bounds what a silent stranger can hold. Built in: `"10s"`. */
  handshakeTimeout?: Duration;
  /** For one attempt to reach one target. Built in: `"5s"`. */
  connectTimeout?: Duration;
  /** How long a graceful shutdown waits for open connections. Built in: `"30s"`. */
  shutdownTimeout?: Duration;
  /**
   * Connections of all clients together, handshaking ones included; one above is closed at once. An integer of at least
   * 1, at most half of the descriptors the process may open. Built in: that most.
   */
  maxConnections?: number;
  /** Where clients come in. */
  listener?: {
    /** `":5000"` (every interface, IPv4 and IPv6), `"127.0.0.1:5000"`, `"[::1]:5000"`. Built in: `":5000"`. */
    address?: string;
    /** Path to PEM: the CA certificates that clients must chain to, one or several. Built in: `"certs/ca.crt"`. */
    ca?: string;
    /** Path to PEM: the proxy's certificate, then its chain, if any. Built in: `"certs/server.crt"`. */
    certificate?: string;
    /** Path to PEM: the certificate's key, not encrypted. Built in: `"certs/server.key"`. */
    privateKey?: string;
    /** Path to PEM: the CA's revocation lists. Built in: none, so that nothing is revoked. */
    crl?: string;
  };
  /** Who may go where. Exactly one entry for now. Built in: `echo`, for the group `admin`, on three local ports. */
  upstreams?: {
    /** Unique; for the log. */
    name: string;
    /** `host:port` each, at least one: equal servers of one service. */
    targets: string[];
    /** Groups whose members are let through, at least one; case matters. */
    authorizedGroups: string[];
  }[];
  /** What each client may do; a client is a whole Common Name. */
  rateLimit?: {
    /** Size of each client's token bucket, 1 to 1,000,000; one token per connection. Built in: `10`. */
    capacity?: number;
    /** How often one token comes back. Built in: `"1s"`. */
    fillRate?: Duration;
    /** Connections one client may have open at a time, at least 1. Built in: no such limit. */
    maxConnections?: number;
  };
}

/** The strict shape: complete, checked, frozen. Durations are milliseconds, paths are absolute. */
export interface Config {
  readonly timeout: number;
  readonly handshakeTimeout: number;
  readonly connectTimeout: number;
  readonly shutdownTimeout: number;
  readonly maxConnections: number | undefined;
  readonly listener: {
    readonly address: Address;
    readonly ca: string;
    readonly certificate: string;
    readonly privateKey: string;
    readonly crl: string | undefined;
  };
  readonly upstreams: readonly Upstream[];
  readonly rateLimit: {
    readonly capacity: number;
    readonly fillRate: number;
    readonly maxConnections: number | undefined;
  };
}

/** A pool of equal targets and who may reach it. */
export interface Upstream {
  readonly name: string;
  readonly targets: readonly Address[];
  readonly authorizedGroups: readonly string[];
}

/** What `./out/proxy` runs with when it is told nothing. */
export const BUILT_IN = {
  timeout: "5m",
  handshakeTimeout: "10s",
  connectTimeout: "5s",
  shutdownTimeout: "30s",
  listener: {
    address: ":5000",
    ca: "certs/ca.crt",
    certificate: "certs/server.crt",
    privateKey: "certs/server.key",
  },
  upstreams: [
    {
      name: "echo",
      targets: ["127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"],
      authorizedGroups: ["admin"],
    },
  ],
  rateLimit: { capacity: 10, fillRate: "1s" },
} satisfies ProxyConfig;

/**
 * Turns what people write into what the proxy runs on.
 * @param input a {@link ProxyConfig}, from anywhere: nothing about it is taken on trust
 * @param directory what relative paths are taken from, itself absolute
 * @param faults collects what is wrong, in the order of the keys; the result is fit for use only if it stays empty.
 *   A path that is at fault comes back as ""
 */
export function resolveConfig(input: unknown, directory: string, faults: Fault[]): Config {
  const read = new Reader(faults);
  const path = (value: unknown, key: string) => {
    const text = read.text(value, key, "the path of a PEM file");
    return text === "" || isAbsolute(text) ? text : resolvePath(directory, text);
  };

  const top = read.table(input, "", BUILT_IN, ["maxConnections"]);
  const config: Config = {
    timeout: read.duration(top.timeout, "timeout"),
    handshakeTimeout: read.duration(top.handshakeTimeout, "handshakeTimeout"),
    connectTimeout: read.duration(top.connectTimeout, "connectTimeout"),
    shutdownTimeout: read.duration(top.shutdownTimeout, "shutdownTimeout"),
    maxConnections: read.optional(top.maxConnections, (value) =>
      read.count(value, "maxConnections", 1_000_000),
    ),
    listener: (() => {
      const listener = read.table(top.listener, "listener", BUILT_IN.listener, ["crl"]);
      return {
        address: read.address(listener.address, "listener.address"),
        ca: path(listener.ca, "listener.ca"),
        certificate: path(listener.certificate, "listener.certificate"),
        privateKey: path(listener.privateKey, "listener.privateKey"),
        crl: read.optional(listener.crl, (value) => path(value, "listener.crl")),
      };
    })(),
    upstreams: read.list(top.upstreams, "upstreams", "upstream").map((value, i) => upstream(read, value, i)),
    rateLimit: (() => {
      const rateLimit = read.table(top.rateLimit, "rateLimit", BUILT_IN.rateLimit, ["maxConnections"]);
      return {
        capacity: read.count(rateLimit.capacity, "rateLimit.capacity", 1_000_000),
        fillRate: read.duration(rateLimit.fillRate, "rateLimit.fillRate"),
        maxConnections: read.optional(rateLimit.maxConnections, (value) =>
          read.count(value, "rateLimit.maxConnections", 1_000_000),
        ),
      };
    })(),
  };
  if (config.upstreams.length > 1) {
    read.fault("upstreams", `has ${config.upstreams.length} entries; only one upstream is supported for now`);
  }
  return deepFreeze(config);
}

function upstream(read: Reader, value: unknown, index: number): Upstream {
  const key = `upstreams[${index}]`;
  const table = read.table(value, key, {}, ["name", "targets", "authorizedGroups"]);
  const targets = read.list(table.targets, `${key}.targets`, "target").map((target, i) => {
    const address = parseTarget(target);
    if (address === undefined) {
      read.reject(
        target,
        `${key}.targets[${i}]`,
        "host:port",
        'write it like "10.0.0.5:5432" or "[::1]:5432"',
      );
    }
    return address ?? { hostname: "", port: 0 };
  });
  read.unique(targets.map(formatAddress), `${key}.targets`);
  const groups = read.list(table.authorizedGroups, `${key}.authorizedGroups`, "group").map((group, i) => {
    if (typeof group === "string" && isGroupName(group)) return group;
    const hint = "it is what follows the @ of a Common Name, without @ and white space";
    read.reject(group, `${key}.authorizedGroups[${i}]`, "a group", hint);
    return "";
  });
  read.unique(groups, `${key}.authorizedGroups`);
  return { name: read.text(table.name, `${key}.name`, "a name"), targets, authorizedGroups: groups };
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null) {
    Object.values(value).forEach(deepFreeze);
    Object.freeze(value);
  }
  return value;
}
