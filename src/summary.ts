// What `proxy check` prints: the configuration as it was understood. Pure.

import { formatAddress } from "./address.ts";
import type { Config } from "./config.ts";
import { formatDuration } from "./duration.ts";

/** A few lines for people; `warnings` come last, one a line. */
export function summary(config: Config, warnings: readonly string[]): string {
  const { listener, upstreams, rateLimit } = config;
  const rows: [string, string][] = [
    ["listener", formatAddress(listener.address)],
    ["ca", listener.ca],
    ["certificate", listener.certificate],
    ["revocations", listener.crl ?? "none"],
    ...upstreams.flatMap(({ name, targets, authorizedGroups }): [string, string][] => [
      [`upstream ${name}`, targets.map(formatAddress).join(", ")],
      ["  for groups", authorizedGroups.join(", ")],
    ]),
    ["rate limit", `${rateLimit.capacity} connections, one more every ${formatDuration(rateLimit.fillRate)}`],
    ["open at once", `${rateLimit.maxConnections ?? "no limit"} per client, ${total(config)} in all`],
    ["timeouts", timeouts(config)],
  ];
  return [
    "configuration is valid",
    ...rows.map(([name, value]) => `${name.padEnd(16)} ${value}`),
    ...warnings.map((warning) => `warning: ${warning}`),
  ].join("\n");
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
