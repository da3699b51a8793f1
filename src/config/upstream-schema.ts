// The keys of an upstream, declared as those in schema.ts are: its targets, who may reach them and how they are checked.

import { formatAddress } from "../lib/address.ts";
import { client, group, hostName, serverName, targetAddress } from "./forms.ts";
import { builtIn, list, optional, required, shorthand, table } from "./kinds.ts";
import { MILLION, choice, count, duration, durationOrZero, flag, pemPath, text } from "./values.ts";

/** Versions of the PROXY protocol. */
export const PROXY_PROTOCOLS = ["v1", "v2"] as const;
export type ProxyProtocolVersion = (typeof PROXY_PROTOCOLS)[number];

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

export const UPSTREAM = table(
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

/** The upstream of a proxy without a configuration: the echo servers. */
export const DEMONSTRATION_UPSTREAM = {
  name: "echo",
  targets: ["127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"],
  authorizedGroups: ["admin"],
};
