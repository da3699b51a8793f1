// Active health checks: connects to each target at intervals, over TLS if the upstream uses it, and reports the result.
// Connections in every thread use that result.

import { formatAddress } from "../lib/address.ts";
import type { Pool } from "./pool.ts";
import type { HealthCheck, Target } from "../config/config.ts";
import { createDial, type Attempt, type Descriptors, type Dialer } from "./dial.ts";
import { codeOf } from "../lib/errors.ts";
import { logHealth } from "./health-log.ts";
import type { Logger } from "../lib/log.ts";
import { ownHeader } from "./proxy-protocol.ts";

const dial = createDial<Check>({ data() {}, end: (socket) => void socket.end(), error() {} });

/** What the checks of all targets need. */
export interface CheckOptions {
  readonly log: Logger;
  readonly descriptors: Descriptors;
  /** Whole milliseconds of a monotonic clock. */
  now(): number;
}

/** Checks of one target that the kernel has not given up yet: with this many, no new check starts until it has. */
const MAX_LINGERING = 8;

/** The checks of one target, one after the other. */
class Check implements Dialer {
  #rule: HealthCheck;
  readonly #target: Target;
  readonly #pool: Pool;
  readonly #slot: number;
  readonly #options: CheckOptions;
  #timer: Timer;
  #attempt: Attempt<Check> | undefined;
  /** Each holds a descriptor. */
  #lingering: Attempt<Check>[] = [];
  #up = true;
  /** Consecutive checks that contradict the current state. */
  #against = 0;

  constructor(pool: Pool, slot: number, target: Target, rule: HealthCheck, options: CheckOptions) {
    this.#rule = rule;
    this.#target = target;
    this.#pool = pool;
    this.#slot = slot;
    this.#options = options;
    this.#timer = this.#soon();
  }

  /** Whether it checks this target; another target may have taken over the slot. */
  isOf(pool: Pool, { address }: Target): boolean {
    return pool === this.#pool && formatAddress(address) === formatAddress(this.#target.address);
  }

  /** Uses another rule from now on, which may have another interval. */
  follow(rule: HealthCheck): void {
    const { interval } = this.#rule;
    this.#rule = rule;
    if (rule.interval === interval || this.#attempt !== undefined) return;
    clearTimeout(this.#timer);
    this.#timer = this.#soon();
  }

  /** Stops checking. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#attempt?.abandon();
  }

  /** Discards its result. */
  forget(): void {
    this.#pool.balancer.mark(this.#slot, true, this.#options.now());
    logHealth(this.#options.log, this.#pool);
  }

  dialed(socket: Bun.Socket<this>): void {
    socket.close();
    this.#ended(true, undefined);
  }

  dialFailed(error: Error): void {
    this.#ended(false, codeOf(error) ?? error.message);
  }

  #begin(): void {
    this.#lingering = this.#lingering.filter(({ lingers }) => lingers);
    if (this.#lingering.length >= MAX_LINGERING) return this.#ended(false, "ETIMEDOUT");
    const { upstream, tls } = this.#pool;
    const header = upstream.proxyProtocol && ownHeader(upstream.proxyProtocol);
    const attempt = dial({
      target: this.#target.address,
      tls,
      header,
      dialer: this,
      descriptors: this.#options.descriptors,
    });
    this.#attempt = attempt;
    this.#timer = setTimeout(() => {
      attempt.abandon();
      this.#lingering.push(attempt);
      this.#ended(false, "ETIMEDOUT");
    }, this.#rule.timeout);
  }

  #ended(good: boolean, error: string | undefined): void {
    this.#attempt = undefined;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#begin(), this.#rule.interval);
    this.#against = good === this.#up ? 0 : this.#against + 1;
    if (this.#against < (this.#up ? this.#rule.fall : this.#rule.rise)) return;
    this.#up = good;
    this.#against = 0;
    const { log, now } = this.#options;
    if (!this.#pool.balancer.mark(this.#slot, good, now())) return;
    const about = { upstream: this.#pool.upstream.name, target: formatAddress(this.#target.address), error };
    if (good) log.info("target is up", about);
    else log.warn("target is down", about);
    logHealth(log, this.#pool);
  }

  /** Spreads the checks: not all targets at the same time. */
  #soon(): Timer {
    return setTimeout(() => this.#begin(), this.#rule.interval * Math.random());
  }
}

/** The checks of all targets of all upstreams that have health checks. */
export class HealthChecks {
  readonly #options: CheckOptions;
  #checks = new Map<number, Check>();

  constructor(options: CheckOptions) {
    this.#options = options;
  }

  /** Starts checks for new targets, and stops those of targets that are gone or have checks no longer. */
  update(pools: ReadonlyMap<string, Pool>): void {
    const before = this.#checks;
    this.#checks = new Map();
    for (const pool of pools.values()) {
      const rule = pool.upstream.healthCheck;
      if (rule === undefined) continue;
      for (const [slot, target] of pool.targets) {
        const known = before.get(slot);
        const check = known?.isOf(pool, target) ? known : new Check(pool, slot, target, rule, this.#options);
        check.follow(rule);
        this.#checks.set(slot, check);
      }
    }
    for (const [slot, check] of before) {
      if (this.#checks.get(slot) === check) continue;
      check.stop();
      if (!this.#checks.has(slot)) check.forget();
    }
  }

  /** Stops all checks for good. Takes no lock: a dead thread may hold it when the proxy fails. */
  stop(): void {
    for (const check of this.#checks.values()) check.stop();
    this.#checks.clear();
  }
}
