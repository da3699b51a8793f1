// Every configuration key, declared once: its kind of value, its built-in value and its meaning. What reads a
// configuration (resolve.ts), `proxy help config` (help.ts), the JSON Schema (json-schema.ts), the TypeScript types
// (proxy-config.ts) and the table in README.md all come from here. After a change, run `bun src/config/reference.ts`.

import { IDENTITY_KINDS, patternFault } from "../auth/identity-rule.ts";
import { quote } from "../lib/errors.ts";
import { formatAddress, isPicked } from "../lib/address.ts";
import { LOG_LEVELS } from "../lib/log.ts";
import { FLEET } from "./fleet-schema.ts";
import {
  RANGES,
  client,
  clientPattern,
  group,
  hostName,
  ipAddress,
  listenAddress,
  listenerAddress,
  moment,
  protocolName,
  range,
  serverName,
  targetAddress,
} from "./forms.ts";
import { builtIn, demonstration, list, optional, required, shorthand, table, type Keys } from "./kinds.ts";
import { choice, count, countOrZero, duration, durationOrZero, flag, path, pemPath, text } from "./values.ts";

/** The largest number of threads, for `"auto"` too. */
export const MAX_WORKERS = 64;

const MILLION = 1_000_000;

/** Versions of the PROXY protocol. */
export const PROXY_PROTOCOLS = ["v1", "v2"] as const;
export type ProxyProtocolVersion = (typeof PROXY_PROTOCOLS)[number];

const IDENTITY = table(
  {
    from: required(
      choice(IDENTITY_KINDS),
      "The Common Name, or the alternative name of this kind. There must be exactly one, and no other kind stands in for it.",
    ),
    pattern: optional(
      text("a pattern"),
      'How such a name is written, with `{user}` and `{group}` each once, such as `"spiffe://example.org/{group}/{user}"`. Neither matches `/` or `@`, nor a dot in a DNS name. The client is `user@group`.',
      "`user@group`, for `cn`; required for the others",
    ),
  },
  undefined,
  (read, { from, pattern }, key) => {
    const own = `${key}.pattern`;
    if (from === "cn") {
      if (pattern !== undefined) read.fault(own, 'is not for "cn": a Common Name is user@group as it stands');
    } else if (pattern === undefined) {
      read.fault(own, `is missing; "${from}" needs one, with {user} and {group}`);
    } else if (pattern !== "") {
      const fault = patternFault(pattern, from);
      if (fault !== undefined) read.fault(own, `${quote(pattern)} ${fault}`);
    }
  },
);

const CERTIFICATE = table(
  {
    certificate: required(pemPath, "The certificate, then its chain."),
    privateKey: required(pemPath, "That certificate's private key, not encrypted."),
    serverNames: optional(
      list(serverName, "server name"),
      'The server names (SNI) of the clients that see it: `"db.example.com"`, or `"*.example.com"` for everything below it.',
      "the DNS names that it holds",
    ),
  },
  "CertificateConfig",
);

const LISTENER = {
  address: builtIn(
    listenerAddress,
    ":5000",
    'Where clients connect. `":5000"` is every interface, IPv4 and IPv6. With port 0 the system picks one. `"systemd:NAME"` is the socket that systemd has opened under this name.',
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
  certificates: optional(
    list(CERTIFICATE, "certificate"),
    "More certificates of the proxy, for some server names. Exact names win over `*.` suffixes; all other clients see `certificate`. A name may have one with an RSA key and one with an ECDSA key. `ca` is the same for all.",
  ),
  alpn: optional(
    list(protocolName, "protocol", { unique: (each) => each }),
    'Protocols that are agreed on with clients that offer them by ALPN, such as `["postgresql"]`, the preferred one first. A client that offers only others is refused; one that offers none is not.',
    "no protocol, and no client is refused for those that it offers",
  ),
  crl: optional(pemPath, "The CA's revocation lists. Revoked client certificates are refused."),
  allow: optional(
    list(range, "range"),
    "The addresses that may connect. All others are refused before TLS.",
    "every address",
  ),
  deny: optional(
    list(range, "range"),
    "The addresses that are refused before TLS, even if `allow` has them.",
    "no address",
  ),
  sessionTickets: builtIn(
    flag,
    true,
    "Whether a client may resume its TLS session, which costs a fraction of a handshake. The proxy still checks the certificate again.",
  ),
  reusePort: builtIn(
    flag,
    false,
    "Whether another process may open the same port, for a change of binaries without a gap.",
  ),
  upstream: optional(
    text("an upstream's name"),
    "The upstream for all connections of this listener, for any server name.",
  ),
  identity: optional(IDENTITY, "Which name of the certificate identifies the client.", "the Common Name"),
} satisfies Keys;

/** In a list, the keys that identify a listener have no built-in value. */
const LISTENER_ENTRY = table(
  {
    ...LISTENER,
    address: required(listenerAddress, LISTENER.address.meaning),
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
    maxConnections: optional(
      count(MILLION),
      "Connections that it may have at a time. At its limit the others are used.",
      "no limit",
    ),
  },
  "TargetConfig",
);

/** How targets are checked, if at all. `fall` also counts failed dials, with or without checks. */
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
      "The name that the targets' certificates must hold. It is required if a target is a Unix socket.",
      "the host of each target",
    ),
  },
  undefined,
  (read, { certificate, privateKey }, key) => {
    if ((certificate === undefined) !== (privateKey === undefined))
      read.fault(key, "has only one of certificate and privateKey; give both, or neither");
  },
);

const UPSTREAM = table(
  {
    name: required(text("a name"), "Unique; the log and `listener.upstream` use it."),
    targets: required(
      list(shorthand(TARGET, "address"), "target", { unique: ({ address }) => formatAddress(address) }),
      "The servers of the service, at least one. Each is an address, or a table with more settings.",
    ),
    authorizedGroups: optional(
      list(group, "group", { unique: (each) => each }),
      "The groups whose members are let through. Case matters; there are no patterns. Required are this or `authorizedClients`, or both; or else `anyGroup`.",
    ),
    authorizedClients: optional(
      list(client, "client", { unique: (each) => each }),
      'Single clients that are let through beside those groups, such as `"alice@dba"`.',
    ),
    anyGroup: builtIn(
      flag,
      false,
      "Whether every client with a valid identity is let through, whatever its group is. It stands in place of both lists.",
    ),
    serverNames: optional(
      list(serverName, "server name"),
      'Server names (SNI) that are routed here: `"db.example.com"`, or `"*.example.com"` for everything below it. No two upstreams have the same.',
      "all connections that are routed to no other upstream",
    ),
    healthCheck: optional(
      HEALTH_CHECK,
      "Checks targets by connecting to them, over TLS if the upstream uses it.",
      "no checks; failed dials still count",
    ),
    slowStart: builtIn(
      durationOrZero,
      0,
      "The time in which a target that is back reaches its full share of connections; 0 for at once.",
    ),
    maxConnections: optional(
      count(MILLION),
      "Connections that it may have at a time, of all clients and to all targets together.",
      "no limit",
    ),
    tls: optional(UPSTREAM_TLS, "Speaks TLS to the targets and verifies them.", "plain TCP"),
    proxyProtocol: optional(
      choice(PROXY_PROTOCOLS),
      "Tells the targets who the client is, before the first byte and before TLS. `v1` has the addresses only; `v2` also has the client, as its Common Name.",
    ),
  },
  "UpstreamConfig",
  (read, { tls, targets, authorizedGroups, authorizedClients, anyGroup }, key) => {
    const lists = Object.entries({ authorizedGroups, authorizedClients }).filter(([, given]) => given);
    if (anyGroup) {
      for (const [name] of lists)
        read.fault(`${key}.${name}`, "has no effect beside anyGroup = true; give only one of them");
    } else if (lists.length === 0) {
      read.fault(
        `${key}.authorizedGroups`,
        "is missing, and so is authorizedClients; at least one group or client is needed, or anyGroup = true for everybody with a valid identity",
      );
    }
    if (tls !== undefined && tls.serverName === undefined && targets.some(({ address }) => "unix" in address))
      read.fault(`${key}.tls.serverName`, "is missing; a unix: target has no host name for its certificate");
  },
);

const METRICS = table(
  {
    address: required(
      listenAddress,
      "Where Prometheus scrapes: plain HTTP, to be kept on loopback or a trusted network.",
    ),
    topClients: builtIn(
      countOrZero(1_000),
      0,
      "The clients with the most open connections, so many of them, get a series each. A client's name is a label then.",
    ),
  },
  "MetricsConfig",
);

const CLIENTS = 'write it like ["alice@admin", "*@admin"]';

const ADMIN = table(
  {
    socket: optional(
      path("a Unix socket"),
      "Where the commands `status`, `ps`, `kick` and others reach the running proxy. Its mode is 0600: a user who can open it is an operator.",
      "no socket",
    ),
    address: optional(
      listenAddress,
      "HTTPS beside it, TLS 1.3 with client certificates; the next three keys go with it.",
      "no HTTPS",
    ),
    ca: optional(pemPath, "The CA certificates that its clients must chain to."),
    certificate: optional(pemPath, "Its certificate, then its chain."),
    privateKey: optional(pemPath, "That certificate's private key, not encrypted."),
    readers: builtIn(
      list(clientPattern, "client", { hint: CLIENTS, unique: (each) => each }),
      [],
      "Who may look, over HTTPS.",
    ),
    operators: builtIn(
      list(clientPattern, "client", { hint: CLIENTS, unique: (each) => each }),
      [],
      "Who may also change things, over HTTPS.",
    ),
    stateDirectory: optional(
      path("a folder"),
      "Where blocks and changes of targets are kept over a restart.",
      "they end with the process",
    ),
  },
  "AdminConfig",
  (read, { socket, address, ca, certificate, privateKey }, key) => {
    const files = Object.entries({ ca, certificate, privateKey });
    if (socket === undefined && address === undefined) read.fault(key, "needs socket or address, or both");
    for (const [name, value] of files) {
      if (address !== undefined && value === undefined)
        read.fault(`${key}.${name}`, "is missing; address needs ca, certificate and privateKey");
      else if (address === undefined && value !== undefined)
        read.fault(`${key}.${name}`, "is for HTTPS, which needs address");
    }
  },
);

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
