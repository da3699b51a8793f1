// Every configuration key, declared once, with its kind, built-in value and meaning; large tables are in files such as
// listener-schema.ts. Reading, help and generated files follow: after a change, run `bun src/config/reference.ts`.

import { formatAddress, isPicked } from "../lib/address.ts";
import { LOG_LEVELS } from "../lib/log.ts";
import { ADMIN, METRICS } from "./admin-schema.ts";
import { FLEET } from "./fleet-schema.ts";
import { RANGES, client, clientPattern, ipAddress, moment, range } from "./forms.ts";
import { builtIn, demonstration, list, optional, required, table } from "./kinds.ts";
import { LISTENER, LISTENER_ENTRY } from "./listener-schema.ts";
import { DEMONSTRATION_UPSTREAM, UPSTREAM } from "./upstream-schema.ts";
import { MILLION, choice, count, duration, durationOrZero, flag, path, pemPath, text } from "./values.ts";

/** The largest number of threads, for `"auto"` too. */
export const MAX_WORKERS = 64;

const TEST = table(
  {
    client: optional(
      client,
      "Who connects; the identity is taken as verified. Either this or `certificate`.",
    ),
    certificate: optional(
      pemPath,
      "The certificate that the client presents, then its chain. It is judged as in a handshake.",
    ),
    serverName: optional(text("a server name"), "The server name (SNI) that the client asks for."),
    listener: optional(
      text("a listener's address"),
      "The address of the listener that it connects to, as configured.",
      "the only listener; required if there are several",
    ),
    from: optional(ipAddress, "The address that it comes from."),
    at: optional(moment, "The moment at which it connects.", "the moment of the test"),
    expect: required(
      text("an upstream's name or a reason"),
      "The name of the upstream that the client reaches, or the reason of its refusal.",
    ),
  },
  "TestConfig",
  (read, { client, certificate }, key) => {
    if ((client === undefined) === (certificate === undefined))
      read.fault(key, "needs either client or certificate");
  },
);

const LIMIT = table(
  {
    match: required(clientPattern, "A client, or all members of a group: each of them has these limits."),
    capacity: optional(
      count(MILLION, "unlimited"),
      "Size of the token bucket.",
      "that of the next wider rule",
    ),
    fillRate: optional(duration, "How often one token comes back.", "that of the next wider rule"),
    maxConnections: optional(
      count(MILLION),
      "Connections that such a client may have open at a time.",
      "that of the next wider rule",
    ),
  },
  "LimitConfig",
  (read, { capacity, fillRate, maxConnections }, key) => {
    if (capacity === undefined && fillRate === undefined && maxConnections === undefined)
      read.fault(key, "has no effect without capacity, fillRate or maxConnections");
  },
);

const SHADOW = table({
  config: required(
    path("a configuration file"),
    "The other configuration, a file of its own. Its paths start from its folder, and its `listeners` are paired with those in force by address.",
  ),
});

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
      "From accept to a finished handshake. It limits how long a silent stranger occupies a place.",
    ),
    connectTimeout: builtIn(
      duration,
      "5s",
      "The time limit of one attempt to reach one target, its TLS handshake included.",
    ),
    shutdownTimeout: builtIn(duration, "30s", "How long a graceful shutdown waits for open connections."),
    maxConnectionDuration: optional(
      duration,
      "How long a connection may last, busy or not. Each limit is shortened at random by up to a tenth, so that connections that began together do not end together.",
      "no limit",
    ),
    disconnectExpired: builtIn(
      flag,
      true,
      "Whether a connection is closed when its client's certificate expires.",
    ),
    expiryGrace: builtIn(
      durationOrZero,
      0,
      "How long an open connection may go on after its client's certificate has expired. New connections with it are refused all the same.",
    ),
    revocationGrace: builtIn(
      durationOrZero,
      0,
      "The time over which the connections that lose their authorization in a reload are closed; 0 for at once.",
    ),
    maxConnections: optional(
      count(MILLION),
      "Connections of all clients together, handshaking ones included; the proxy closes any further one at once. At most (descriptor limit - 64) / 2, or less if the proxy itself needs more than 16 descriptors.",
      "that limit",
    ),
    workers: builtIn(
      count(MAX_WORKERS, "auto"),
      1,
      'Threads that carry connections; `"auto"` is one per core.',
    ),
    watch: builtIn(flag, true, "Whether a change of a file that the configuration names reloads everything."),
    logLevel: builtIn(choice(LOG_LEVELS), "info", "The least severe lines to write to the log."),
    log: builtIn(
      table({
        admissions: builtIn(flag, false, "Whether each admission is a line at level info."),
        progress: optional(
          duration,
          "How often a connection that stays open gets a line that says how much it has carried.",
          "no such lines",
        ),
      }),
      {},
      "What the log says beside ends and refusals.",
    ),
    metrics: optional(METRICS, "A port for monitoring: `/metrics`, `/livez`, `/readyz`.", "no port"),
    admin: optional(ADMIN, "A door for operators: it shows and changes what runs.", "no door"),
    shadow: optional(
      SHADOW,
      "Tries another configuration: it decides beside the one in force, without effect, and the log says where the two differ.",
      "no shadow",
    ),
    handshakes: builtIn(
      table({
        max: optional(
          count(MILLION),
          "Handshakes in progress at a time, in total; more wait their turn. At most `maxConnections`, if that is given.",
          "a quarter of `maxConnections`, at least 64 where possible",
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
          "Sources whose connections are not counted, such as a load balancer.",
        ),
      }),
      {},
      "Limits what strangers may cost. A source is an IPv4 address, or the /64 of an IPv6 address.",
    ),
    listener: builtIn(table(LISTENER, "ListenerConfig"), {}, "The port that accepts clients."),
    listeners: optional(
      list(LISTENER_ENTRY, "listener", {
        unique: ({ address }) => (isPicked(address) ? "" : formatAddress(address)),
        suffix: ".address",
      }),
      "Several ports that accept clients, in place of `listener`.",
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
          "no limit",
        ),
      }),
      {},
      "The limits of each client, over all upstreams. A client is a whole Common Name, or the `user@group` that `identity` takes from another name.",
    ),
    limits: optional(
      list(LIMIT, "limit", { unique: ({ match }) => match, suffix: ".match" }),
      "Other limits of single clients and groups. A rule for the client itself comes before one for its group, and that before `rateLimit`.",
      "everybody has those of `rateLimit`",
    ),
    tests: optional(
      list(TEST, "test"),
      "Who must be allowed where, and who must be refused. They run in `proxy check`, at the start and at each reload, and one that fails is a fault.",
    ),
    fleet: optional(
      FLEET,
      "Several proxies hold each client to one limit together, through a store that they share.",
      "each proxy counts alone",
    ),
  },
  "ProxyConfig",
);
