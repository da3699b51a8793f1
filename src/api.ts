// What the library offers: the types of a proxy, without its implementation.

import type { Config, ProxyConfig } from "./config/config.ts";
import type { Expiry } from "./config/expiry.ts";
import type { FleetStatus } from "./fleet/fleet.ts";
import type { LoadOptions } from "./config/load.ts";
import type { TestResult } from "./engine/policy-tests.ts";
import type { Address } from "./lib/address.ts";
import type { Logger } from "./lib/log.ts";
import type { Forecast } from "./engine/reload-plan.ts";
import type { UpstreamStats } from "./upstreams/pool.ts";

/** What a proxy does, from the moment when all its threads accept connections. */
export type Phase = "running" | "reloading" | "draining";

/** Options besides the configuration. */
export interface ProxyOptions extends LoadOptions {
  /** Where the log goes. Default: lines on standard error. */
  logger?: Logger;
  /** Milliseconds between two log lines of refusals for the same reason and of the same source or client. Default: 5,000. */
  refusalInterval?: number;
  /** Where `reload()` without an argument gets its configuration. Default: the last one, whose files are read again. */
  source?: () => ProxyConfig | Promise<ProxyConfig>;
  /**
   * Is called at each change: `running` once all threads accept connections and after each reload, refused or not;
   * `reloading` before one; `draining` at the first `close()`, after which no other follows. It must not throw.
   */
  onPhase?: (phase: Phase) => void;
}

/** How {@link Proxy.close} ends. */
export interface CloseOptions {
  /** How long to wait for open connections, in milliseconds, 0 for not at all. Default: `shutdownTimeout`. */
  timeout?: number;
}

/** The state at one moment. */
export interface ProxyStats {
  /** Connections that hold any resource, handshaking ones included. */
  readonly connections: number;
  /** Clients that have a connection open or a bucket that is not full. */
  readonly clients: number;
  /** Per upstream, the state of each target. */
  readonly upstreams: readonly UpstreamStats[];
  /** The fleet as this proxy sees it; undefined where it counts alone. */
  readonly fleet?: FleetStatus | undefined;
}

/** A proxy. Use it once: listen, then close. */
export interface Proxy {
  /** The configuration it runs on. */
  readonly config: Config;
  /** What is allowed in it but will not work as expected, one line each, such as an expired certificate. */
  readonly warnings: readonly string[];
  /** For each listener, when its certificates and revocation lists expire. */
  readonly expiries: readonly (readonly Expiry[])[];
  /** How the tests of the configuration went: all have passed. */
  readonly tests: readonly TestResult[];
  /** The addresses where it listens, in the order of the listeners; empty before {@link listen}. */
  readonly addresses: readonly Address[];
  /**
   * Opens the ports. Called again, returns the same; after a failure, tries again.
   * @returns the first address as bound, with the port that the system picked if it was 0, once connections are
   *   accepted
   * @throws StartError if an address is not available; Error after {@link close}
   */
  listen(): Promise<Address>;
  /**
   * Replaces the configuration in force, completely or not at all, and reads all files again. No connection is lost,
   * refused or delayed, except those that are no longer authorized. Changes that need a restart (addresses, `workers`)
   * are logged and not applied. Calls run one after the other. After {@link close}, a reload still applies to the
   * connections that are open.
   * @param config default: what {@link ProxyOptions.source} returns
   * @throws ConfigError that lists every fault; each has been logged, and nothing has changed
   */
  reload(config?: ProxyConfig): Promise<void>;
  /**
   * What {@link reload} would do now: which connections would end and why, what comes and what goes. It changes nothing
   * and disturbs no connection.
   * @param config default: what {@link ProxyOptions.source} returns
   * @throws ConfigError that lists every fault for which the reload would be refused
   */
  forecast(config?: ProxyConfig): Promise<Forecast>;
  /**
   * Stops accepting at once, lets open connections finish until the time is up, then cuts the rest. Another call can
   * only shorten the time. Before {@link listen} it does nothing.
   * @returns when no connection is left: the number of connections that were cut
   */
  close(options?: CloseOptions): Promise<{ cut: number }>;
  /** Resolves as {@link close} does; rejects if the proxy ends by itself because its workers keep dying. */
  readonly ended: Promise<{ cut: number }>;
  stats(): ProxyStats;
  /** Resolves once every thread that carries connections has answered, which one that hangs does not. */
  responds(): Promise<void>;
}
