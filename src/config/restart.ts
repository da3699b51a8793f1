// What a reload cannot change, and so says needs a restart: the number of workers, and addresses. Pure.

import { formatAddress, type Address } from "../lib/address.ts";
import type { Fields } from "../lib/log.ts";
import type { AdminSettings, Config, Listener, MetricsSettings } from "./config.ts";

/** What runs, and does not change until a restart. */
export interface Running {
  readonly workers: number;
  readonly metrics?: Pick<MetricsSettings, "address"> | undefined;
  readonly admin?: Pick<AdminSettings, "address" | "socket"> | undefined;
  /** The listener that each open port was opened for; undefined if a reload has closed it. */
  readonly ports: readonly (Listener | undefined)[];
}

/**
 * Compares what runs with a new configuration. A change that needs a restart does not refuse the rest.
 * @param pairs for each port the place of its listener in the new configuration; undefined if it has none any more
 * @returns warnings for the log
 */
export function restartReport(
  { workers, metrics, admin, ports }: Running,
  next: Pick<Config, "workers" | "listeners"> & Partial<Pick<Config, "metrics" | "admin">>,
  pairs: readonly (number | undefined)[],
): [message: string, fields: Fields][] {
  const lines: [string, Fields][] = [];
  const stays = (key: string, running: string | number, configured: string | number) =>
    lines.push(["needs a restart", { key, running, configured }]);
  if (next.workers !== workers) stays("workers", workers, next.workers);
  const windows = [
    ["metrics.address", written(metrics?.address), written(next.metrics?.address)],
    ["admin.address", written(admin?.address), written(next.admin?.address)],
    ["admin.socket", admin?.socket ?? "none", next.admin?.socket ?? "none"],
  ] as const;
  for (const [key, running, configured] of windows) {
    if (running !== configured) stays(key, running, configured);
  }
  ports.forEach((port, i) => {
    const listener = next.listeners[pairs[i] ?? -1];
    if (port === undefined) return;
    const running = formatAddress(port.address);
    if (listener === undefined) lines.push(["listener removed", { address: running }]);
    else if (formatAddress(listener.address) !== running) {
      stays(`${listener.key}.address`, running, formatAddress(listener.address));
    } else if (listener.reusePort !== port.reusePort) {
      stays(`${listener.key}.reusePort`, String(port.reusePort), String(listener.reusePort));
    } else if (listener.acceptProxy !== undefined && port.acceptProxy === undefined) {
      stays(`${listener.key}.acceptProxy`, "none", listener.acceptProxy.from.join(", "));
    }
  });
  next.listeners.forEach(({ key, address }, i) => {
    if (!pairs.includes(i)) stays(`${key}.address`, "none", formatAddress(address));
  });
  return lines;
}

function written(address: Address | undefined): string {
  return address === undefined ? "none" : formatAddress(address);
}
