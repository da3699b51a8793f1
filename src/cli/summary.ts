// What `proxy check` prints: the configuration as it was understood. Pure.

import { formatAddress } from "../lib/address.ts";
import type { Config, Target, Upstream } from "../config/config.ts";
import { formatDuration } from "../lib/duration.ts";
import type { Expiry } from "../config/expiry.ts";

/**
 * A few lines for people; `warnings` come last, one a line.
 * @param expiries for each listener, what of its files runs out
 */
export function summary(
  config: Config,
  warnings: readonly string[],
  expiries: readonly (readonly Expiry[])[] = [],
): string {
  const { listeners, upstreams, rateLimit, workers } = config;
  const rows: [string, string][] = [
    ...listeners.flatMap(({ address, ca, certificate, crl, upstream }, i): [string, string][] => [
      ["listener", formatAddress(address) + (upstream === undefined ? "" : `, to ${upstream}`)],
      ["  ca", ca],
      ["  certificate", certificate],
      ["  revocations", crl ?? "none"],
      ...(expiries[i] ?? []).map(({ what, until }): [string, string] => [
        "  runs out",
        `${dateOf(until)}, ${what}`,
      ]),
    ]),
    ...upstreams.flatMap((upstream): [string, string][] => [
      [`upstream ${upstream.name}`, upstream.targets.map(targetText).join(", ")],
      ["  for groups", upstream.authorizedGroups.join(", ")],
      ["  reached by", reachedBy(upstream, config)],
      ...wire(upstream),
    ]),
    ["rate limit", buckets(config)],
    ["open at once", `${rateLimit.maxConnections ?? "no limit"} per client, ${total(config)} in all`],
    ["timeouts", timeouts(config)],
    ["workers", String(workers)],
  ];
  return [
    "configuration is valid",
    ...rows.map(([name, value]) => `${name.padEnd(16)} ${value}`),
    ...warnings.map((warning) => `warning: ${warning}`),
  ].join("\n");
}

/** To the minute. */
function dateOf(time: number): string {
  return time === Infinity ? "never" : new Date(time).toISOString().replace(/:\d\d\.\d+Z$/, "Z");
}

function targetText({ address, weight, backup }: Target): string {
  return formatAddress(address) + (weight === 1 ? "" : ` (weight ${weight})`) + (backup ? " (backup)" : "");
}

function reachedBy({ name, serverNames = [] }: Upstream, { listeners, fallback }: Config): string {
  const pinned = listeners.filter(({ upstream }) => upstream === name);
  const ways = [
    ...serverNames,
    ...(fallback === name ? ["any server name that leads nowhere else, or none"] : []),
    ...pinned.map(({ address }) => `listener ${formatAddress(address)}`),
  ];
  return ways.join(", ") || "nobody: it has no server names, and no listener is pinned to it";
}

function wire({ healthCheck, tls, proxyProtocol }: Upstream): [string, string][] {
  const ways = [
    ...(tls === undefined ? [] : [`TLS, verified by ${tls.ca}`]),
    ...(proxyProtocol === undefined ? [] : [`PROXY protocol ${proxyProtocol}`]),
    ...(healthCheck === undefined ? [] : [`checked every ${formatDuration(healthCheck.interval)}`]),
  ];
  return ways.length === 0 ? [] : [["  by", ways.join(", ")]];
}

function buckets({ rateLimit: { capacity, fillRate } }: Config): string {
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
