// What one thread does: ports, the connections that come through them, and the tick that watches over them. A proxy has
// one of these, or one in each of its worker threads.

import { formatAddress, type Address } from "../lib/address.ts";
import type { ListenerState, ActiveConfig } from "../connection/admission.ts";
import { makePools, type Pool } from "../upstreams/pool.ts";
import { monotonic } from "../lib/clock.ts";
import { clientHandlers, type Connection, type Shared } from "../connection/connection.ts";
import type { Credentials } from "../config/credentials.ts";
import type { DescriptorBudget } from "../lib/descriptors.ts";
import type { FleetGate } from "../connection/fleet-gate.ts";
import { HandshakeQueue } from "../connection/handshake-queue.ts";
import { listen, type Port } from "../listeners/listener.ts";
import type { Logger } from "../lib/log.ts";
import { RefusalLog } from "../connection/refusal-log.ts";
import { Router } from "../auth/server-name.ts";
import { socketMeter } from "../connection/socket-meter.ts";
import { rangeList } from "../lib/source.ts";
import type { ListenerSnapshot, Snapshot } from "./snapshot.ts";
import type { Ledger } from "../state/ledger.ts";
import { Limits } from "../state/limits.ts";
import { Sources } from "../state/sources.ts";
import { Tarpit } from "../connection/tarpit.ts";
import { trustIn } from "../auth/certificate-check.ts";

/** What an engine is given beside its settings. */
export interface EngineOptions {
  readonly ledger: Ledger;
  readonly budget: DescriptorBudget;
  readonly log: Logger;
  /** Asked where the configuration has a fleet. */
  readonly fleet?: FleetGate;
  /** Begins the names of its connections. */
  readonly prefix: string;
}

/** How many connections are judged again in one turn of the event loop: some milliseconds of work. */
const REAUTHORIZE_BATCH = 20;

/** A port that is open, or was. */
interface OpenListener {
  readonly port: Port;
  readonly entrance: ListenerState;
  settings: ListenerSnapshot;
}

export class Engine {
  /** Resolves when it has been closed and its last connection is gone: with how many had to be cut. */
  readonly over: Promise<{ cut: number }>;
  readonly #over = Promise.withResolvers<{ cut: number }>();
  readonly #options: EngineOptions;
  readonly #shared: Shared;
  #settings: Snapshot;
  /** One for each port of the start; undefined for those that had been taken away when this engine began. */
  #openListeners: (OpenListener | undefined)[] = [];
  #ticking: Timer | undefined;
  #closing = false;
  /** It was closed, and so are its ports. */
  #closed = false;
  #cut = 0;

  constructor(settings: Snapshot, options: EngineOptions) {
    const { ledger, budget, log, prefix } = options;
    this.over = this.#over.promise;
    this.#options = options;
    this.#settings = settings;
    const sources = new Sources(ledger, settings.config.handshakes);
    this.#shared = {
      rules: activate(settings, makePools(settings, ledger)),
      ledger,
      budget,
      limits: new Limits(ledger, settings.config.rateLimit),
      sources,
      handshakes: new HandshakeQueue({
        sources,
        meter: socketMeter(),
        max: this.#ownHandshakes(settings),
        now: monotonic,
      }),
      tarpit: new Tarpit(budget, monotonic),
      fleet: settings.config.fleet && options.fleet,
      log,
      refusals: new RefusalLog({ write: (fields) => log.warn("refused", fields), now: monotonic }),
      connections: new Set<Connection>(),
      prefix,
      now: monotonic,
      changed: () => this.#changed(),
    };
  }

  /**
   * Opens all ports, or none.
   * @param ports the ports' numbers, where the system has picked them for another thread already
   * @returns the addresses as bound
   * @throws StartError
   */
  listen(ports: readonly (number | undefined)[] = []): Address[] {
    try {
      this.#settings.entrances.forEach((settings, i) => {
        if (settings === undefined) return this.#openListeners.push(undefined);
        const { listener, credentials } = settings;
        const { upstream } = listener;
        const configured = formatAddress(listener.address);
        const entrance = {
          address: configured,
          upstream,
          trust: trustIn(credentials),
          generation: 0,
          authoritiesSince: 0,
          removed: false,
        };
        const address = { ...listener.address, port: ports[i] ?? listener.address.port };
        const handlers = clientHandlers(this.#shared, entrance);
        const { worker, memory } = this.#options.ledger;
        const sockets = { count: memory.shape.workers, last: worker === 0 };
        const port = listen({ ...listener, address }, credentials, handlers, sockets);
        return this.#openListeners.push({ port, entrance, settings });
      });
    } catch (error) {
      for (const gate of this.#openListeners) void gate?.port.stop(true);
      this.#openListeners = [];
      throw error;
    }
    return this.#openListeners.flatMap((gate) => (gate === undefined ? [] : [gate.port.address]));
  }

  /**
   * Replaces the snapshot, and ends connections that it no longer allows; all others go on undisturbed.
   * @throws where TLS cannot use them; then nothing has changed
   */
  apply(settings: Snapshot): void {
    const { config } = settings;
    const changed = new Set<ListenerState>();
    this.#replaceContexts(settings);
    this.#openListeners.forEach((gate, i) => {
      const next = settings.entrances[i];
      if (gate === undefined) return;
      if (next === undefined) {
        gate.entrance.removed = true;
        return void gate.port.stop();
      }
      const { listener, credentials } = next;
      gate.entrance.upstream = listener.upstream;
      if (!isSameTrust(credentials, gate.settings.credentials)) {
        const { authorities } = gate.entrance.trust;
        gate.entrance.trust = trustIn(credentials, gate.entrance.trust);
        gate.entrance.generation++;
        if (gate.entrance.trust.authorities !== authorities) {
          // A port that is being left keeps its old context.
          gate.entrance.authoritiesSince = this.#closing ? Infinity : gate.entrance.generation;
        }
        changed.add(gate.entrance);
      }
      gate.settings = next;
    });
    const { ledger, limits, sources, handshakes, now } = this.#shared;
    const before = this.#settings.config;
    this.#settings = settings;
    this.#shared.rules = activate(settings, makePools(settings, ledger, this.#shared.rules.pools));
    limits.setRule(config.rateLimit, now());
    sources.setRule(config.handshakes);
    handshakes.max = this.#ownHandshakes(settings);
    this.#shared.fleet = config.fleet && this.#options.fleet;
    if (this.#shared.fleet !== undefined && before.fleet === undefined) {
      for (const connection of this.#shared.connections) connection.joinFleet(this.#shared.fleet);
    }
    // Not every time: with reloads in quick succession it would never tick.
    if (tickEvery(config) !== tickEvery(before)) {
      clearInterval(this.#ticking);
      this.#ticking = undefined;
    }
    this.#changed();
    void this.#reauthorize(changed);
  }

  /** This thread's share of the handshakes that may be under way at a time. */
  #ownHandshakes({ config: { handshakes, maxConnections } }: Snapshot): number {
    const max = handshakes.max ?? Math.max(Math.floor(maxConnections / 4), Math.min(64, maxConnections));
    return Math.ceil(max / this.#options.ledger.memory.shape.workers);
  }

  /** All of them, or none. */
  #replaceContexts({ entrances }: Snapshot): void {
    // No connection is accepted any more; the open ones are judged by the rules.
    if (this.#closing) return;
    const done: OpenListener[] = [];
    const replace = ({ port }: OpenListener, { credentials, listener }: ListenerSnapshot) =>
      port.replace(credentials, listener.sessionTickets);
    try {
      this.#openListeners.forEach((gate, i) => {
        const next = entrances[i];
        if (gate === undefined || next === undefined || isSameContext(next, gate.settings)) return;
        replace(gate, next);
        done.push(gate);
      });
    } catch (error) {
      for (const gate of done) replace(gate, gate.settings);
      throw error;
    }
  }

  /**
   * Accepts no more.
   * @returns when all ports are closed
   */
  async close(): Promise<void> {
    this.#closing = true;
    await Promise.all(this.#openListeners.map((gate) => gate?.port.stop()));
    this.#closed = true;
    this.#shared.tarpit.clear();
    this.#changed();
  }

  /** Closes the ports that are still being left, and cuts every connection. */
  cut(): void {
    for (const gate of this.#openListeners) void gate?.port.stop(true);
    for (const connection of this.#shared.connections) {
      this.#cut++;
      connection.cut();
    }
  }

  /** Judges every open connection by the new rules; those of entrances that have `changed`, to the bottom. */
  async #reauthorize(changed: ReadonlySet<ListenerState>): Promise<void> {
    const { connections, log } = this.#shared;
    let revoked = 0;
    let done = 0;
    for (const connection of [...connections]) {
      if (connection.reauthorize(changed.has(connection.entrance))) revoked++;
      if (++done % REAUTHORIZE_BATCH === 0) await new Promise(setImmediate);
    }
    if (revoked > 0) log.warn("connections lost their authorization", { connections: revoked });
  }

  /** Keeps the ticking going exactly as long as there is something to watch, and says when all is over. */
  #changed(): void {
    const { connections, limits } = this.#shared;
    const done = this.#closed && connections.size === 0;
    if (done) {
      this.#shared.refusals.flush();
      this.#over.resolve({ cut: this.#cut });
    }
    if (done || (connections.size === 0 && limits.size === 0)) {
      clearInterval(this.#ticking);
      this.#ticking = undefined;
    } else this.#ticking ??= setInterval(() => this.#tick(), tickEvery(this.#settings.config));
  }

  #tick(): void {
    const { connections, limits, now } = this.#shared;
    const moment = { now: now(), date: Date.now() };
    for (const connection of connections) connection.tick(moment);
    limits.sweep(moment.now);
    if (connections.size === 0) this.#changed();
  }
}

function activate({ config }: Snapshot, pools: ReadonlyMap<string, Pool>): ActiveConfig {
  const isExempt = rangeList(config.handshakes.exempt);
  return { config, isExempt, router: new Router(config.upstreams, config.fallback), pools };
}

/** An event is noticed up to one tick late, and so is the end of the time after it: 10 % together. */
function tickEvery(config: Snapshot["config"]): number {
  const { timeout, handshakeTimeout, connectTimeout, maxConnectionDuration = Infinity } = config;
  const shortest = Math.min(timeout, handshakeTimeout, connectTimeout, maxConnectionDuration);
  return Math.min(250, Math.max(10, Math.floor(shortest / 20)));
}

/** Revocation lists are part of it: with another context, tickets from before are worth nothing. */
function isSameContext(a: ListenerSnapshot, b: ListenerSnapshot): boolean {
  const { cert, key } = a.credentials;
  return (
    a.listener.sessionTickets === b.listener.sessionTickets &&
    isSameTrust(a.credentials, b.credentials) &&
    cert === b.credentials.cert &&
    key === b.credentials.key
  );
}

/** What decides whom an entrance trusts. */
function isSameTrust({ ca, crl }: Credentials, other: Credentials): boolean {
  if (!isSameList(ca, other.ca) || (crl === undefined) !== (other.crl === undefined)) return false;
  const bytes = (lists: Credentials["crl"]) => lists?.map(({ der }) => der) ?? [];
  const [ours, theirs] = [bytes(crl), bytes(other.crl)];
  return ours.length === theirs.length && ours.every((der, i) => Buffer.compare(der, theirs[i]!) === 0);
}

function isSameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((text, i) => text === b[i]);
}
