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
  /**
   * From accept to a finished handshake. It limits how long a silent stranger occupies a place. Built in:
   * `"10s"`.
   */
  handshakeTimeout?: Duration;
  /** The time limit of one attempt to reach one target, its TLS handshake included. Built in: `"5s"`. */
  connectTimeout?: Duration;
  /** How long a graceful shutdown waits for open connections. Built in: `"30s"`. */
  shutdownTimeout?: Duration;
  /**
   * How long a connection may last, busy or not. Each limit is shortened at random by up to a tenth, so that
   * connections that began together do not end together. Built in: no limit.
   */
  maxConnectionDuration?: Duration;
  /** Whether a connection is closed when its client's certificate expires. Built in: `true`. */
  disconnectExpired?: boolean;
  /**
   * Duration or `0`. How long an open connection may go on after its client's certificate has expired. New
   * connections with it are refused all the same. Built in: `0`.
   */
  expiryGrace?: Duration;
  /**
   * Duration or `0`. The time over which the connections that lose their authorization in a reload are
   * closed; 0 for at once. Built in: `0`.
   */
  revocationGrace?: Duration;
  /**
   * Whole number, 1 to 1,000,000. Connections of all clients together, handshaking ones included; the proxy
   * closes any further one at once. At most (descriptor limit - 64) / 2, or less if the proxy itself needs
   * more than 16 descriptors. Built in: that limit.
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
  /** What the log says beside ends and refusals. */
  log?: {
    /** Whether each admission is a line at level info. Built in: `false`. */
    admissions?: boolean;
    /**
     * How often a connection that stays open gets a line that says how much it has carried. Built in: no such
     * lines.
     */
    progress?: Duration;
  };
  /** A port for monitoring: `/metrics`, `/livez`, `/readyz`. Built in: no port. */
  metrics?: MetricsConfig;
  /** A door for operators: it shows and changes what runs. Built in: no door. */
  admin?: AdminConfig;
  /**
   * Tries another configuration: it decides beside the one in force, without effect, and the log says where
   * the two differ. Built in: no shadow.
   */
  shadow?: {
    /**
     * Path of a configuration file. The other configuration, a file of its own. Its paths start from its
     * folder, and its `listeners` are paired with those in force by address.
     */
    config: string;
  };
  /** Limits what strangers may cost. A source is an IPv4 address, or the /64 of an IPv6 address. */
  handshakes?: {
    /**
     * Whole number, 1 to 1,000,000. Handshakes in progress at a time, in total; more wait their turn. At most
     * `maxConnections`, if that is given. Built in: a quarter of `maxConnections`, at least 64 where
     * possible.
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
    /** Sources whose connections are not counted, such as a load balancer. Built in: `[]`. */
    exempt?: string[];
  };
  /** The port that accepts clients. */
  listener?: ListenerConfig;
  /** Several ports that accept clients, in place of `listener`. Built in: none. */
  listeners?: ListenerConfig[];
  /**
   * The services, at least one, and who may reach them. Built in: the demonstration's; required in a file.
   */
  upstreams?: UpstreamConfig[];
  /**
   * The limits of each client, over all upstreams. A client is a whole Common Name, or the `user@group` that
   * `identity` takes from another name.
   */
  rateLimit?: {
    /**
     * Whole number, 1 to 1,000,000, or `"unlimited"`. Size of each client's token bucket; a connection takes
     * one token. With `"unlimited"` there are no buckets. Built in: `10`.
     */
    capacity?: number | "unlimited";
    /** How often one token comes back. Built in: `"1s"`. */
    fillRate?: Duration;
    /**
     * Whole number, 1 to 1,000,000. Connections that one client may have open at a time. Built in: no limit.
     */
    maxConnections?: number;
  };
  /**
   * Other limits of single clients and groups. A rule for the client itself comes before one for its group,
   * and that before `rateLimit`. Built in: everybody has those of `rateLimit`.
   */
  limits?: LimitConfig[];
  /**
   * Who must be allowed where, and who must be refused. They run in `proxy check`, at the start and at each
   * reload, and one that fails is a fault. Built in: none.
   */
  tests?: TestConfig[];
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

/** The port for monitoring. */
export interface MetricsConfig {
  /** Address. Where Prometheus scrapes: plain HTTP, to be kept on loopback or a trusted network. */
  address: string;
  /**
   * Whole number, 0 to 1,000. The clients with the most open connections, so many of them, get a series each.
   * A client's name is a label then. Built in: `0`.
   */
  topClients?: number;
}

/** The door for operators. At least one of `socket` and `address` is required. */
export interface AdminConfig {
  /**
   * Path of a Unix socket. Where the commands `status`, `ps`, `kick` and others reach the running proxy. Its
   * mode is 0600: a user who can open it is an operator. Built in: no socket.
   */
  socket?: string;
  /**
   * Address. HTTPS beside it, TLS 1.3 with client certificates; the next three keys go with it. Built in: no
   * HTTPS.
   */
  address?: string;
  /** Path of a PEM file. The CA certificates that its clients must chain to. Built in: none. */
  ca?: string;
  /** Path of a PEM file. Its certificate, then its chain. Built in: none. */
  certificate?: string;
  /** Path of a PEM file. That certificate's private key, not encrypted. Built in: none. */
  privateKey?: string;
  /** Who may look, over HTTPS. Built in: `[]`. */
  readers?: string[];
  /** Who may also change things, over HTTPS. Built in: `[]`. */
  operators?: string[];
  /**
   * Path of a folder. Where blocks and changes of targets are kept over a restart. Built in: they end with
   * the process.
   */
  stateDirectory?: string;
}

/** A port that accepts clients. In `listeners`, the first four keys are required. */
export interface ListenerConfig {
  /**
   * Address or `systemd:NAME`. Where clients connect. `":5000"` is every interface, IPv4 and IPv6. With port
   * 0 the system picks one. `"systemd:NAME"` is the socket that systemd has opened under this name. Built in:
   * `":5000"`.
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
   * More certificates of the proxy, for some server names. Exact names win over `*.` suffixes; all other
   * clients see `certificate`. A name may have one with an RSA key and one with an ECDSA key. `ca` is the
   * same for all. Built in: none.
   */
  certificates?: CertificateConfig[];
  /**
   * Protocols that are agreed on with clients that offer them by ALPN, such as `["postgresql"]`, the
   * preferred one first. A client that offers only others is refused; one that offers none is not. Built in:
   * no protocol, and no client is refused for those that it offers.
   */
  alpn?: string[];
  /**
   * Path of a PEM file. The CA's revocation lists. Revoked client certificates are refused. Built in: none.
   */
  crl?: string;
  /** The addresses that may connect. All others are refused before TLS. Built in: every address. */
  allow?: string[];
  /** The addresses that are refused before TLS, even if `allow` has them. Built in: no address. */
  deny?: string[];
  /**
   * The balancers that name their callers in a PROXY header (version 1 or 2) before TLS. It is required from
   * them, and never read from others. Limits, `allow`, `deny`, blocks, the log and the header for targets
   * then go by the caller's address. Needs Linux; to set it for the first time needs a restart. Built in: no
   * balancer.
   */
  acceptProxy?: {
    /** The balancers' own addresses, each an address or a range of them. */
    from: string[];
  };
  /**
   * Whether a client may resume its TLS session, which costs a fraction of a handshake. The proxy still
   * checks the certificate again. Built in: `true`.
   */
  sessionTickets?: boolean;
  /**
   * Whether another process may open the same port, for a change of binaries without a gap. Built in:
   * `false`.
   */
  reusePort?: boolean;
  /**
   * Upstream's name. The upstream for all connections of this listener, for any server name. Built in: none.
   */
  upstream?: string;
  /** Which name of the certificate identifies the client. Built in: the Common Name. */
  identity?: {
    /**
     * The Common Name, or the alternative name of this kind. There must be exactly one, and no other kind
     * stands in for it.
     */
    from: "cn" | "uri" | "dns" | "email";
    /**
     * Pattern. How such a name is written, with `{user}` and `{group}` each once, such as
     * `"spiffe://example.org/{group}/{user}"`. Neither matches `/` or `@`, nor a dot in a DNS name. The
     * client is `user@group`. Built in: `user@group`, for `cn`; required for the others.
     */
    pattern?: string;
  };
}

/** A certificate of the proxy for some server names. */
export interface CertificateConfig {
  /** Path of a PEM file. The certificate, then its chain. */
  certificate: string;
  /** Path of a PEM file. That certificate's private key, not encrypted. */
  privateKey: string;
  /**
   * The server names (SNI) of the clients that see it: `"db.example.com"`, or `"*.example.com"` for
   * everything below it. Built in: the DNS names that it holds.
   */
  serverNames?: string[];
}

/**
 * A service: its servers, and who may reach it. At least one of `authorizedGroups` and `authorizedClients` is
 * required, or `anyGroup`.
 */
export interface UpstreamConfig {
  /** Name. Unique; the log and `listener.upstream` use it. */
  name: string;
  /** The servers of the service, at least one. Each is an address, or a table with more settings. */
  targets: (string | TargetConfig)[];
  /**
   * The groups whose members are let through. Case matters; there are no patterns. Required are this or
   * `authorizedClients`, or both; or else `anyGroup`. Built in: none.
   */
  authorizedGroups?: string[];
  /** Single clients that are let through beside those groups, such as `"alice@dba"`. Built in: none. */
  authorizedClients?: string[];
  /**
   * Whether every client with a valid identity is let through, whatever its group is. It stands in place of
   * both lists. Built in: `false`.
   */
  anyGroup?: boolean;
  /**
   * Server names (SNI) that are routed here: `"db.example.com"`, or `"*.example.com"` for everything below
   * it. No two upstreams have the same. Built in: all connections that are routed to no other upstream.
   */
  serverNames?: string[];
  /**
   * Checks targets by connecting to them, over TLS if the upstream uses it. Built in: no checks; failed dials
   * still count.
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
  /**
   * Whole number, 1 to 1,000,000. Connections that it may have at a time, of all clients and to all targets
   * together. Built in: no limit.
   */
  maxConnections?: number;
  /** Speaks TLS to the targets and verifies them. Built in: plain TCP. */
  tls?: {
    /** Path of a PEM file. The CA certificates that targets must chain to. */
    ca: string;
    /** Path of a PEM file. The proxy's certificate as a client of the targets. Built in: none. */
    certificate?: string;
    /** Path of a PEM file. That certificate's private key, not encrypted. Built in: none. */
    privateKey?: string;
    /**
     * Host name. The name that the targets' certificates must hold. It is required if a target is a Unix
     * socket. Built in: the host of each target.
     */
    serverName?: string;
  };
  /**
   * Tells the targets who the client is, before the first byte and before TLS. `v1` has the addresses only;
   * `v2` also has the client, as its Common Name. Built in: none.
   */
  proxyProtocol?: "v1" | "v2";
}

/** A target with more settings than its address. */
export interface TargetConfig {
  /** `host:port` or `unix:/path`. Where the target is. A host name is resolved when it is dialled. */
  address: string;
  /** Whole number, 1 to 1,000. Its share of connections, relative to the other targets. Built in: `1`. */
  weight?: number;
  /** Whether it is used only while no other target is healthy. Built in: `false`. */
  backup?: boolean;
  /**
   * Whole number, 1 to 1,000,000. Connections that it may have at a time. At its limit the others are used.
   * Built in: no limit.
   */
  maxConnections?: number;
}

/** Limits of a client, or of each member of a group. At least one beside `match` is required. */
export interface LimitConfig {
  /** `user@group` or `*@group`. A client, or all members of a group: each of them has these limits. */
  match: string;
  /**
   * Whole number, 1 to 1,000,000, or `"unlimited"`. Size of the token bucket. Built in: that of the next
   * wider rule.
   */
  capacity?: number | "unlimited";
  /** How often one token comes back. Built in: that of the next wider rule. */
  fillRate?: Duration;
  /**
   * Whole number, 1 to 1,000,000. Connections that such a client may have open at a time. Built in: that of
   * the next wider rule.
   */
  maxConnections?: number;
}

/** A question to the configuration, and the answer that it must give. */
export interface TestConfig {
  /**
   * `user@group`. Who connects; the identity is taken as verified. Either this or `certificate`. Built in:
   * none.
   */
  client?: string;
  /**
   * Path of a PEM file. The certificate that the client presents, then its chain. It is judged as in a
   * handshake. Built in: none.
   */
  certificate?: string;
  /** Server name. The server name (SNI) that the client asks for. Built in: none. */
  serverName?: string;
  /**
   * Listener's address. The address of the listener that it connects to, as configured. Built in: the only
   * listener; required if there are several.
   */
  listener?: string;
  /** IP address. The address that it comes from. Built in: none. */
  from?: string;
  /** Date, or date and time. The moment at which it connects. Built in: the moment of the test. */
  at?: string;
  /**
   * Upstream's name or a reason. The name of the upstream that the client reaches, or the reason of its
   * refusal.
   */
  expect: string;
}

/** The store of a fleet with more to say than where it is. */
export interface StoreConfig {
  /** Address of a Redis or Valkey. The store: Redis 6 or later, or Valkey. `rediss://` is TLS. */
  url: string;
  /** Path of a file. A file with the store's password, in place of one in the address. Built in: none. */
  passwordFile?: string;
}
