// The configuration: the loose shape that people write, the strict shape that the proxy runs on, and what is built in.
// The way from the one to the other is resolve-config.ts.

import type { Address, TargetAddress } from "../lib/address.ts";
import type { LogLevel } from "../lib/log.ts";

/**
 * A text such as `"250ms"`, `"60s"`, `"1m30s"`, `"1h"`; 1 ms to just under 25 days. In TypeScript also a number of
 * milliseconds, which a configuration file and a flag refuse.
 */
export type Duration = string | number;

/** `v1` has the addresses only; `v2` also says which client it is. */
export const PROXY_PROTOCOLS = ["v1", "v2"] as const;
export type ProxyProtocolVersion = (typeof PROXY_PROTOCOLS)[number];

/**
 * What the proxy does, as one writes it: in TypeScript, TOML, YAML or JSON. Every key may be left out and then has its
 * built-in value, except within an entry of a list, which has none: nobody gets in by omission. In a configuration file
 * `listener.ca`, `.certificate`, `.privateKey` and `upstreams` have none either: those are the demonstration's.
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
   * How long a connection may last, whatever it does; up to a tenth less, by chance, so that what came together does not
   * go together. Built in: no such limit.
   */
  maxConnectionDuration?: Duration;
  /** Whether a connection is closed when its client's certificate runs out. Built in: `true`. */
  disconnectExpired?: boolean;
  /** The time over which connections that a reload takes the right from are closed; 0 for at once. Built in: `0`. */
  revocationGrace?: Duration;
  /**
   * Connections of all clients together, handshaking ones included; one above is closed at once. An integer of at least
   * 1, at most half of the descriptors the process may open. Built in: that most.
   */
  maxConnections?: number;
  /** Threads that carry connections, 1 to 64, or `"auto"` for one per core. Built in: `1`. */
  workers?: number | "auto";
  /** Whether a change of a file that the configuration names reloads everything. Built in: `true`. */
  watch?: boolean;
  /** Least severe lines of the log: `debug`, `info`, `warn`, `error` or `silent`. Built in: `"info"`. */
  logLevel?: LogLevel;
  /** What strangers may cost. A source is an IPv4 address, or the /64 of an IPv6 address. */
  handshakes?: {
    /**
     * Handshakes under way at a time, in all; more wait their turn. 1 to `maxConnections`, where that is given. Built in: a
     * quarter of `maxConnections`, at least 64 where there are as many.
     */
    max?: number;
    /** The same for one source, 1 to 1,000,000. A source that had no client admitted lately begins with two. Built in: `64`. */
    perSource?: number;
    /** Failed or abandoned handshakes that a source may have at once, 1 to 1,000,000. Built in: `20`. */
    failures?: number;
    /** How often one of them is forgiven. Built in: `"1s"`. */
    failuresRefill?: Duration;
    /** Sources that are not counted, such as a load balancer's: `"10.0.0.0/8"`, `"2001:db8::/32"`. Built in: none. */
    exempt?: string[];
  };
  /** Where clients come in. */
  listener?: ListenerConfig;
  /** Instead of `listener`: several places where clients come in. Each has to name its address and its files. */
  listeners?: ListenerConfig[];
  /** Who may go where. Built in: `echo`, for the group `admin`, on three local ports. */
  upstreams?: UpstreamConfig[];
  /** What each client may do, over all upstreams; a client is a whole Common Name. */
  rateLimit?: {
    /**
     * Size of each client's token bucket, 1 to 1,000,000; one token per connection. `"unlimited"`: there are no buckets.
     * Built in: `10`.
     */
    capacity?: number | "unlimited";
    /** How often one token comes back. Built in: `"1s"`. */
    fillRate?: Duration;
    /** Connections one client may have open at a time, at least 1. Built in: no such limit. */
    maxConnections?: number;
  };
}

/** A port where clients come in. */
export interface ListenerConfig {
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
  /**
   * Whether a client may resume its TLS session, which costs a fraction of a handshake. Its certificate is judged again
   * all the same. Built in: `true`.
   */
  sessionTickets?: boolean;
  /** Whether another process may open the same port, as for a change of binaries without a gap. Built in: `false`. */
  reusePort?: boolean;
  /** The name of the upstream for all connections of this listener, whatever server name they ask for. Built in: none. */
  upstream?: string;
}

/** A service: its servers, and who may reach it. */
export interface UpstreamConfig {
  /** Unique; for the log. */
  name: string;
  /** Servers of one service, at least one. */
  targets: (string | TargetConfig)[];
  /** Groups whose members are let through, at least one; case matters. */
  authorizedGroups: string[];
  /**
   * Server names (SNI) that lead here: `"db.example.com"`, or `"*.example.com"` for everything below it; no two upstreams
   * have the same. The one upstream without takes the rest.
   */
  serverNames?: string[];
  /** Looks whether targets are there by connecting to them. Built in: no looking; failed dials are counted all the same. */
  healthCheck?: {
    /** From one check of a target to the next. Built in: `"2s"`. */
    interval?: Duration;
    /** For one check. Built in: `"1s"`. */
    timeout?: Duration;
    /** Checks in a row that a target which is down has to pass, 1 to 100. Built in: `2`. */
    rise?: number;
    /** Checks, or dials, in a row that have to fail before a target is down, 1 to 100. Built in: `3`. */
    fall?: number;
  };
  /** The time in which a target that is back comes to its full share of connections; 0 for at once. Built in: `0`. */
  slowStart?: Duration;
  /** Speaks TLS to the targets, and verifies them. Built in: plain TCP. */
  tls?: {
    /** Path to PEM: the CA certificates that targets must chain to. */
    ca: string;
    /** Path to PEM: the proxy's certificate as a client of the targets. Built in: none. */
    certificate?: string;
    /** Path to PEM: that certificate's key, not encrypted. */
    privateKey?: string;
    /** The name that the targets' certificates have to hold. Built in: the host of each target. */
    serverName?: string;
  };
  /** Tells the targets who is calling, before the first byte and before TLS: the PROXY protocol. Built in: it does not. */
  proxyProtocol?: ProxyProtocolVersion;
}

/** A target with more to say than where it is. */
export interface TargetConfig {
  /** `"10.0.0.5:5432"`, `"[::1]:5432"`, `"db.internal:5432"`, `"unix:/run/db.sock"`. */
  address: string;
  /** Its share of connections beside the others', 1 to 1,000. Built in: `1`. */
  weight?: number;
  /** Whether it is used only where no other target is healthy. Built in: `false`. */
  backup?: boolean;
}

/** The strict shape: complete, checked, frozen. Durations are milliseconds, paths are absolute. */
export interface Config {
  readonly timeout: number;
  readonly handshakeTimeout: number;
  readonly connectTimeout: number;
  readonly shutdownTimeout: number;
  readonly maxConnectionDuration: number | undefined;
  readonly disconnectExpired: boolean;
  readonly revocationGrace: number;
  readonly maxConnections: number | undefined;
  readonly workers: number;
  readonly watch: boolean;
  readonly logLevel: LogLevel;
  readonly handshakes: {
    readonly max: number | undefined;
    readonly perSource: number;
    readonly failures: number;
    readonly failuresRefill: number;
    readonly exempt: readonly string[];
  };
  /** At least one. */
  readonly listeners: readonly Listener[];
  /** At least one. */
  readonly upstreams: readonly Upstream[];
  /** The name of the upstream for connections that no server name leads elsewhere; undefined for none. */
  readonly fallback: string | undefined;
  readonly rateLimit: {
    /** Infinity where there are no buckets. */
    readonly capacity: number;
    readonly fillRate: number;
    readonly maxConnections: number | undefined;
  };
}

/** A {@link ListenerConfig}, complete. */
export interface Listener {
  /** Where it is in what was written: `listener`, or `listeners[2]`. */
  readonly key: string;
  readonly address: Address;
  readonly ca: string;
  readonly certificate: string;
  readonly privateKey: string;
  readonly crl: string | undefined;
  readonly sessionTickets: boolean;
  readonly reusePort: boolean;
  readonly upstream: string | undefined;
}

/** An {@link UpstreamConfig}, complete. */
export interface Upstream {
  readonly name: string;
  readonly targets: readonly Target[];
  readonly authorizedGroups: readonly string[];
  /** Lower case. */
  readonly serverNames: readonly string[] | undefined;
  readonly healthCheck: HealthCheck | undefined;
  /** Failed dials in a row after which a target ejected. */
  readonly fall: number;
  readonly slowStart: number;
  readonly tls: UpstreamTls | undefined;
  readonly proxyProtocol: ProxyProtocolVersion | undefined;
}

/** A server of an upstream. */
export interface Target {
  readonly address: TargetAddress;
  readonly weight: number;
  readonly backup: boolean;
}

/** How targets are looked after. */
export interface HealthCheck {
  readonly interval: number;
  readonly timeout: number;
  readonly rise: number;
  readonly fall: number;
}

/** TLS to the targets of an upstream. */
export interface UpstreamTls {
  readonly ca: string;
  readonly certificate: string | undefined;
  readonly privateKey: string | undefined;
  readonly serverName: string | undefined;
}

/** What `./out/proxy` runs with when it is told nothing. */
export const BUILT_IN = {
  timeout: "5m",
  handshakeTimeout: "10s",
  connectTimeout: "5s",
  shutdownTimeout: "30s",
  disconnectExpired: true,
  revocationGrace: 0,
  workers: 1,
  watch: true,
  logLevel: "info",
  handshakes: { perSource: 64, failures: 20, failuresRefill: "1s", exempt: [] },
  listener: {
    address: ":5000",
    ca: "certs/ca.crt",
    certificate: "certs/server.crt",
    privateKey: "certs/server.key",
    sessionTickets: true,
    reusePort: false,
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

/** What a health check is when nothing is said about it. */
export const HEALTH_CHECK = { interval: "2s", timeout: "1s", rise: 2, fall: 3 };
