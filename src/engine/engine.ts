// Runs one thread: its ports, the connections that they accept, and the tick that checks their deadlines. A proxy has
// one engine, or one in each worker thread.

import type { Address } from "../lib/address.ts";
import type { ListenerState } from "../connection/admission.ts";
import { activate, listenerState } from "./activate.ts";
import { answer } from "./answers.ts";
import { Beat } from "./beat.ts";
import { makePools } from "../upstreams/pool.ts";
import { monotonic } from "../lib/clock.ts";
import { clientHandlers, plainHandlers, type BeginTls } from "../connection/accept.ts";
import type { Shared } from "../connection/connection.ts";
import { listen, type Port } from "../listeners/listener.ts";
import { forecast } from "./forecast.ts";
import { nextListener } from "./next-listener.ts";
import { isWatched, tickEvery } from "./pace.ts";
import { isSameContext } from "./same-trust.ts";
import { inPortions } from "../lib/portions.ts";
import { Rounds } from "./rounds.ts";
import { Shadows } from "./shadows.ts";
import { makeShared, ownHandshakes, type EngineOptions } from "./shared.ts";
import type { AnswerTo, Answers, Question } from "./questions.ts";
import type { ListenerSnapshot, Snapshot } from "./snapshot.ts";

/** How many connections are checked again in one turn of the event loop: some milliseconds of work. */
const REAUTHORIZE_BATCH = 20;

/** A port that is or was open. */
interface OpenListener {
  readonly port: Port;
  readonly state: ListenerState;
  snapshot: ListenerSnapshot;
}

export class Engine {
  /**
   * Resolves when the engine is closed and its last connection is gone, with the number of connections that were cut.
   */
  readonly over: Promise<{ cut: number }>;
  readonly #over = Promise.withResolvers<{ cut: number }>();
  readonly #options: EngineOptions;
  readonly #shared: Shared;
  #snapshot: Snapshot;
  /** One for each port of the start; undefined for ports that a reload had removed before this engine began. */
  #openListeners: (OpenListener | undefined)[] = [];
  readonly #rounds: Rounds;
  readonly #beat: Beat;
  readonly #shadows: Shadows;
  #closing = false;
  /** The engine was closed, and so are its ports. */
  #closed = false;
  #cut = 0;

  constructor(snapshot: Snapshot, options: EngineOptions) {
    const { ledger, log, refusalInterval } = options;
    this.over = this.#over.promise;
    this.#options = options;
    this.#snapshot = snapshot;
    this.#shared = makeShared(snapshot, options, () => this.#changed());
    const { connections } = this.#shared;
    this.#rounds = new Rounds({ connections, now: monotonic, ended: (now) => this.#looked(now) });
    this.#beat = new Beat(ledger.counters, this.#shared.connections);
    const { counters, worker } = ledger;
    this.#shadows = new Shadows({ counters, log, now: monotonic, interval: refusalInterval }, worker);
  }

  /**
   * Opens all ports, or none.
   * @param ports the port numbers, if the system has already picked them for another thread
   * @returns the addresses as bound
   * @throws StartError
   */
  listen(ports: readonly (number | undefined)[] = []): Address[] {
    try {
      this.#snapshot.listeners.forEach((snapshot, i) => {
        if (snapshot === undefined) return this.#openListeners.push(undefined);
        const { listener, credentials } = snapshot;
        const state = listenerState(snapshot, i);
        const address = { ...listener.address, port: ports[i] ?? listener.address.port };
        const handlers = {
          tls: clientHandlers(this.#shared, state),
          plain: (begin: BeginTls) => plainHandlers(this.#shared, state, begin),
        };
        const { worker, memory } = this.#options.ledger;
        const sockets = { count: memory.shape.workers, last: worker === 0 };
        const port = listen({ ...listener, address }, credentials, handlers, sockets);
        return this.#openListeners.push({ port, state, snapshot });
      });
    } catch (error) {
      for (const opened of this.#openListeners) void opened?.port.stop(true);
      this.#openListeners = [];
      throw error;
    }
    this.#beat.run(isWatched(this.#snapshot));
    this.#followShadow();
    return this.#openListeners.flatMap((opened) => (opened === undefined ? [] : [opened.port.address]));
  }

  /**
   * Replaces the snapshot and ends connections that it no longer allows. All others continue undisturbed.
   * @throws if TLS cannot use the credentials; then nothing has changed
   */
  apply(snapshot: Snapshot): void {
    const { config } = snapshot;
    const changed = new Set<ListenerState>();
    this.#replaceContexts(snapshot);
    this.#openListeners.forEach((opened, i) => {
      const next = snapshot.listeners[i];
      if (opened === undefined) return;
      const { state, trustChanged } = nextListener(opened.state, opened.snapshot, next, this.#closing);
      Object.assign(opened.state, state);
      if (next === undefined) return void opened.port.stop();
      if (trustChanged) changed.add(opened.state);
      opened.snapshot = next;
    });
    const { ledger, limits, sources, handshakes, now } = this.#shared;
    const before = this.#snapshot.config;
    this.#snapshot = snapshot;
    this.#shared.rules = activate(snapshot, makePools(snapshot, ledger, this.#shared.rules.pools));
    limits.setRule(config.rateLimit, now(), config.limits);
    this.#beat.run(isWatched(snapshot));
    sources.setRule(config.handshakes);
    handshakes.max = ownHandshakes(snapshot, ledger);
    this.#shared.fleet = config.fleet && this.#options.fleet;
    if (this.#shared.fleet !== undefined && before.fleet === undefined) {
      for (const connection of this.#shared.connections) connection.joinFleet(this.#shared.fleet);
    }
    this.#changed();
    this.#followShadow();
    void this.#reauthorize(changed).then(() => {
      const { shadow, connections } = this.#shared;
      return shadow && this.#shadows.judge(shadow, connections);
    });
  }

  #followShadow(): void {
    const states = this.#openListeners.map((opened) => opened?.state);
    this.#shared.shadow = this.#shadows.follow(this.#snapshot.shadow, states);
  }

  /** Replaces all TLS contexts, or none. */
  #replaceContexts({ listeners }: Snapshot): void {
    // The engine accepts no connections any more; the rules decide on the open ones.
    if (this.#closing) return;
    const done: OpenListener[] = [];
    const replace = ({ port }: OpenListener, { credentials, listener }: ListenerSnapshot) =>
      port.replace(credentials, listener);
    try {
      this.#openListeners.forEach((opened, i) => {
        const next = listeners[i];
        if (opened === undefined || next === undefined || isSameContext(next, opened.snapshot)) return;
        replace(opened, next);
        done.push(opened);
      });
    } catch (error) {
      for (const opened of done) replace(opened, opened.snapshot);
      throw error;
    }
  }

  /**
   * Stops accepting.
   * @returns when all ports are closed
   */
  async close(): Promise<void> {
    this.#closing = true;
    await Promise.all(this.#openListeners.map((opened) => opened?.port.stop()));
    this.#closed = true;
    this.#shared.tarpit.clear();
    this.#changed();
  }

  /** Closes the ports that are still closing, and cuts every connection. */
  cut(): void {
    for (const opened of this.#openListeners) void opened?.port.stop(true);
    // Counted before: the last one that is cut ends the engine.
    this.#cut += this.#shared.headers.size;
    this.#shared.headers.cut();
    for (const connection of this.#shared.connections) {
      this.#cut++;
      connection.cut();
    }
  }

  async ask<Q extends Question>(question: Q): Promise<AnswerTo<Q>[]> {
    return [await this.askThread(0, question)];
  }

  async askThread<Q extends Question>(_: number, question: Q): Promise<AnswerTo<Q>> {
    const given =
      question.about === "forecast" ? this.#forecast(question.snapshot) : answer(question, this.#shared);
    return (await given) as AnswerTo<Q>;
  }

  /** Which open connections this snapshot would end. It changes nothing. */
  #forecast(snapshot: Snapshot): Promise<Answers["forecast"]> {
    const listeners = this.#openListeners.flatMap((opened, i) => {
      if (opened === undefined) return [];
      const next = nextListener(opened.state, opened.snapshot, snapshot.listeners[i], this.#closing);
      return [[opened.state, next] as const];
    });
    return inPortions(forecast(snapshot, new Map(listeners), this.#shared));
  }

  /** Decides on every open connection by the new rules. For listeners in `changed` it also checks the certificates. */
  async #reauthorize(changed: ReadonlySet<ListenerState>): Promise<void> {
    const { connections, log } = this.#shared;
    let revoked = 0;
    let done = 0;
    for (const connection of [...connections]) {
      if (connection.reauthorize(changed.has(connection.listener))) revoked++;
      if (++done % REAUTHORIZE_BATCH === 0) await new Promise(setImmediate);
    }
    if (revoked > 0) log.warn("connections lost their authorization", { connections: revoked });
  }

  /** Ticks exactly while there is something to watch, and reports when all is over. */
  #changed(): void {
    const { connections, limits, headers } = this.#shared;
    const done = this.#closed && connections.size === 0 && headers.size === 0;
    if (done) {
      this.#shared.refusals.flush();
      this.#shadows.flush();
      this.#beat.run(false);
      this.#over.resolve({ cut: this.#cut });
    }
    const isIdle = connections.size === 0 && limits.size === 0;
    this.#rounds.run(done || isIdle ? 0 : tickEvery(this.#snapshot.config));
  }

  /** Every connection has been looked at. */
  #looked(now: number): void {
    const { connections, limits } = this.#shared;
    limits.sweep(now);
    this.#shadows.sweep(now);
    if (connections.size === 0) this.#changed();
  }
}
