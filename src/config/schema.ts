// Every configuration key, declared once: its kind of value, its built-in value and its meaning. What reads a
// configuration (resolve.ts), `proxy help config` (help.ts), the JSON Schema (json-schema.ts), the TypeScript types
// (proxy-config.ts) and the table in README.md all come from here. After a change, run `bun src/config/reference.ts`.

import { formatAddress } from "../lib/address.ts";
import { LOG_LEVELS } from "../lib/log.ts";
import { FLEET } from "./fleet-schema.ts";
import { RANGES, group, hostName, listenAddress, range, serverName, targetAddress } from "./forms.ts";
import { builtIn, demonstration, list, optional, required, shorthand, table, type Keys } from "./kinds.ts";
import { choice, count, duration, durationOrZero, flag, pemPath, text } from "./values.ts";

/** The most threads, and the most that `"auto"` starts. */
export const MAX_WORKERS = 64;

const MILLION = 1_000_000;

/** Versions of the PROXY protocol. */
export const PROXY_PROTOCOLS = ["v1", "v2"] as const;
export type ProxyProtocolVersion = (typeof PROXY_PROTOCOLS)[number];

const LISTENER = {
  address: builtIn(
    listenAddress,
    ":5000",
    'Where clients connect. `":5000"` is every interface, IPv4 and IPv6. With port 0 the system picks one.',
  ),
  ca: demonstration(
    pemPath,
    "certs/ca.crt",
    "The CA certificates that clients must chain to, one or several.",
  ),
  certificate: demonstration(
    pemPath,
    "certs/server.crt",
    "The proxy's certificate, then its chain, if it has one.",
  ),
  privateKey: demonstration(pemPath, "certs/server.key", "The certificate's private key, not encrypted."),
  crl: optional(pemPath, "The CA's revocation lists. Revoked client certificates are refused."),
  sessionTickets: builtIn(
    flag,
    true,
    "Whether a client may resume its TLS session, which costs a fraction of a handshake. The proxy checks the certificate again all the same.",
  ),
  reusePort: builtIn(
    flag,
    false,
    "Whether another process may open the same port, for a change of binaries without a gap.",
  ),
  upstream: optional(
    text("an upstream's name"),
    "The upstream for all connections of this listener, whatever server name they ask for.",
  ),
} satisfies Keys;

/** In a list nothing that identifies a listener is built in. */
const LISTENER_ENTRY = table(
  {
    ...LISTENER,
    address: required(listenAddress, LISTENER.address.meaning),
    ca: required(pemPath, LISTENER.ca.meaning),
    certificate: required(pemPath, LISTENER.certificate.meaning),
    privateKey: required(pemPath, LISTENER.privateKey.meaning),
  },
  "ListenerConfig",
);

const TARGET = table(
  {
    address: required(targetAddress, "Where the target is. A host name is resolved when it is dialled."),
    weight: builtIn(count(1_000), 1, "Its share of connections, relative to the other targets."),
    backup: builtIn(flag, false, "Whether it is used only while no other target is healthy."),
  },
  "TargetConfig",
);

/** How targets are checked, where they are. `fall` counts failed dials too, with checks or without. */
export const HEALTH_CHECK = table({
  interval: builtIn(duration, "2s", "From one check of a target to the next."),
  timeout: builtIn(duration, "1s", "The time limit of one check."),
  rise: builtIn(count(100), 2, "Checks in a row that a target which is down has to pass to be up again."),
  fall: builtIn(
    count(100),
    3,
    "Checks in a row that fail before a target is down; likewise dials in a row before it is ejected.",
  ),
});

const UPSTREAM_TLS = table(
  {
    ca: required(pemPath, "The CA certificates that targets must chain to."),
    certificate: optional(pemPath, "The proxy's certificate as a client of the targets."),
    privateKey: optional(pemPath, "That certificate's private key, not encrypted."),
    serverName: optional(
      hostName,
      "The name that the targets' certificates must hold. It is required where a target is a Unix socket.",
      "the host of each target",
    ),
  },
  undefined,
  (read, { certificate, privateKey }, key) => {
    if ((certificate === undefined) !== (privateKey === undefined))
      read.fault(key, "has one of certificate and privateKey; give both, or neither");
  },
);

const UPSTREAM = table(
  {
    name: required(text("a name"), "Unique; the log and `listener.upstream` use it."),
    targets: required(
      list(shorthand(TARGET, "address"), "target", { unique: ({ address }) => formatAddress(address) }),
      "The servers of the service, at least one. Each is an address, or a table with more to say.",
    ),
    authorizedGroups: required(
      list(group, "group", { unique: (each) => each }),
      "The groups whose members are let through, at least one. Case matters; there are no patterns.",
    ),
    serverNames: optional(
      list(serverName, "server name"),
      'Server names (SNI) that lead here: `"db.example.com"`, or `"*.example.com"` for everything below it. No two upstreams have the same.',
      "all connections that lead to no other upstream",
    ),
    healthCheck: optional(
      HEALTH_CHECK,
      "Checks targets by connecting to them, over TLS where the upstream has it.",
      "no checks; failed dials count all the same",
    ),
    slowStart: builtIn(
      durationOrZero,
      0,
      "The time in which a target that is back reaches its full share of connections; 0 for at once.",
    ),
    tls: optional(UPSTREAM_TLS, "Speaks TLS to the targets and verifies them.", "plain TCP"),
    proxyProtocol: optional(
      choice(PROXY_PROTOCOLS),
      "Tells the targets who is calling, before the first byte and before TLS. `v1` has the addresses only; `v2` also says which client it is.",
    ),
  },
  "UpstreamConfig",
  (read, { tls, targets }, key) => {
    if (tls !== undefined && tls.serverName === undefined && targets.some(({ address }) => "unix" in address))
      read.fault(
        `${key}.tls.serverName`,
        "is missing; a unix: target has no host that its certificate could name",
      );
  },
);

const DEMONSTRATION_UPSTREAM = {
  name: "echo",
  targets: ["127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"],
  authorizedGroups: ["admin"],
};

/** The whole configuration. */
export const SCHEMA = table(
  {
    timeout: builtIn(
      duration,
      "5m",
      "Idle time, no byte in either direction, after which a connection is closed.",
    ),
    handshakeTimeout: builtIn(
      duration,
      "10s",
      "From accept to a finished handshake. It bounds what a silent stranger can hold.",
    ),
    connectTimeout: builtIn(
      duration,
      "5s",
      "The time limit of one attempt to reach one target, its TLS handshake included.",
    ),
    shutdownTimeout: builtIn(duration, "30s", "How long a graceful shutdown waits for open connections."),
    maxConnectionDuration: optional(
      duration,
      "How long a connection may last, whatever it does. Each gets up to a tenth less, by chance, so that connections that came together do not end together.",
      "no such limit",
    ),
    disconnectExpired: builtIn(
      flag,
      true,
      "Whether a connection is closed when its client's certificate expires.",
    ),
    revocationGrace: builtIn(
      durationOrZero,
      0,
      "The time over which the connections that lose their authorization in a reload are closed; 0 for at once.",
    ),
    maxConnections: optional(
      count(MILLION),
      "Connections of all clients together, handshaking ones included; one above is closed at once. At most (descriptor limit - 64) / 2, or less where the proxy itself needs more than 16 descriptors.",
      "that maximum",
    ),
    workers: builtIn(
      count(MAX_WORKERS, "auto"),
      1,
      'Threads that carry connections; `"auto"` is one per core.',
    ),
    watch: builtIn(flag, true, "Whether a change of a file that the configuration names reloads everything."),
    logLevel: builtIn(choice(LOG_LEVELS), "info", "The least severe lines to write to the log."),
    handshakes: builtIn(
      table({
        max: optional(
          count(MILLION),
          "Handshakes under way at a time, in all; more wait their turn. At most `maxConnections`, where that is given.",
          "a quarter of `maxConnections`, at least 64 where there are as many",
        ),
        perSource: builtIn(
          count(MILLION),
          64,
          "The same for one source. A source that had no client admitted lately begins with two.",
        ),
        failures: builtIn(
          count(MILLION),
          20,
          "Failed or abandoned handshakes that a source may have at once.",
        ),
        failuresRefill: builtIn(duration, "1s", "How often one of them is forgiven."),
        exempt: builtIn(
          list(range, "range", { hint: RANGES }),
          [],
          "Sources that are not counted, such as a load balancer.",
        ),
      }),
      {},
      "What strangers may cost. A source is an IPv4 address, or the /64 of an IPv6 address.",
    ),
    listener: builtIn(table(LISTENER, "ListenerConfig"), {}, "Where clients come in."),
    listeners: optional(
      list(LISTENER_ENTRY, "listener", {
        unique: ({ address }) => (address.port === 0 ? "" : formatAddress(address)),
        suffix: ".address",
      }),
      "In place of `listener`: several places where clients come in.",
    ),
    upstreams: demonstration(
      list(UPSTREAM, "upstream", { unique: ({ name }) => name, suffix: ".name" }),
      [DEMONSTRATION_UPSTREAM],
      "The services, at least one, and who may reach them.",
    ),
    rateLimit: builtIn(
      table({
        capacity: builtIn(
          count(MILLION, "unlimited"),
          10,
          'Size of each client\'s token bucket; a connection takes one token. With `"unlimited"` there are no buckets.',
        ),
        fillRate: builtIn(duration, "1s", "How often one token comes back."),
        maxConnections: optional(
          count(MILLION),
          "Connections that one client may have open at a time.",
          "no such limit",
        ),
      }),
      {},
      "What each client may do, over all upstreams. A client is a whole Common Name.",
    ),
    fleet: optional(
      FLEET,
      "Several proxies hold each client to one limit together, through a store that they share.",
      "each proxy counts alone",
    ),
  },
  "ProxyConfig",
);
