// The proxy as a whole: configuration in, a listening port out, and a way to end. Wires the parts below it together.

import { formatAddress, type Address } from "./address.ts";
import { resolveConfig, type Config, type ProxyConfig } from "./config.ts";
import { clientHandlers, type Connection, type Shared } from "./connection.ts";
import { credentialWarnings, loadCredentials, type Credentials } from "./credentials.ts";
import { PER_CONNECTION, processBudget } from "./descriptors.ts";
import { ConfigError, type Fault } from "./errors.ts";
import { listen, type Listener } from "./listener.ts";
import { createLogger, type Logger } from "./log.ts";
import { Balancer } from "./state/balancer.ts";
import { Limits } from "./state/limits.ts";
import { Turnstile } from "./turnstile.ts";

/** What goes beside the configuration. */
export interface ProxyOptions {
  /** Where the log goes. Default: lines on standard error. */
  logger?: Logger;
  /** What relative paths in the configuration are taken from. Default: the working directory. */
  directory?: string;
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
  /** Per upstream, the connections open to each target, dialling ones included. */
  readonly upstreams: readonly {
    readonly name: string;
    readonly targets: readonly { readonly address: string; readonly open: number }[];
  }[];
}

/** A proxy. It is used once: listen, then close. */
export interface Proxy {
  /** The configuration it runs on. */
  readonly config: Config;
  /** What is allowed in it but will not work as hoped, one line each: an expired certificate, for one. */
  readonly warnings: readonly string[];
  /**
   * Opens the port. Called again, answers the same; after a failure, tries again.
   * @returns the address as bound, with the port that the system picked if it was 0, once connections are accepted
   * @throws StartError where the address cannot be had; Error after {@link close}
   */
  listen(): Promise<Address>;
  /**
   * Stops accepting at once, lets open connections finish until the time is up, then cuts the rest. Called again, it
   * can only shorten the time. Before {@link listen} there is nothing to do.
   * @returns when no connection is left: how many had to be cut
   */
  close(options?: CloseOptions): Promise<{ cut: number }>;
  stats(): ProxyStats;
}

/**
 * Makes a proxy; opens nothing but the files that the configuration names.
 * @throws ConfigError that lists every fault
 */
export function createProxy(config: ProxyConfig = {}, options: ProxyOptions = {}): Proxy {
  const faults: Fault[] = [];
  const resolved = resolveConfig(config, options.directory ?? process.cwd(), faults);
  const credentials = loadCredentials(resolved.listener, faults);
  const budget = processBudget();
  const most = Math.floor(budget.limit / PER_CONNECTION);
  if ((resolved.maxConnections ?? 0) > most) {
    faults.push({
      key: "maxConnections",
      problem: `${resolved.maxConnections} is more than this process has descriptors for; at most ${most}, or raise the limit on open files`,
    });
  }
  if (faults.length > 0 || credentials === undefined) throw new ConfigError(faults);
  return new RunningProxy(
    resolved,
    credentials,
    resolved.maxConnections ?? most,
    options.logger ?? createLogger(),
  );
}

class RunningProxy implements Proxy {
  readonly config: Config;
  readonly warnings: readonly string[];
  readonly #credentials: Credentials;
  readonly #shared: Shared;
  readonly #tickEvery: number;
  #ticking: Timer | undefined;
  #listener: Listener | undefined;
  #closing: PromiseWithResolvers<{ cut: number }> | undefined;
  #deadline: Timer | undefined;
  #deadlineAt = Infinity;
  #cut = 0;

  constructor(config: Config, credentials: Credentials, maxConnections: number, logger: Logger) {
    this.config = config;
    this.warnings = credentialWarnings(credentials);
    this.#credentials = credentials;
    const upstream = config.upstreams[0] as Config["upstreams"][number];
    this.#shared = {
      config,
      maxConnections,
      budget: processBudget(),
      limits: new Limits(config.rateLimit),
      pool: { upstream, balancer: new Balancer(upstream.targets.length) },
      turnstile: new Turnstile(),
      log: guarded(logger),
      connections: new Set<Connection>(),
      now: () => Math.floor(performance.now()),
      changed: () => this.#changed(),
    };
    // An event is noticed up to one tick late, and so is the end of the time after it: 10 % together.
    const { timeout, handshakeTimeout, connectTimeout } = config;
    this.#tickEvery = Math.min(
      250,
      Math.max(10, Math.floor(Math.min(timeout, handshakeTimeout, connectTimeout) / 20)),
    );
  }

  async listen(): Promise<Address> {
    if (this.#closing !== undefined) throw new Error("the proxy has been closed; make a new one");
    if (this.#listener === undefined) {
      this.#listener = listen(this.config.listener.address, this.#credentials, clientHandlers(this.#shared));
      for (const warning of this.warnings) this.#shared.log.warn(warning, {});
      this.#shared.log.info("listening", { address: formatAddress(this.#listener.address) });
    }
    return this.#listener.address;
  }

  close({ timeout = this.config.shutdownTimeout }: CloseOptions = {}): Promise<{ cut: number }> {
    if (this.#closing === undefined) {
      this.#closing = Promise.withResolvers();
      this.#listener?.stop();
      if (this.#shared.connections.size > 0) {
        this.#shared.log.info("draining", { connections: this.#shared.connections.size });
      }
    }
    const at = this.#shared.now() + Math.max(0, timeout);
    if (at < this.#deadlineAt) {
      this.#deadlineAt = at;
      clearTimeout(this.#deadline);
      this.#deadline = setTimeout(() => this.#cutAll(), timeout);
    }
    this.#changed();
    return this.#closing.promise;
  }

  stats(): ProxyStats {
    const { connections, limits, pool } = this.#shared;
    const open = pool.balancer.open();
    return {
      connections: connections.size,
      clients: limits.size,
      upstreams: [
        {
          name: pool.upstream.name,
          targets: pool.upstream.targets.map((target, i) => ({
            address: formatAddress(target),
            open: open[i] as number,
          })),
        },
      ],
    };
  }

  #cutAll(): void {
    const { connections, log } = this.#shared;
    if (connections.size > 0) log.warn("cutting what is left", { connections: connections.size });
    for (const connection of connections) {
      this.#cut++;
      connection.cut();
    }
  }

  /** Keeps the ticking going exactly as long as there is something to watch, and ends the closing when all are gone. */
  #changed(): void {
    const { connections, limits } = this.#shared;
    const done = this.#closing !== undefined && connections.size === 0;
    if (done) {
      clearTimeout(this.#deadline);
      this.#closing?.resolve({ cut: this.#cut });
    }
    if (done || (connections.size === 0 && limits.size === 0)) {
      clearInterval(this.#ticking);
      this.#ticking = undefined;
    } else this.#ticking ??= setInterval(() => this.#tick(), this.#tickEvery);
  }

  #tick(): void {
    const { connections, limits, now } = this.#shared;
    const time = now();
    for (const connection of connections) connection.tick(time);
    limits.sweep(time);
    if (connections.size === 0) this.#changed();
  }
}

/** A logger of somebody else's that throws must not break a connection in the middle of its release. */
function guarded(logger: Logger): Logger {
  const guard =
    (level: keyof Logger): Logger["info"] =>
    (message, fields) => {
      try {
        logger[level](message, fields);
      } catch {
        // There is nowhere left to say so.
      }
    };
  return { debug: guard("debug"), info: guard("info"), warn: guard("warn"), error: guard("error") };
}
