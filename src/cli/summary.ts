// What `proxy check` prints: the configuration as the proxy understood it. Pure.

import { kindName } from "../auth/identity-rule.ts";
import { seriesOf } from "../admin/metrics-reading.ts";
import { formatAddress } from "../lib/address.ts";
import type { Config, Target, Upstream } from "../config/config.ts";
import { formatDuration } from "../lib/duration.ts";
import { escapeInvisible } from "../lib/errors.ts";
import type { Expiry } from "../config/expiry.ts";
import { ruleOf, type ClientLimit, type ClientRules } from "../state/client-rules.ts";
import { NO_BREAK_SPACE, columns, widthFor } from "./columns.ts";
import type { Difference } from "./differences.ts";

/** What is not in the configuration itself. */
export interface Findings {
  /** One per line, at the end. */
  readonly warnings?: readonly string[];
  /** For each listener, when its certificates and revocation lists expire. */
  readonly expiries?: readonly (readonly Expiry[])[];
  /** Settings that differ from the built-in ones. */
  readonly differences?: readonly Difference[];
}

/** A row's name is fixed text, so that the columns hold for any name and any path. */
type Row = [string, string];
const NAME_WIDTH = 17;

export function summary(
  config: Config,
  { warnings = [], expiries = [], differences = [] }: Findings = {},
): string {
  const { listeners, upstreams, rateLimit, workers } = config;
  const rows: Row[] = [
    ...listeners.flatMap(
      ({ address, ca, certificate, certificates, alpn, crl, upstream, identity }, i): Row[] => [
        ["listener", formatAddress(address) + (upstream === undefined ? "" : `, to ${upstream}`)],
        ["  ca", ca],
        ["  certificate", certificate],
        ...(certificates ?? []).map(({ certificate: file, serverNames }): Row => [
          "  certificate",
          `${file}, for ${serverNames?.join(", ") ?? "the names in it"}`,
        ]),
        ...(alpn === undefined ? [] : [["  protocols", alpn.join(", ")] as Row]),
        ...(identity?.pattern === undefined
          ? []
          : [["  identity", `${kindName({ settings: identity })} ${identity.pattern}`] as Row]),
        ["  revocations", crl ?? "none"],
        ...(expiries[i] ?? []).map(({ what, until }): Row => ["  expires", `${dateOf(until)}, ${what}`]),
      ],
    ),
    ...upstreams.flatMap((upstream): Row[] => [
      ["upstream", upstream.name],
      ["  targets", upstream.targets.map(targetText).join(", ")],
      ...access(upstream),
      ["  reached by", reachedBy(upstream, config)],
      ...wire(upstream),
    ]),
    ["rate limit", buckets(config)],
    ...config.limits.map((limit): Row => ["  limit of", limitText(limit, config)]),
    ["open at once", `${rateLimit.maxConnections ?? "no limit"} per client, ${total(config)} in all`],
    ["timeouts", timeouts(config)],
    ["workers", String(workers)],
    ...monitoring(config),
  ];
  return [
    "configuration is valid",
    ...columns(
      // Only lists are wrapped: a path with spaces stays whole.
      rows.map(([name, value]): Row => [name, value.includes(", ") ? escapeInvisible(value) : whole(value)]),
      NAME_WIDTH,
      0,
    ),
    ...settings(differences),
    ...warnings.map((warning) => `warning: ${warning}`),
  ].join("\n");
}

function whole(text: string): string {
  return escapeInvisible(text).replaceAll(" ", NO_BREAK_SPACE);
}

function settings(differences: readonly Difference[]): string[] {
  if (differences.length === 0) return ["all other settings are the built-in ones"];
  const rows = differences.map(({ key, value, builtIn = "none" }): Row => [
    key,
    `${value} (built-in: ${builtIn})`,
  ]);
  return [
    "settings that differ from the built-in ones",
    ...columns(rows, widthFor(differences.map(({ key }) => key))),
  ];
}

function access({ authorizedGroups, authorizedClients, anyGroup }: Upstream): Row[] {
  if (anyGroup) return [["  for everybody", "with a valid identity, whatever the group is (anyGroup)"]];
  return [
    ...(authorizedGroups.length === 0 ? [] : [["  for groups", authorizedGroups.join(", ")] as Row]),
    ...(authorizedClients.length === 0 ? [] : [["  for clients", authorizedClients.join(", ")] as Row]),
  ];
}

/** Precise to the minute. */
function dateOf(time: number): string {
  return time === Infinity ? "never" : new Date(time).toISOString().replace(/:\d\d\.\d+Z$/, "Z");
}

function targetText({ address, weight, backup, maxConnections }: Target): string {
  return (
    formatAddress(address) +
    (weight === 1 ? "" : ` (weight ${weight})`) +
    (backup ? " (backup)" : "") +
    (maxConnections === undefined ? "" : ` (at most ${maxConnections} open)`)
  );
}

function reachedBy({ name, serverNames = [] }: Upstream, { listeners, fallback }: Config): string {
  const pinned = listeners.filter(({ upstream }) => upstream === name);
  const ways = [
    ...serverNames,
    ...(fallback === name ? ["any other server name, or none"] : []),
    ...pinned.map(({ address }) => `listener ${formatAddress(address)}`),
  ];
  return ways.join(", ") || "no client: it has no server names, and no listener is pinned to it";
}

function wire({ healthCheck, tls, proxyProtocol }: Upstream): Row[] {
  const ways = [
    ...(tls === undefined ? [] : [`TLS, verified by ${tls.ca}`]),
    ...(proxyProtocol === undefined ? [] : [`PROXY protocol ${proxyProtocol}`]),
    ...(healthCheck === undefined ? [] : [`checked every ${formatDuration(healthCheck.interval)}`]),
  ];
  return ways.length === 0 ? [] : [["  by", ways.join(", ")]];
}

function monitoring(config: Config): Row[] {
  const { metrics } = config;
  if (metrics === undefined) return [];
  return [["metrics", `${formatAddress(metrics.address)}, ${seriesOf(config)} series at most`]];
}

/** All limits of a rule, also those that come from a wider one. */
function limitText({ match }: ClientLimit, config: Config): string {
  const rule = ruleOf(config, match);
  const bucket = rule.capacity === Infinity ? "no bucket" : buckets({ rateLimit: rule });
  return `${match}: ${bucket}, ${rule.maxConnections ?? "no limit"} open at once`;
}

function buckets({ rateLimit: { capacity, fillRate } }: Pick<ClientRules, "rateLimit">): string {
  if (capacity === Infinity) return "none";
  return `${capacity} connections, one more every ${formatDuration(fillRate)}`;
}

function total({ maxConnections }: Config): string {
  return maxConnections === undefined ? "as many as descriptors allow" : String(maxConnections);
}

function timeouts({ timeout, handshakeTimeout, connectTimeout, shutdownTimeout }: Config): string {
  const times = {
    idle: timeout,
    handshake: handshakeTimeout,
    connect: connectTimeout,
    shutdown: shutdownTimeout,
  };
  return Object.entries(times)
    .map(([name, ms]) => `${name} ${formatDuration(ms)}`)
    .join(", ");
}
