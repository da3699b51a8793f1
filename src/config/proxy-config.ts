// What people write: the configuration in TypeScript, TOML, YAML or JSON. Generated from schema.ts by
// `bun src/config/reference.ts`; change the declarations there.

/**
 * A text such as `"250ms"`, `"60s"`, `"1m30s"`, `"1h"`; 1 ms to just under 25 days. In TypeScript also a number of
 * milliseconds, which a configuration file and a flag refuse.
 */
export type Duration = string | number;

/**
 * What the proxy does. Every key may be left out and then has its built-in value, except within an entry of a
 * list, which has none. In a configuration file `listener.ca`, `.certificate`, `.privateKey` and `upstreams`
 * have none either: those are the demonstration's.
 */
export interface ProxyConfig {
  /** Idle time, no byte in either direction, after which a connection is closed. Built in: `"5m"`. */
  timeout?: Duration;
  /** From accept to a finished handshake. It bounds what a silent stranger can hold. Built in: `"10s"`. */
  handshakeTimeout?: Duration;
  /** The time limit of one attempt to reach one target, its TLS handshake included. Built in: `"5s"`. */
  connectTimeout?: Duration;
  /** How long a graceful shutdown waits for open connections. Built in: `"30s"`. */
  shutdownTimeout?: Duration;
  /**
   * How long a connection may last, whatever it does. Each gets up to a tenth less, by chance, so that
   * connections that came together do not end together. Built in: no such limit.
   */
  maxConnectionDuration?: Duration;
  /** Whether a connection is closed when its client's certificate expires. Built in: `true`. */
  disconnectExpired?: boolean;
  /**
   * Duration or `0`. The time over which the connections that lose their authorization in a reload are
   * closed; 0 for at once. Built in: `0`.
   */
  revocationGrace?: Duration;
  /**
   * Whole number, 1 to 1,000,000. Connections of all clients together, handshaking ones included; one above
   * is closed at once. At most (descriptor limit - 64) / 2, or less where the proxy itself needs more than 16
   * descriptors. Built in: that maximum.
   */
  maxConnections?: number;
  /**
   * Whole number, 1 to 64, or `"auto"`. Threads that carry connections; `"auto"` is one per core. Built in:
   * `1`.
   */
  workers?: number | "auto";
  /** Whether a change of a file that the configuration names reloads everything. Built in: `true`. */
  watch?: boolean;
  /** The least severe lines to write to the log. Built in: `"info"`. */
  logLevel?: "debug" | "info" | "warn" | "error" | "silent";
  /** What strangers may cost. A source is an IPv4 address, or the /64 of an IPv6 address. */
  handshakes?: {
    /**
     * Whole number, 1 to 1,000,000. Handshakes under way at a time, in all; more wait their turn. At most
     * `maxConnections`, where that is given. Built in: a quarter of `maxConnections`, at least 64 where there
     * are as many.
     */
    max?: number;
    /**
     * Whole number, 1 to 1,000,000. The same for one source. A source that had no client admitted lately
     * begins with two. Built in: `64`.
     */
    perSource?: number;
    /**
     * Whole number, 1 to 1,000,000. Failed or abandoned handshakes that a source may have at once. Built in:
     * `20`.
     */
    failures?: number;
    /** How often one of them is forgiven. Built in: `"1s"`. */
    failuresRefill?: Duration;
    /** Sources that are not counted, such as a load balancer. Built in: `[]`. */
    exempt?: string[];
  };
  /** Where clients come in. */
  listener?: ListenerConfig;
  /** In place of `listener`: several places where clients come in. Built in: none. */
  listeners?: ListenerConfig[];
  /**
   * The services, at least one, and who may reach them. Built in: the demonstration's; required in a file.
   */
  upstreams?: UpstreamConfig[];
  /** What each client may do, over all upstreams. A client is a whole Common Name. */
  rateLimit?: {
    /**
     * Whole number, 1 to 1,000,000, or `"unlimited"`. Size of each client's token bucket; a connection takes
     * one token. With `"unlimited"` there are no buckets. Built in: `10`.
     */
    capacity?: number | "unlimited";
    /** How often one token comes back. Built in: `"1s"`. */
    fillRate?: Duration;
    /**
     * Whole number, 1 to 1,000,000. Connections that one client may have open at a time. Built in: no such
     * limit.
     */
    maxConnections?: number;
  };
  /**
   * Several proxies hold each client to one limit together, through a store that they share. Built in: each
   * proxy counts alone.
   */
  fleet?: {
    /**
     * The store that the proxies share: an address such as `"redis://user:password@host:6379/0"`, or a table
     * with more to say.
     */
    store: string | StoreConfig;
    /** Verifies the store. It is required with `rediss://`. Built in: none. */
    tls?: {
      /** Path of a PEM file. The CA certificates that the store must chain to. */
      ca: string;
      /** Path of a PEM file. The proxy's certificate as a client of the store. Built in: none. */
      certificate?: string;
      /** Path of a PEM file. That certificate's private key, not encrypted. Built in: none. */
      privateKey?: string;
    };
    /**
     * Namespace. Begins the keys in the store. Proxies with the same one are one fleet. Built in:
     * `"tcpproxy"`.
     */
    namespace?: string;
    /**
     * Node's name. The name of this proxy, unique in the fleet. Built in: the host's name and the process's
     * number.
     */
    node?: string;
    /** How long a client waits for one answer of the store. Built in: `"50ms"`. */
    timeout?: Duration;
    /** The time after which the counts of a node that is silent are void. Built in: `"10s"`. */
    lease?: Duration;
    /** How often a node writes all of its counts anew. Built in: `"2s"`. */
    heartbeat?: Duration;
    /**
     * Without the store: each node gives a client its share of the limits, or the whole limits (`local`), or
     * refuses all clients (`refuse`). Built in: `"share"`.
     */
    whenDown?: "share" | "local" | "refuse";
  };
}

/** A port where clients come in. In `listeners`, the first four keys are required. */
export interface ListenerConfig {
  /**
   * Address. Where clients connect. `":5000"` is every interface, IPv4 and IPv6. With port 0 the system picks
   * one. Built in: `":5000"`.
   */
  address?: string;
  /**
   * Path of a PEM file. The CA certificates that clients must chain to, one or several. Built in:
   * `"certs/ca.crt"`; required in a file.
   */
  ca?: string;
  /**
   * Path of a PEM file. The proxy's certificate, then its chain, if it has one. Built in:
   * `"certs/server.crt"`; required in a file.
   */
  certificate?: string;
  /**
   * Path of a PEM file. The certificate's private key, not encrypted. Built in: `"certs/server.key"`;
   * required in a file.
   */
  privateKey?: string;
  /**
   * Path of a PEM file. The CA's revocation lists. Revoked client certificates are refused. Built in: none.
   */
  crl?: string;
  /**
   * Whether a client may resume its TLS session, which costs a fraction of a handshake. The proxy checks the
   * certificate again all the same. Built in: `true`.
   */
  sessionTickets?: boolean;
  /**
   * Whether another process may open the same port, for a change of binaries without a gap. Built in:
   * `false`.
   */
  reusePort?: boolean;
  /**
   * Upstream's name. The upstream for all connections of this listener, whatever server name they ask for.
   * Built in: none.
   */
  upstream?: string;
}

/** A service: its servers, and who may reach it. */
export interface UpstreamConfig {
  /** Name. Unique; the log and `listener.upstream` use it. */
  name: string;
  /** The servers of the service, at least one. Each is an address, or a table with more to say. */
  targets: (string | TargetConfig)[];
  /** The groups whose members are let through, at least one. Case matters; there are no patterns. */
  authorizedGroups: string[];
  /**
   * Server names (SNI) that lead here: `"db.example.com"`, or `"*.example.com"` for everything below it. No
   * two upstreams have the same. Built in: all connections that lead to no other upstream.
   */
  serverNames?: string[];
  /**
   * Checks targets by connecting to them, over TLS where the upstream has it. Built in: no checks; failed
   * dials count all the same.
   */
  healthCheck?: {
    /** From one check of a target to the next. Built in: `"2s"`. */
    interval?: Duration;
    /** The time limit of one check. Built in: `"1s"`. */
    timeout?: Duration;
    /**
     * Whole number, 1 to 100. Checks in a row that a target which is down has to pass to be up again. Built
     * in: `2`.
     */
    rise?: number;
    /**
     * Whole number, 1 to 100. Checks in a row that fail before a target is down; likewise dials in a row
     * before it is ejected. Built in: `3`.
     */
    fall?: number;
  };
  /**
   * Duration or `0`. The time in which a target that is back reaches its full share of connections; 0 for at
   * once. Built in: `0`.
   */
  slowStart?: Duration;
  /** Speaks TLS to the targets and verifies them. Built in: plain TCP. */
  tls?: {
    /** Path of a PEM file. The CA certificates that targets must chain to. */
    ca: string;
    /** Path of a PEM file. The proxy's certificate as a client of the targets. Built in: none. */
    certificate?: string;
    /** Path of a PEM file. That certificate's private key, not encrypted. Built in: none. */
    privateKey?: string;
    /**
     * Host name. The name that the targets' certificates must hold. It is required where a target is a Unix
     * socket. Built in: the host of each target.
     */
    serverName?: string;
  };
  /**
   * Tells the targets who is calling, before the first byte and before TLS. `v1` has the addresses only; `v2`
   * also says which client it is. Built in: none.
   */
  proxyProtocol?: "v1" | "v2";
}

/** A target with more to say than where it is. */
export interface TargetConfig {
  /** `host:port` or `unix:/path`. Where the target is. A host name is resolved when it is dialled. */
  address: string;
  /** Whole number, 1 to 1,000. Its share of connections, relative to the other targets. Built in: `1`. */
  weight?: number;
  /** Whether it is used only while no other target is healthy. Built in: `false`. */
  backup?: boolean;
}

/** The store of a fleet with more to say than where it is. */
export interface StoreConfig {
  /** Address of a Redis or Valkey. The store: Redis 6 or later, or Valkey. `rediss://` is TLS. */
  url: string;
  /** Path of a file. A file with the store's password, in place of one in the address. Built in: none. */
  passwordFile?: string;
}
