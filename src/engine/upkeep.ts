// Runs beside the connections while the proxy accepts them: health checks, and warnings about expiry and unresolved
// names.

import type { Config } from "../config/config.ts";
import { ExpiryWatch, type Expiry } from "../config/expiry.ts";
import type { Logger } from "../lib/log.ts";
import { HealthChecks, type CheckOptions } from "../upstreams/health-check.ts";
import { unresolved } from "../upstreams/name-resolution.ts";
import type { Pool } from "../upstreams/pool.ts";

/** How often certificates and revocation lists are checked for expiry. */
const EXPIRY_INTERVAL_MS = 3_600_000;

export class Upkeep {
  readonly #log: Logger;
  readonly #checks: HealthChecks;
  readonly #expiryWatch = new ExpiryWatch();
  #timer: Timer | undefined;

  constructor(options: CheckOptions) {
    this.#log = options.log;
    this.#checks = new HealthChecks(options);
  }

  /** Starts, or continues with another configuration. */
  follow(config: Config, expiries: readonly Expiry[], pools: ReadonlyMap<string, Pool>): void {
    this.#checks.update(pools);
    this.#expiryWatch.follow(expiries, Date.now());
    this.#timer ??= setInterval(() => this.#warn(this.#expiryWatch.due(Date.now())), EXPIRY_INTERVAL_MS);
    void unresolved(config).then((names) => this.#warn(names));
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#checks.stop();
  }

  #warn(warnings: readonly string[]): void {
    for (const warning of warnings) this.#log.warn(warning, {});
  }
}
