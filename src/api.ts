// What the library offers: the types of a proxy, without its workings.

import type { Config, ProxyConfig } from "./config/config.ts";
import type { Expiry } from "./config/expiry.ts";
import type { FleetStatus } from "./fleet/fleet.ts";
import type { LoadOptions } from "./config/load.ts";
import type { Address } from "./lib/address.ts";
import type { Logger } from "./lib/log.ts";
import type { UpstreamStats } from "./upstreams/pool.ts";

/** Options beside the configuration. */
export interface ProxyOptions extends LoadOptions {
  /** Where the log goes. Default: lines on standard error. */
  logger?: Logger;
  /** Where a reload that is not told one gets its configuration. Default: the last one, whose files are read again. */
  source?: () => ProxyConfig | Promise<ProxyConfig>;
}

/** How {@link Proxy.close} ends. */
export interface CloseOptions {
  /** Milliseconds that open connections are waited for, 0 for not at all. Default: `shutdownTimeout`. */
  timeout?: number;
}

/** The state at one moment. */
export interface ProxyStats {
  /** Connections that hold anything, handshaking ones included. */
  readonly connections: number;
  /** Clients that have a connection open or a bucket that is not full. */
  readonly clients: number;
  /** Per upstream, what each target has. */
  readonly upstreams: readonly UpstreamStats[];
  /** The fleet as this proxy sees it; undefined where it counts alone. */
  readonly fleet?: FleetStatus | undefined;
}

/** A proxy. It is used once: listen, then close. */
export interface Proxy {
  /** The configuration it runs on. */
  readonly config: Config;
  /** What is allowed in it but will not work as hoped, one line each: an expired certificate, for one. */
  readonly warnings: readonly string[];
  /** For each listener, when its certificates and revocation lists run out. */
  readonly expiries: readonly (readonly Expiry[])[];
  /** Where it listens, in the order of the listeners; empty before {@link listen}. */
  readonly addresses: readonly Address[];
  /**
   * Opens the ports. Called again, answers the same; after a failure, tries again.
   * @returns the first address as bound, with the port that the system picked if it was 0, once connections are accepted
   * @throws StartError where an address cannot be had; Error after {@link close}
   */
  listen(): Promise<Address>;
  /**
   * Puts another configuration in the place of the one in force, all of it or nothing, and reads all files anew. No
   * connection is lost, refused or delayed, except those that are no longer authorized. What needs a restart (addresses,
   * `workers`) is logged and stays as it is. Calls are carried out one after the other. After {@link close}, as long as
   * connections are open, they are still judged by what a reload brings.
   * @param config default: what {@link ProxyOptions.source} answers
   * @throws ConfigError that lists every fault; each has been logged, and nothing has changed
   */
  reload(config?: ProxyConfig): Promise<void>;
  /**
   * Stops accepting at once, lets open connections finish until the time is up, then cuts the rest. Called again, it
   * can only shorten the time. Before {@link listen} there is nothing to do.
   * @returns when no connection is left: how many had to be cut
   */
  close(options?: CloseOptions): Promise<{ cut: number }>;
  /** Resolves as {@link close} does; rejects where the proxy has come to an end by itself: its workers keep dying. */
  readonly ended: Promise<{ cut: number }>;
  stats(): ProxyStats;
}
