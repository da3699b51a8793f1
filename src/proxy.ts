// createProxy: puts the rooms together. Configuration in, open ports out, reloads while it runs, and a graceful end.

import { resolve } from "node:path";
import { version } from "../package.json";
import { formatAddress, type Address } from "./lib/address.ts";
import type { CloseOptions, Proxy, ProxyOptions, ProxyStats } from "./api.ts";
import { makePools, poolStats, type Pool } from "./upstreams/pool.ts";
import { changedKeys, listed } from "./config/changes.ts";
import { monotonic } from "./lib/clock.ts";
import type { Config, Listener, ProxyConfig } from "./config/config.ts";
import { copy, filesBeside, loadConfig, type LoadedConfig } from "./config/load.ts";
import { restartReport } from "./config/restart.ts";
import { WorkerPool } from "./engine/worker-pool.ts";
import { heldBy, processBudget, type DescriptorBudget } from "./lib/descriptors.ts";
import { Fleet, type FleetRun } from "./fleet/fleet.ts";
import { Engine } from "./engine/engine.ts";
import type { Runner } from "./engine/runner.ts";
import { ConfigError, StartError } from "./lib/errors.ts";
import type { Expiry } from "./config/expiry.ts";
import { logUpstream } from "./upstreams/health-log.ts";
import { mayShare } from "./listeners/listener.ts";
import { createLogger, guarded, type Logger } from "./lib/log.ts";
import { atOnce, inPortions } from "./lib/portions.ts";
import { Reminder } from "./config/reminder.ts";
import { Upkeep } from "./engine/upkeep.ts";
import {
  MAX_CLIENTS,
  MAX_TARGETS,
  buildSnapshot,
  pairPorts,
  targetKeys,
  type Snapshot,
} from "./engine/snapshot.ts";
import { Slots } from "./state/balancer.ts";
import { Ledger } from "./state/ledger.ts";
import { FileStamps, Watch } from "./config/watch.ts";

export type { CloseOptions, Proxy, ProxyOptions, ProxyStats };

/**
 * Makes a proxy; opens nothing but the files that the configuration names.
 * @throws ConfigError that lists every fault
 */
export function createProxy(config: ProxyConfig = {}, options: ProxyOptions = {}): Proxy {
  return new RunningProxy(config, options);
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

class RunningProxy implements Proxy {
  readonly ended: Promise<{ cut: number }>;
  readonly #options: ProxyOptions;
  readonly #log: Logger;
  readonly #ledger: Ledger;
  readonly #slots: Slots;
  readonly #budget: DescriptorBudget = processBudget();
  /** Descriptors held beside those of connections. */
  #held = 0;
  /** Does nothing where the configuration has none. */
  readonly #fleet: Fleet;
  readonly #runner: Runner;
  readonly #upkeep: Upkeep;
  /** What was there at the start and stays. */
  readonly #started: Config;
  /** What each open port was opened for; undefined where a reload has closed it. */
  #ports: readonly (Listener | undefined)[];
  #pools: Map<string, Pool>;
  /** What was written, and is read again when nothing else is said. */
  #input: ProxyConfig;
  #loaded: LoadedConfig;
  #addresses: readonly Address[] = [];
  #listening: Promise<Address> | undefined;
  #watch: Watch | undefined;
  readonly #reminder = new Reminder((what) => this.#log.error("reload refused", { ...what }));
  #reloading: Promise<void> = Promise.resolve();
  #closing = false;
  #over = false;
  #deadline: Timer | undefined;
  #deadlineAt = Infinity;

  constructor(input: ProxyConfig, options: ProxyOptions) {
    const loaded = atOnce(
      loadConfig(input, { ...options, seen: new FileStamps().add(filesBeside(options)) }),
    );
    const { config } = loaded;
    const { workers } = config;
    const budget = this.#budget;
    const prefix = crypto.randomUUID().slice(0, 8);
    this.#input = copy(input);
    this.#loaded = loaded;
    this.#started = config;
    this.#ports = config.listeners;
    this.#options = options;
    this.#log = guarded(
      options.logger ?? createLogger({ level: "debug" }),
      () => this.#loaded.config.logLevel,
    );
    this.#ledger = Ledger.make({ workers, targets: MAX_TARGETS, clients: MAX_CLIENTS });
    this.#slots = new Slots(this.#ledger);
    const settings = this.#buildSnapshot(loaded, [...config.listeners.keys()]);
    this.#fleet = new Fleet({ log: this.#log, descriptors: budget, now: monotonic });
    const shared = { ledger: this.#ledger, budget, log: this.#log, prefix, fleet: this.#fleet };
    this.#runner =
      workers === 1
        ? new Engine(settings, shared)
        : new WorkerPool(settings, { ...shared, module: new URL("./worker", import.meta.url) });
    this.#pools = makePools(settings, this.#ledger);
    this.#upkeep = new Upkeep({ log: this.#log, descriptors: budget, now: monotonic });
    this.ended = this.#runner.over.finally(() => {
      this.#over = true;
      this.#hold(0);
      this.#stopAttending();
      return this.#fleet.close();
    });
    // A caller that does not await `ended` gets no unhandled rejection.
    this.ended.catch(() => {});
  }

  get config(): Config {
    return this.#loaded.config;
  }

  get warnings(): readonly string[] {
    return this.#loaded.warnings;
  }

  get expiries(): readonly (readonly Expiry[])[] {
    return this.#loaded.expiries;
  }

  get addresses(): readonly Address[] {
    return this.#addresses;
  }

  async listen(): Promise<Address> {
    if (this.#closing) throw new Error("the proxy has been closed; make a new one");
    this.#listening ??= this.#open().catch((error: unknown) => {
      this.#listening = undefined;
      throw error;
    });
    return this.#listening;
  }

  async #open(): Promise<Address> {
    for (const { address, reusePort } of this.config.listeners) if (reusePort) await mayShare(address);
    if (this.#closing) throw new Error("the proxy has been closed; make a new one");
    const { holding, shortage } = this.#loaded;
    if (shortage !== undefined) throw new StartError(shortage);
    this.#hold(heldBy(holding));
    if (this.config.fleet !== undefined) await this.#followFleet();
    try {
      this.#addresses = await this.#runner.listen();
    } catch (error) {
      this.#hold(0);
      throw error;
    }
    const { configFile: file } = this.#options;
    for (const address of this.#addresses) {
      const fields = {
        address: formatAddress(address),
        version,
        config: file && resolve(file),
        pid: process.pid,
      };
      this.#log.info("listening", fields);
    }
    for (const warning of this.warnings) this.#log.warn(warning, {});
    if (!this.#closing) this.#attend();
    return this.#addresses[0] as Address;
  }

  /** @returns after the first attempt to reach the store; without a fleet there is nothing to wait for */
  #followFleet(): Promise<void> {
    const { config, credentials } = this.#loaded;
    const { fleet, rateLimit } = config;
    const run: FleetRun | undefined = fleet &&
      credentials.fleet && { config: fleet, credentials: credentials.fleet };
    return this.#fleet.configure(run, rateLimit);
  }

  /** So many descriptors are held from now on, beside those of connections. */
  #hold(count: number): void {
    this.#budget.hold(count - this.#held);
    this.#held = count;
  }

  reload(config?: ProxyConfig): Promise<void> {
    const given = config && copy(config);
    const done = this.#reloading.then(() => this.#reload(given));
    this.#reloading = done.catch(() => {});
    return done;
  }

  async #reload(given: ProxyConfig | undefined): Promise<void> {
    const { source = () => this.#input } = this.#options;
    const before = new FileStamps().add(this.#loaded.seen.files);
    const seen = new FileStamps().add(filesBeside(this.#options));
    try {
      const input = given ?? (await source());
      const loaded = await inPortions(
        loadConfig(input, { ...this.#options, seen, workers: this.#started.workers }),
      );
      const { holding, shortage } = loaded;
      if (shortage !== undefined) throw new ConfigError([{ key: "upstreams", problem: shortage }]);
      // While it drains, rights can still be withdrawn.
      if (this.#over || (this.#closing && this.#addresses.length === 0)) {
        throw new Error("the proxy has been closed; make a new one");
      }
      // Before there are ports, they can still be others.
      const open = this.#listening === undefined ? loaded.config.listeners : this.#ports;
      const pairs = pairPorts(open, loaded.config.listeners);
      const settings = this.#buildSnapshot(loaded, pairs);
      await this.#runner.apply(settings);
      const running = { workers: this.#started.workers, ports: open };
      for (const [message, fields] of restartReport(running, loaded.config, pairs)) {
        this.#log.warn(message, fields);
      }
      this.#ports = open.map((port, i) => (pairs[i] === undefined ? undefined : port));
      const changes = {
        keys: listed(changedKeys(this.config, loaded.config)),
        files: listed(seen.changedSince(this.#loaded.seen)),
      };
      this.#input = input;
      this.#loaded = loaded;
      this.#reminder.stop();
      if (this.#listening !== undefined && !this.#over) void this.#followFleet();
      if (this.#held > 0) this.#hold(heldBy(holding));
      const before = new Map(Array.from(this.#pools, ([name, { balancer }]) => [name, balancer.healthy]));
      this.#pools = makePools(settings, this.#ledger, this.#pools);
      for (const [name, { balancer }] of this.#pools) {
        // Targets have come or gone.
        if (balancer.healthy !== (before.get(name) ?? true)) logUpstream(this.#log, name, balancer.healthy);
      }
      for (const warning of loaded.warnings) this.#log.warn(warning, {});
      this.#log.info("reloaded", changes);
      if (this.#addresses.length > 0 && !this.#over) this.#attend();
    } catch (error) {
      const faults =
        error instanceof ConfigError ? error.faults : [{ key: undefined, problem: wordsOf(error) }];
      for (const { key, problem } of faults) this.#log.error("reload refused", { key, problem });
      if (given === undefined && !this.#closing) this.#reminder.refused(faults);
      // It may be put right in any file that is named now, or was.
      this.#watch?.follow(before.and(seen));
      throw error;
    }
  }

  /** @throws ConfigError where there are more targets than there is room for, those that are still being left included */
  #buildSnapshot(loaded: LoadedConfig, pairs: readonly (number | undefined)[]): Snapshot {
    const keys = targetKeys(loaded.config);
    const slots = this.#slots.assign(keys.flat());
    if (slots === undefined) {
      const problem = `have more targets than there is room for, which is ${MAX_TARGETS}`;
      throw new ConfigError([{ key: "upstreams", problem }]);
    }
    const numbers = keys.map((each) => each.map((key) => slots.get(key) as number));
    return buildSnapshot({ ...loaded, pairs, slots: numbers });
  }

  /** What goes on beside the connections: files are watched to the last one's end, the rest while they are accepted. */
  #attend(): void {
    const { config, seen, expiries } = this.#loaded;
    if (!config.watch) {
      this.#watch?.stop();
      this.#watch = undefined;
    } else if (this.#watch === undefined) {
      this.#watch = new Watch(seen, () => void this.reload().catch(() => {}));
    } else this.#watch.follow(seen);
    if (this.#closing) return;
    this.#upkeep.follow(config, expiries.flat(), this.#pools);
  }

  /** Accepts no more. Files are still watched: who has no right any more is not waited for. */
  #stopAttending(): void {
    this.#closing = true;
    clearTimeout(this.#deadline);
    this.#reminder.stop();
    this.#upkeep.stop();
    if (this.#over || this.#addresses.length === 0) this.#watch?.stop();
  }

  close({ timeout = this.config.shutdownTimeout }: CloseOptions = {}): Promise<{ cut: number }> {
    if (!this.#closing) {
      this.#stopAttending();
      void this.#runner.close().then(() => {
        const connections = this.#ledger.connections();
        if (connections > 0) this.#log.info("draining", { connections });
      });
    }
    const at = monotonic() + Math.max(0, timeout);
    // A port that is being left may still let somebody in.
    if (at < this.#deadlineAt && !this.#over) {
      this.#deadlineAt = at;
      clearTimeout(this.#deadline);
      this.#deadline = setTimeout(() => this.#cut(), timeout);
    }
    return this.ended;
  }

  #cut(): void {
    const connections = this.#ledger.connections();
    if (connections > 0) this.#log.warn("closing remaining connections", { connections });
    this.#runner.cut();
  }

  stats(): ProxyStats {
    const now = monotonic();
    return {
      connections: this.#ledger.connections(),
      clients: this.#ledger.clients.size,
      upstreams: poolStats(this.#pools, now),
      ...(this.config.fleet && { fleet: this.#fleet.status() }),
    };
  }
}
