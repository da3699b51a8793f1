// Active health checks: connects to each target now and then, over TLS where the upstream has it, and says what came of
// it. Connections go by that, in whatever thread they are.

import { formatAddress } from "./address.ts";
import type { Pool } from "./admission.ts";
import type { HealthCheck, Target } from "./config.ts";
import { createDial, type Attempt, type Descriptors, type Dialer } from "./dial.ts";
import { codeOf } from "./errors.ts";
import type { Logger } from "./log.ts";
import { ownHeader } from "./proxy-protocol.ts";

const dial = createDial<Check>({ data() {}, end: (socket) => void socket.end(), error() {} });

/** What the checks of all targets need. */
export interface CheckOptions {
  readonly log: Logger;
  readonly descriptors: Descriptors;
  /** Whole milliseconds of a clock that only goes forward. */
  now(): number;
}

/** The checks of one target, one after the other. */
class Check implements Dialer {
  #rule: HealthCheck;
  #target: Target;
  readonly #pool: Pool;
  readonly #slot: number;
  readonly #options: CheckOptions;
  #timer: Timer;
  #attempt: Attempt<Check> | undefined;
  #up = true;
  /** Checks in a row that say otherwise. */
  #against = 0;

  constructor(pool: Pool, slot: number, target: Target, rule: HealthCheck, options: CheckOptions) {
    this.#rule = rule;
    this.#target = target;
    this.#pool = pool;
    this.#slot = slot;
    this.#options = options;
    // Not all targets at the same time.
    this.#timer = this.#in(rule.interval * Math.random(), () => this.#begin());
  }

  /** From now on by other rules: who was to wait for an hour does not do so to the end. */
  update(rule: HealthCheck, target: Target): void {
    const sooner = rule.interval < this.#rule.interval;
    this.#rule = rule;
    this.#target = target;
    if (!sooner || this.#attempt !== undefined) return;
    clearTimeout(this.#timer);
    this.#timer = this.#in(rule.interval, () => this.#begin());
  }

  /** No more checks. What they have found counts no longer. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#attempt?.abandon();
    this.#pool.balancer.mark(this.#slot, true, this.#options.now());
  }

  dialed(socket: Bun.Socket<this>): void {
    const version = this.#pool.upstream.proxyProtocol;
    if (version !== undefined) socket.write(ownHeader(version));
    socket.close();
    this.#ended(true, undefined);
  }

  dialFailed(error: Error): void {
    this.#ended(false, codeOf(error) ?? error.message);
  }

  #begin(): void {
    this.#attempt = dial(this.#target.address, this.#pool.tls, this, this.#options.descriptors);
    this.#timer = this.#in(this.#rule.timeout, () => {
      this.#attempt?.abandon();
      this.#ended(false, "ETIMEDOUT");
    });
  }

  #ended(good: boolean, error: string | undefined): void {
    this.#attempt = undefined;
    clearTimeout(this.#timer);
    this.#timer = this.#in(this.#rule.interval, () => this.#begin());
    this.#against = good === this.#up ? 0 : this.#against + 1;
    if (this.#against < (this.#up ? this.#rule.fall : this.#rule.rise)) return;
    this.#up = good;
    this.#against = 0;
    const { log, now } = this.#options;
    if (!this.#pool.balancer.mark(this.#slot, good, now())) return;
    const about = { upstream: this.#pool.upstream.name, target: formatAddress(this.#target.address), error };
    if (good) log.info("target is up", about);
    else log.warn("target is down", about);
  }

  #in(ms: number, then: () => void): Timer {
    return setTimeout(then, ms);
  }
}

/** The checks of all targets of all upstreams that want them. */
export class HealthChecks {
  readonly #options: CheckOptions;
  #checks = new Map<number, Check>();

  constructor(options: CheckOptions) {
    this.#options = options;
  }

  /** Begins checks for targets that have none, and ends those of targets that are gone or want none any more. */
  update(pools: ReadonlyMap<string, Pool>): void {
    const before = this.#checks;
    this.#checks = new Map();
    for (const pool of pools.values()) {
      const rule = pool.upstream.healthCheck;
      if (rule === undefined) continue;
      for (const [slot, target] of pool.targets) {
        const check = before.get(slot);
        if (check === undefined) {
          this.#checks.set(slot, new Check(pool, slot, target, rule, this.#options));
        } else {
          check.update(rule, target);
          this.#checks.set(slot, check);
        }
      }
    }
    for (const [slot, check] of before) if (!this.#checks.has(slot)) check.stop();
  }

  stop(): void {
    this.update(new Map());
  }
}
