// Runs several worker threads, one engine each, that share ports and counts. This thread carries no connections: it
// starts the workers, tells them of changes, writes their log lines, and replaces a worker that has died.

import type { Address } from "../lib/address.ts";
import { monotonic } from "../lib/clock.ts";
import { returnColumn, takeColumn } from "../lib/descriptors.ts";
import { StartError } from "../lib/errors.ts";
import { claimPort, probePort, type Claim } from "../listeners/claim.ts";
import { FleetLink } from "../fleet/link.ts";
import type { EngineOptions } from "./shared.ts";
import type { Command, WorkerEvent } from "./messages.ts";
import type { AnswerTo, Question } from "./questions.ts";
import { CLOSE_CODE, REFUSAL_CODE } from "../lib/reasons.ts";
import { Ledger } from "../state/ledger.ts";
import { withoutSource, workerThread, type WorkerThread } from "./worker-thread.ts";
import type { ListenerSnapshot, Snapshot } from "./snapshot.ts";

/** The pool gives up after this many deaths of workers within this many milliseconds. */
const MAX_DEATHS = 5;
const DEATHS_WINDOW_MS = 60_000;

/** How long to wait for the other workers to exit, in milliseconds. */
const EXIT_WAIT_MS = 1_000;

/** What a worker pool needs beside its snapshot. Each worker's engine is given the same. */
export interface WorkerPoolOptions extends EngineOptions {
  /** The module that a worker thread runs. */
  readonly module: URL;
}

export class WorkerPool {
  /** Resolves when all workers are closed and the last connection is gone; rejects when workers keep dying. */
  readonly over: Promise<{ cut: number }>;
  readonly #over = Promise.withResolvers<{ cut: number }>();
  readonly #options: WorkerPoolOptions;
  readonly #workers = new Map<number, WorkerThread>();
  #snapshot!: Snapshot;
  /** The shadow's clients, once there is a shadow. */
  #shadow: Ledger | undefined;
  #addresses: readonly Address[] = [];
  /** Claims on the ports that are not shared, by their places among the snapshot's listeners. */
  #claims = new Map<number, Claim>();
  #started = 0;
  #questions = 0;
  #closing = false;
  #failed = false;
  #cut = 0;
  #deaths: number[] = [];

  constructor(snapshot: Snapshot, options: WorkerPoolOptions) {
    this.#options = options;
    this.#follow(snapshot);
    this.over = this.#over.promise;
  }

  /**
   * Starts all workers, or none.
   * @throws StartError
   */
  async listen(): Promise<Address[]> {
    const { workers } = this.#options.ledger.memory.shape;
    try {
      // Workers share their ports, so that the kernel would let another process onto the same port.
      for (const [i, { listener }] of this.#unshared()) {
        if (listener.address.port === 0) continue;
        this.#claims.set(i, await claimPort(listener.address));
        await probePort(listener.address);
      }
      if (this.#closing) throw new StartError("the proxy was closed while it was starting");
      // If the system picks the ports, the first worker's ports apply to all.
      this.#addresses = await this.#start(0);
      for (const [i] of this.#unshared()) {
        const address = this.#addresses[i];
        if (address !== undefined && !this.#claims.has(i)) this.#claims.set(i, await claimPort(address));
      }
      if (this.#closing) {
        this.#release();
        return [...this.#addresses];
      }
      await Promise.all(Array.from({ length: workers - 1 }, (_, i) => this.#start(i + 1)));
    } catch (error) {
      this.#addresses = [];
      this.#release();
      const workers = [...this.#workers.values()];
      this.#workers.clear();
      for (const worker of workers) {
        this.#tell(worker, { kind: "close" });
        this.#tell(worker, { kind: "cut" });
      }
      // Another attempt reuses the worker numbers.
      await Promise.all(workers.map(({ gone }) => gone.promise));
      throw error;
    }
    return [...this.#addresses];
  }

  /**
   * Tells all workers, and waits until each has changed. A worker that dies meanwhile is replaced by one that has the
   * change.
   */
  async apply(snapshot: Snapshot): Promise<void> {
    this.#follow(snapshot);
    await Promise.all(
      Array.from(this.#workers.values(), (worker) => {
        const applied = Promise.withResolvers<void>();
        worker.applied.push(applied);
        this.#tell(worker, { kind: "apply", snapshot });
        return applied.promise;
      }),
    );
    snapshot.listeners.forEach((listener, i) => {
      if (listener !== undefined) return;
      this.#claims.get(i)?.release();
      this.#claims.delete(i);
    });
  }

  #follow(snapshot: Snapshot): void {
    this.#snapshot = snapshot;
    this.#shadow ??= snapshot.shadow && Ledger.attach(snapshot.shadow.ledger, -1);
  }

  async close(): Promise<void> {
    this.#closing = true;
    const workers = [...this.#workers.values()];
    for (const worker of workers) this.#tell(worker, { kind: "close" });
    this.#endIfOver();
    await Promise.all(workers.map(({ closed }) => closed.promise));
    this.#release();
  }

  cut(): void {
    for (const worker of this.#workers.values()) this.#tell(worker, { kind: "cut" });
  }

  async ask<Q extends Question>(question: Q): Promise<AnswerTo<Q>[]> {
    // A worker that takes the place of another one starts with them.
    if (question.about === "block") this.#snapshot = { ...this.#snapshot, blocks: question.blocks };
    const answers = await Promise.all([...this.#workers.keys()].map((i) => this.askThread(i, question)));
    return answers.filter((each) => each !== undefined) as AnswerTo<Q>[];
  }

  askThread<Q extends Question>(thread: number, question: Q): Promise<AnswerTo<Q> | undefined> {
    const worker = this.#workers.get(thread);
    if (worker === undefined) return Promise.resolve(undefined);
    const id = ++this.#questions;
    return new Promise((resolve) => {
      worker.asked.set(id, (answer) => resolve(answer as AnswerTo<Q> | undefined));
      this.#tell(worker, { kind: "ask", id, question });
    });
  }

  /** Listeners whose ports this process opens itself and does not share. */
  #unshared(): [number, ListenerSnapshot][] {
    return [...this.#snapshot.listeners.entries()].filter((entry): entry is [number, ListenerSnapshot] => {
      const listener = entry[1]?.listener;
      return listener?.reusePort === false && listener.address.systemd === undefined;
    });
  }

  #release(): void {
    for (const claim of this.#claims.values()) claim.release();
    this.#claims.clear();
  }

  #tell({ thread }: WorkerThread, command: Command): void {
    thread.postMessage(command);
  }

  async #start(number: number): Promise<readonly Address[]> {
    const { module, fleet } = this.#options;
    const column = takeColumn();
    if (column === undefined) throw new StartError("too many worker threads in this process");
    const thread = new Worker(module.href);
    const worker = workerThread(
      thread,
      column,
      fleet && new FleetLink(fleet, (reply) => thread.postMessage({ kind: "fleet", reply })),
    );
    this.#workers.set(number, worker);
    thread.addEventListener("message", ({ data }: MessageEvent<WorkerEvent>) =>
      this.#heard(number, worker, data),
    );
    thread.addEventListener("error", ({ message }) => {
      this.#options.log.error("worker failed", { worker: number, error: withoutSource(message) });
    });
    thread.addEventListener("close", () => this.#died(number, worker));
    return worker.listening.promise;
  }

  #startCommand(worker: number, { column }: WorkerThread): Command {
    const { ledger, budget, prefix, refusalInterval } = this.#options;
    return {
      kind: "start",
      now: monotonic(),
      snapshot: this.#snapshot,
      ledger: ledger.memory,
      worker,
      descriptors: budget.memory,
      column,
      prefix: `${prefix}-${(this.#started++).toString(36)}`,
      refusalInterval,
      ports: this.#addresses.map(({ port }) => port),
    };
  }

  #heard(number: number, worker: WorkerThread, event: WorkerEvent): void {
    const { log } = this.#options;
    switch (event.kind) {
      case "ready":
        if (this.#workers.get(number) === worker && !this.#closing) {
          return this.#tell(worker, this.#startCommand(number, worker));
        }
        // The pool was closed before the worker had begun.
        if (this.#workers.get(number) === worker) this.#workers.delete(number);
        worker.listening.reject(new StartError("the proxy was closed while it was starting"));
        worker.thread.terminate();
        return this.#endIfOver();
      case "log":
        return log[event.level](event.message, event.fields);
      case "fleet":
        return worker.fleet?.heard(event.request);
      case "listening":
        return worker.listening.resolve(event.addresses);
      case "failed":
        return worker.listening.reject(new StartError(event.message));
      case "applied":
        return worker.applied.shift()?.resolve();
      case "answer":
        worker.asked.get(event.id)?.(event.answer);
        return void worker.asked.delete(event.id);
      case "closed":
        return worker.closed.resolve();
      case "over":
        this.#cut += event.cut;
        worker.closed.resolve();
        if (this.#workers.get(number) === worker) this.#workers.delete(number);
        // The worker has nothing left to do: terminating it interrupts nothing.
        worker.thread.terminate();
        return this.#endIfOver();
    }
  }

  /**
   * A worker died, and its sockets are closed. The pool gives back what the worker had counted and starts another one.
   */
  #died(number: number, worker: WorkerThread): void {
    const { ledger, budget, log } = this.#options;
    budget.forget(worker.column);
    worker.fleet?.close();
    returnColumn(worker.column);
    for (const applied of worker.applied) applied.resolve();
    for (const answered of worker.asked.values()) answered(undefined);
    worker.closed.resolve();
    worker.gone.resolve();
    // A worker that was terminated below may hold the ledger's lock: no thread takes it any more.
    if (this.#failed) return;
    const routes = this.#snapshot.rows.routes.map((each) => each.get(""));
    const { internal_error: closed } = CLOSE_CODE;
    ledger.forget(number, { closed, refused: REFUSAL_CODE.handshake_failed, routes });
    // No other worker takes its place: nobody waits for its beat.
    if (this.#closing) ledger.counters.rest(number + 1);
    this.#shadow?.forget(number);
    // A worker that was told to stop is no longer in the list.
    if (this.#workers.get(number) !== worker) return;
    this.#workers.delete(number);
    log.error("worker died", { worker: number });
    worker.listening.reject(new StartError("a worker thread died while it was starting"));
    if (this.#closing) return this.#endIfOver();
    const now = performance.now();
    this.#deaths = [...this.#deaths.filter((at) => now - at < DEATHS_WINDOW_MS), now];
    if (this.#addresses.length === 0) return;
    if (this.#deaths.length < MAX_DEATHS) {
      this.#start(number).then(
        () => log.info("worker replaced", { worker: number }),
        (error: unknown) => {
          log.error("worker not replaced", { worker: number, error: String(error) });
          this.#workers.get(number)?.thread.terminate();
        },
      );
      return;
    }
    this.#failed = true;
    const workers = [...this.#workers.values()];
    this.#workers.clear();
    for (const { thread } of workers) thread.terminate();
    const gone = Promise.all(workers.map((each) => each.gone.promise));
    void Promise.race([gone, Bun.sleep(EXIT_WAIT_MS)]).then(() => {
      this.#release();
      this.#over.reject(
        new StartError(`worker threads keep dying: ${MAX_DEATHS} within ${DEATHS_WINDOW_MS / 1_000} s`),
      );
    });
  }

  #endIfOver(): void {
    if (this.#closing && !this.#failed && this.#workers.size === 0) this.#over.resolve({ cut: this.#cut });
  }
}
