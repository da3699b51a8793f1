// createProxy: puts the rooms together. It loads the configuration, opens ports, reloads while it runs, and shuts down
// gracefully.

import { resolve } from "node:path";
import { version } from "../package.json";
import type { Address } from "./lib/address.ts";
import type { CloseOptions, Phase, Proxy, ProxyOptions, ProxyStats } from "./api.ts";
import { poolStats } from "./upstreams/pool.ts";
import { monotonic } from "./lib/clock.ts";
import type { Config, Listener, ProxyConfig } from "./config/config.ts";
import { copy, filesBeside } from "./config/load.ts";
import { HeldDescriptors, heldBy, processBudget } from "./lib/descriptors.ts";
import { Fleet } from "./fleet/fleet.ts";
import { fleetRun } from "./fleet/run.ts";
import { makeRunner } from "./engine/make-runner.ts";
import { loadTested, type TestedConfig } from "./engine/policy-tests.ts";
import type { Runner } from "./engine/runner.ts";
import { StartError } from "./lib/errors.ts";
import type { Expiry } from "./config/expiry.ts";
import { mayShare } from "./listeners/claim.ts";
import { createLogger, guarded, type Logger } from "./lib/log.ts";
import { atOnce } from "./lib/portions.ts";
import { ReloadLog } from "./config/reload-log.ts";
import { Attendance } from "./engine/attendance.ts";
import { changedFields, forecastOf, logReloaded, planReload, type Forecast } from "./engine/reload-plan.ts";
import { MAX_CLIENTS, MAX_TARGETS } from "./engine/snapshot.ts";
import { SnapshotBuilder, portsLeft } from "./engine/snapshot-builder.ts";
import { openWindows } from "./admin/open-windows.ts";
import { logListening } from "./engine/listening-log.ts";
import { Shutdown } from "./engine/shutdown.ts";
import { subjectOf, type Subject } from "./admin/subject.ts";
import type { Windows } from "./admin/windows.ts";
import { EventHub } from "./lib/events.ts";
import { Ledger } from "./state/ledger.ts";
import { FileStamps } from "./config/watch.ts";

export type { CloseOptions, Phase, Proxy, ProxyOptions, ProxyStats };

/**
 * Makes a proxy; opens only the files that the configuration names.
 * @throws ConfigError that lists every fault
 */
export function createProxy(config: ProxyConfig = {}, options: ProxyOptions = {}): Proxy {
  return new RunningProxy(config, options);
}

class RunningProxy implements Proxy {
  readonly ended: Promise<{ cut: number }>;
  readonly #options: ProxyOptions;
  readonly #log: Logger;
  readonly #ledger: Ledger;
  readonly #builder: SnapshotBuilder;
  readonly #events = new EventHub();
  /** Descriptors besides those of connections. */
  readonly #held = new HeldDescriptors(processBudget());
  /** Does nothing where the configuration has none. */
  readonly #fleet: Fleet;
  readonly #runner: Runner;
  readonly #attendance: Attendance;
  readonly #shutdown: Shutdown;
  /** The configuration of the start, which reloads do not change. */
  #started: Config;
  /** The listener that each open port was opened for; undefined if a reload has closed it. */
  #ports: readonly (Listener | undefined)[];
  /** The configuration as written; a reload without an argument reads it again. */
  #input: ProxyConfig;
  #loaded: TestedConfig;
  #addresses: readonly Address[] = [];
  readonly #reloads: ReloadLog;
  #windows: Windows | undefined;
  #listening: Promise<Address> | undefined;
  #reloading: Promise<void> = Promise.resolve();
  #closing = false;
  #over = false;

  constructor(input: ProxyConfig, options: ProxyOptions) {
    const loaded = atOnce(
      loadTested(input, { ...options, seen: new FileStamps().add(filesBeside(options)) }),
    );
    const { config } = loaded;
    const { workers } = config;
    const { budget } = this.#held;
    const prefix = crypto.randomUUID().slice(0, 8);
    this.#input = copy(input);
    this.#loaded = loaded;
    this.#started = config;
    this.#ports = config.listeners;
    this.#options = options;
    const written = guarded(
      options.logger ?? createLogger({ level: "debug" }),
      () => this.#loaded.config.logLevel,
    );
    this.#log = this.#events.tap(written);
    this.#reloads = new ReloadLog(this.#log);
    this.#ledger = Ledger.make({ workers, targets: MAX_TARGETS, clients: MAX_CLIENTS });
    this.#builder = new SnapshotBuilder(this.#ledger);
    const snapshot = this.#builder.build(loaded, { pairs: [...config.listeners.keys()] });
    this.#fleet = new Fleet({ log: this.#log, descriptors: budget, now: monotonic });
    const { refusalInterval } = options;
    const shared = {
      ...{ ledger: this.#ledger, budget, log: this.#log, prefix },
      ...{ refusalInterval, fleet: this.#fleet, module: new URL("./worker", import.meta.url) },
    };
    this.#runner = makeRunner(snapshot, shared);
    this.#shutdown = new Shutdown(this.#runner, this.#ledger, this.#log);
    this.#builder.follow(snapshot);
    this.#attendance = new Attendance(
      { log: this.#log, descriptors: budget, now: monotonic },
      () => void this.reload().catch(() => {}),
    );
    this.ended = this.#runner.over.finally(() => {
      this.#over = true;
      this.#held.hold(0);
      this.#stopAttending();
      this.#windows?.close();
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

  get tests(): TestedConfig["tests"] {
    return this.#loaded.tests;
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
    this.#held.hold(heldBy(holding));
    const { metrics, admin } = this.config;
    this.#started = { ...this.#started, metrics, admin };
    if (this.config.fleet !== undefined) await this.#fleet.configure(...fleetRun(this.#loaded));
    try {
      this.#windows = await openWindows(this.config, () => this.#subject());
      if (this.#closing) throw new StartError("the proxy was closed while it was starting");
      this.#addresses = await this.#runner.listen();
    } catch (error) {
      this.#held.hold(0);
      this.#windows?.close();
      throw error;
    }
    logListening(this.#addresses, { version, configFile: this.#options.configFile }, this.#log);
    for (const warning of this.warnings) this.#log.warn(warning, {});
    if (!this.#closing) this.#attendance.follow(this.#loaded, this.#builder.pools, true);
    this.#enter("running");
    return this.#addresses[0] as Address;
  }

  /** What the windows look at. */
  #subject(): Subject {
    const { configFile } = this.#options;
    return subjectOf({
      version,
      configFile: configFile && resolve(configFile),
      fleet: this.#fleet,
      ledger: this.#ledger,
      runner: this.#runner,
      builder: this.#builder,
      events: this.#events,
      log: this.#log,
      phase: () => (this.#closing ? "draining" : this.#addresses.length === 0 ? "starting" : "running"),
      loaded: () => this.#loaded,
      reloads: () => this.#reloads.record,
      addresses: () => this.#addresses,
      ports: () => this.#ports,
      reload: () => this.reload(),
      forecast: () => this.forecast(),
    });
  }

  reload(config?: ProxyConfig): Promise<void> {
    const given = config && copy(config);
    const done = this.#reloading.then(async () => {
      const listens = this.#addresses.length > 0;
      if (listens) this.#enter("reloading");
      await this.#reload(given).finally(() => listens && this.#enter("running"));
    });
    this.#reloading = done.catch(() => {});
    return done;
  }

  /** A proxy that closes does not leave that phase. */
  #enter(phase: Phase): void {
    if (!this.#closing) this.#options.onPhase?.(phase);
  }

  async #reload(given: ProxyConfig | undefined): Promise<void> {
    const before = new FileStamps().add(this.#loaded.seen.files);
    const seen = new FileStamps().add(filesBeside(this.#options));
    try {
      const plan = await this.#plan(given, seen);
      const { input, loaded, ports, pairs, restarts } = plan;
      // While the proxy drains, a reload can still withdraw authorization.
      if (this.#over || (this.#closing && this.#addresses.length === 0)) {
        throw new Error("the proxy has been closed; make a new one");
      }
      const windows = this.#listening === undefined ? loaded.config : this.#started;
      const snapshot = this.#builder.build(loaded, { pairs, ports }, windows);
      await this.#runner.apply(snapshot);
      for (const [message, fields] of restarts) this.#log.warn(message, fields);
      this.#ports = portsLeft(ports, pairs);
      this.#input = input;
      this.#loaded = loaded;
      this.#reloads.succeeded(changedFields(plan));
      if (this.#listening !== undefined && !this.#over) void this.#fleet.configure(...fleetRun(this.#loaded));
      if (this.#held.count > 0) this.#held.hold(heldBy(loaded.holding));
      this.#builder.follow(snapshot, this.#log);
      logReloaded(plan, this.#log);
      if (this.#windows !== undefined) this.#windows.follow();
      else if (this.#addresses.length > 0 && !this.#over) {
        // A fleet has been added: what it blocks holds here too.
        const { fleet } = loaded.config;
        this.#windows = await openWindows({ ...this.#started, fleet }, () => this.#subject());
      }
      if (this.#addresses.length > 0 && !this.#over) {
        this.#attendance.follow(loaded, this.#builder.pools, !this.#closing);
      }
    } catch (error) {
      this.#reloads.refused(error, given === undefined && !this.#closing);
      // The operator may fix it in any file that is named now or was named before.
      this.#attendance.watch(before.and(seen));
      throw error;
    }
  }

  /** Loads the configuration as a reload does. Nothing changes. */
  async #plan(given: ProxyConfig | undefined, seen: FileStamps) {
    const { source = () => this.#input } = this.#options;
    const ports = () => (this.#listening === undefined ? undefined : this.#ports);
    const running = { started: this.#started, loaded: this.#loaded, ports };
    return planReload(given ?? (await source()), this.#options, seen, running);
  }

  async forecast(config?: ProxyConfig): Promise<Forecast> {
    const given = config && copy(config);
    await this.#reloading;
    const plan = await this.#plan(given, new FileStamps().add(filesBeside(this.#options)));
    return forecastOf(plan, this.config, this.#runner, this.#builder);
  }

  /** Stops accepting. Files are still watched: connections that are no longer authorized are closed without waiting. */
  #stopAttending(): void {
    this.#closing = true;
    this.#shutdown.cancel();
    this.#reloads.stop();
    this.#attendance.stop(this.#over || this.#addresses.length === 0);
  }

  close({ timeout = this.config.shutdownTimeout }: CloseOptions = {}): Promise<{ cut: number }> {
    if (!this.#closing) {
      this.#enter("draining");
      this.#stopAttending();
      this.#shutdown.begin();
    }
    // A port that is closing may still accept a connection.
    if (!this.#over) this.#shutdown.within(timeout);
    return this.ended;
  }

  async responds(): Promise<void> {
    await this.#runner.ask({ about: "life" });
  }

  stats(): ProxyStats {
    const now = monotonic();
    return {
      connections: this.#ledger.connections(),
      clients: this.#ledger.clients.size,
      upstreams: poolStats(this.#builder.pools, now),
      ...(this.config.fleet && { fleet: this.#fleet.status() }),
    };
  }
}
