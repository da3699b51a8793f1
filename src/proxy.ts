// The proxy as a whole: configuration in, listening ports out, changes while it runs, and a way to end. Wires the parts
// below it together.

import { availableParallelism } from "node:os";
import { dirname, resolve } from "node:path";
import { version } from "../package.json";
import { formatAddress, type Address } from "./lib/address.ts";
import { makePools, type Pool } from "./upstreams/pool.ts";
import { changedKeys, listed } from "./config/changes.ts";
import { monotonic } from "./lib/clock.ts";
import type { Config, Listener, ProxyConfig } from "./config/config.ts";
import { credentialWarnings, filesOf, loadCredentials, type AllCredentials } from "./config/credentials.ts";
import { WorkerPool } from "./engine/worker-pool.ts";
import {
  descriptorShortage,
  heldBy,
  mostConnections,
  processBudget,
  type DescriptorBudget,
  type Holding,
} from "./lib/descriptors.ts";
import { Engine } from "./engine/engine.ts";
import { ConfigError, StartError, type Fault } from "./lib/errors.ts";
import { ExpiryWatch, expiriesOf, expiryWarnings, type Expiry } from "./config/expiry.ts";
import { HealthChecks } from "./upstreams/health-check.ts";
import { logUpstream } from "./upstreams/health-log.ts";
import { mayShare } from "./listeners/listener.ts";
import { createLogger, guarded, type Logger } from "./lib/log.ts";
import { atOnce, inPortions } from "./lib/portions.ts";
import { Reminder } from "./config/reminder.ts";
import { resolveConfig, usesDemonstration } from "./config/resolve.ts";
import { unresolved } from "./upstreams/name-resolution.ts";
import {
  MAX_CLIENTS,
  MAX_TARGETS,
  buildSnapshot,
  pairPorts,
  targetKeys,
  type Snapshot,
} from "./engine/snapshot.ts";
import { Slots, type TargetHealth } from "./state/balancer.ts";
import { Ledger } from "./state/ledger.ts";
import { FileStamps, Watch } from "./config/watch.ts";

/** What goes beside the configuration. */
export interface ProxyOptions {
  /** Where the log goes. Default: lines on standard error. */
  logger?: Logger;
  /**
   * Path of the file that the configuration was read from. Its change reloads everything, relative paths are taken from
   * its folder, durations have to have a unit, and `listener.ca`, `.certificate`, `.privateKey` and `upstreams` have no
   * built-in values. Default: none.
   */
  configFile?: string;
  /** What relative paths in the configuration are taken from. Default: the file's folder, or the working directory. */
  directory?: string;
  /** More files whose change reloads everything. Default: none. */
  files?: readonly string[];
  /** Where a reload that is not told one gets its configuration. Default: the last one, whose files are read again. */
  source?: () => ProxyConfig | Promise<ProxyConfig>;
}

/** How {@link Proxy.close} ends. */
export interface CloseOptions {
  /** Milliseconds that open connections are waited for, 0 for not at all. Default: `shutdownTimeout`. */
  timeout?: number;
}

/** A moment's state. */
export interface ProxyStats {
  /** Connections that hold anything, handshaking ones included. */
  readonly connections: number;
  /** Clients that have a connection open or a bucket that is not full. */
  readonly clients: number;
  /** Per upstream, what each target has. */
  readonly upstreams: readonly {
    readonly name: string;
    readonly targets: readonly {
      readonly address: string;
      /** Connections, dialling ones included. */
      readonly open: number;
      readonly health: TargetHealth;
    }[];
  }[];
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
   * connection is lost, refused or delayed, but for those that have lost their right. What needs a restart (addresses,
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

/** What carries connections: an engine in this thread, or a crew of threads with one each. */
interface Runner {
  listen(): Address[] | Promise<Address[]>;
  apply(settings: Snapshot): void | Promise<void>;
  /** Resolves when no port is open any more. */
  close(): Promise<void>;
  cut(): void;
  readonly over: Promise<{ cut: number }>;
}

/** How often it is looked for certificates and lists that are about to run out. */
const EXPIRY_INTERVAL_MS = 3_600_000;

/** A configuration that has been found good, with its files. */
interface LoadedConfig {
  readonly config: Config;
  readonly credentials: AllCredentials;
  readonly warnings: readonly string[];
  /** One list for each listener. */
  readonly expiries: readonly (readonly Expiry[])[];
  readonly maxConnections: number;
  readonly holding: Holding;
  /** Why there are too few descriptors for it. */
  readonly shortage: string | undefined;
  readonly seen: FileStamps;
}

/**
 * Makes a proxy; opens nothing but the files that the configuration names.
 * @throws ConfigError that lists every fault
 */
export function createProxy(config: ProxyConfig = {}, options: ProxyOptions = {}): Proxy {
  return new RunningProxy(config, options);
}

/**
 * Finds a configuration good, in steps.
 * @param seen takes the files that the configuration names, as they are before they are read
 * @param workers how many threads run already
 */
function* loadConfig(
  input: ProxyConfig,
  options: ProxyOptions,
  seen: FileStamps,
  workers?: number,
): Generator<void, LoadedConfig> {
  const faults: Fault[] = [];
  const { configFile, directory = configFile === undefined ? process.cwd() : dirname(resolve(configFile)) } =
    options;
  const fromFile = configFile !== undefined;
  const config = resolveConfig(input, { directory, cores: availableParallelism(), fromFile }, faults);
  seen.add(filesOf(config));
  const credentials = yield* loadCredentials(config, faults);
  const holding = {
    workers: workers ?? config.workers,
    listeners: config.listeners.length,
    checks: config.upstreams.reduce((sum, each) => sum + (each.healthCheck ? each.targets.length : 0), 0),
  };
  const shortage = descriptorShortage(holding);
  const most = mostConnections(holding);
  if (shortage === undefined && (config.maxConnections ?? 0) > most) {
    faults.push({
      key: "maxConnections",
      problem: `${config.maxConnections} is more than this process has descriptors for; at most ${most}, or raise the limit on open files`,
    });
  }
  if (faults.length > 0) throw new ConfigError(faults);
  const expiries = credentials.listeners.map(expiriesOf);
  const warnings = [
    ...new Set([
      ...expiryWarnings(expiries.flat(), Date.now()).map(({ text }) => text),
      ...credentials.listeners.flatMap(credentialWarnings),
      ...credentials.warnings,
    ]),
  ];
  if (!fromFile && usesDemonstration(input)) {
    warnings.unshift("running with the demonstration's certificates, whose private keys are public");
  }
  if (shortage !== undefined) warnings.push(`it will not start: ${shortage}`);
  const maxConnections = config.maxConnections ?? most;
  return { config, credentials, warnings, expiries, maxConnections, holding, shortage, seen };
}

/** The files beside those that the configuration names. */
function filesBeside({ configFile, files = [] }: ProxyOptions): string[] {
  return [...(configFile === undefined ? [] : [resolve(configFile)]), ...files];
}

/** A copy that nobody else can change. What cannot be copied is no configuration, and is refused as it is. */
function copy(config: ProxyConfig): ProxyConfig {
  try {
    return structuredClone(config);
  } catch {
    return config;
  }
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
  readonly #runner: Runner;
  readonly #checks: HealthChecks;
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
  readonly #expiryWatch = new ExpiryWatch();
  #expiryTimer: Timer | undefined;
  #reloading: Promise<void> = Promise.resolve();
  #closing = false;
  #over = false;
  #deadline: Timer | undefined;
  #deadlineAt = Infinity;

  constructor(input: ProxyConfig, options: ProxyOptions) {
    const loaded = atOnce(loadConfig(input, options, new FileStamps().add(filesBeside(options))));
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
    const shared = { ledger: this.#ledger, budget, log: this.#log, prefix };
    this.#runner =
      workers === 1
        ? new Engine(settings, shared)
        : new WorkerPool(settings, { ...shared, module: new URL("./worker", import.meta.url) });
    this.#pools = makePools(settings, this.#ledger);
    this.#checks = new HealthChecks({ log: this.#log, descriptors: budget, now: monotonic });
    this.ended = this.#runner.over.finally(() => {
      this.#over = true;
      this.#hold(0);
      this.#stopAttending();
    });
    // Whoever does not ask for the end is not to be told of it as of an error nobody minds.
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
      const loaded = await inPortions(loadConfig(input, this.#options, seen, this.#started.workers));
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
      this.#sayWhatStays(loaded.config, open, pairs);
      this.#ports = open.map((port, i) => (pairs[i] === undefined ? undefined : port));
      const changes = {
        keys: listed(changedKeys(this.config, loaded.config)),
        files: listed(seen.changedSince(this.#loaded.seen)),
      };
      this.#input = input;
      this.#loaded = loaded;
      this.#reminder.stop();
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
    return buildSnapshot(loaded.config, loaded.credentials, pairs, numbers, loaded.maxConnections);
  }

  /** What a reload cannot change is no reason to refuse the rest of it. */
  #sayWhatStays(
    next: Config,
    open: readonly (Listener | undefined)[],
    pairs: readonly (number | undefined)[],
  ): void {
    const stays = (key: string, running: string | number, configured: string | number | undefined) =>
      this.#log.warn("needs a restart", { key, running, configured });
    const { workers } = this.#started;
    if (next.workers !== workers) stays("workers", workers, next.workers);
    open.forEach((port, i) => {
      const listener = next.listeners[pairs[i] ?? -1];
      if (port === undefined) return;
      const running = formatAddress(port.address);
      if (listener === undefined) this.#log.warn("listener removed", { address: running });
      else if (formatAddress(listener.address) !== running) {
        stays(`${listener.key}.address`, running, formatAddress(listener.address));
      } else if (listener.reusePort !== port.reusePort) {
        stays(`${listener.key}.reusePort`, String(port.reusePort), String(listener.reusePort));
      }
    });
    next.listeners.forEach(({ key, address }, i) => {
      if (!pairs.includes(i)) stays(`${key}.address`, "none", formatAddress(address));
    });
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
    this.#checks.update(this.#pools);
    this.#expiryWatch.follow(expiries.flat(), Date.now());
    this.#expiryTimer ??= setInterval(() => this.#warnOfExpiry(), EXPIRY_INTERVAL_MS);
    void unresolved(config).then((names) => {
      for (const warning of names) this.#log.warn(warning, {});
    });
  }

  #warnOfExpiry(): void {
    for (const warning of this.#expiryWatch.due(Date.now())) this.#log.warn(warning, {});
  }

  /** Accepts no more. Files are still watched: who has no right any more is not waited for. */
  #stopAttending(): void {
    this.#closing = true;
    clearTimeout(this.#deadline);
    clearInterval(this.#expiryTimer);
    this.#reminder.stop();
    this.#checks.stop();
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
      upstreams: Array.from(this.#pools.values(), ({ upstream, targets, balancer }) => ({
        name: upstream.name,
        targets: Array.from(targets, ([slot, { address }]) => ({
          address: formatAddress(address),
          open: balancer.open(slot),
          health: balancer.health(slot, now),
        })),
      })),
    };
  }
}
