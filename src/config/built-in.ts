// The built-in configuration: what `./out/proxy` uses without arguments. Pure.

import { FLEET } from "./fleet-schema.ts";
import type { Key, Table, Keys } from "./kinds.ts";
import type { ListenerConfig, ProxyConfig, UpstreamConfig } from "./proxy-config.ts";
import { SCHEMA } from "./schema.ts";
import { HEALTH_CHECK } from "./upstream-schema.ts";

type Given<T, K extends keyof T> = Required<Pick<T, K>>;

/** The keys that have a built-in value. */
type BuiltIn = Given<
  ProxyConfig,
  | "timeout"
  | "handshakeTimeout"
  | "connectTimeout"
  | "shutdownTimeout"
  | "disconnectExpired"
  | "expiryGrace"
  | "revocationGrace"
  | "workers"
  | "watch"
  | "logLevel"
> & {
  handshakes: Given<
    NonNullable<ProxyConfig["handshakes"]>,
    "perSource" | "failures" | "failuresRefill" | "exempt"
  >;
  listener: Given<
    ListenerConfig,
    "address" | "ca" | "certificate" | "privateKey" | "sessionTickets" | "reusePort"
  >;
  upstreams: (UpstreamConfig & { targets: string[]; authorizedGroups: string[] })[];
  rateLimit: Given<NonNullable<ProxyConfig["rateLimit"]>, "capacity" | "fillRate">;
};

/** The built-in values of a table, including those of the demonstration. */
function valuesOf({ keys }: Table<Keys>): Record<string, unknown> {
  const given = Object.entries(keys).map(([name, key]) => [name, valueOf(key)] as const);
  return Object.fromEntries(given.filter(([, value]) => value !== undefined));
}

function valueOf({ kind, builtIn, demonstration }: Key<unknown>): unknown {
  const value = builtIn ?? demonstration;
  return value !== undefined && kind.table !== undefined && kind.list === undefined
    ? valuesOf(kind.table)
    : value;
}

export const BUILT_IN = valuesOf(SCHEMA) as BuiltIn;

/** The health check of an empty table. */
export const HEALTH_CHECK_BUILT_IN = valuesOf(HEALTH_CHECK) as Required<
  NonNullable<UpstreamConfig["healthCheck"]>
>;

/** What a fleet is where its table says nothing more. */
export const FLEET_BUILT_IN = valuesOf(FLEET.table!);
