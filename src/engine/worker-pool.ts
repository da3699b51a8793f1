// Several worker threads, one engine each, that share ports and counts. This thread carries no connections: it starts the
// workers, tells them of changes, writes what they log, and puts a new one in the place of one that has died.

import type { Address } from "../lib/address.ts";
import { monotonic } from "../lib/clock.ts";
import { returnColumn, takeColumn, type DescriptorBudget } from "../lib/descriptors.ts";
import { StartError } from "../lib/errors.ts";
import { claimPort, probePort, type Claim } from "../listeners/listener.ts";
import type { FleetGate } from "../connection/fleet-gate.ts";
import { FleetLink } from "../fleet/link.ts";
import type { Logger } from "../lib/log.ts";
import type { Command, WorkerEvent } from "./messages.ts";
import type { ListenerSnapshot, Snapshot } from "./snapshot.ts";
import type { Ledger } from "../state/ledger.ts";

/** So many deaths, over all workers, within so many milliseconds are too many. */
const MAX_DEATHS = 5;
const DEATHS_WINDOW_MS = 60_000;

/** How long to wait for the other workers to exit, in milliseconds. */
const EXIT_WAIT_MS = 1_000;

/** Of the source, which comes before the error and, in the binary, is thousands of characters of nothing to read. */
const EXCERPT = /^(?: *\d+ \| .*\n)+ *\^\n/;

/** What a worker pool needs beside its snapshot. */
export interface WorkerPoolOptions {
  readonly ledger: Ledger;
  readonly budget: DescriptorBudget;
  readonly log: Logger;
  /** Asked where the configuration has a fleet. */
  readonly fleet?: FleetGate;
  /** Begins the names of all its connections. */
  readonly prefix: string;
  /** The module that a worker thread runs. */
  readonly module: URL;
}

/** A worker thread, alive. */
interface WorkerThread {
  readonly thread: Worker;
  readonly column: number;
  readonly fleet: FleetLink | undefined;
  /** Settles the promise of the caller that waits for the worker's answer. */
  listening: PromiseWithResolvers<readonly Address[]>;
  applied: PromiseWithResolvers<void>[];
  closed: PromiseWithResolvers<void>;
  gone: PromiseWithResolvers<void>;
}

export class WorkerPool {
  /** Resolves when all workers have been closed and the last connection is gone; rejects when they keep dying. */
  readonly over: Promise<{ cut: number }>;
  readonly #over = Promise.withResolvers<{ cut: number }>();
  readonly #options: WorkerPoolOptions;
  readonly #members = new Map<number, WorkerThread>();
  #settings: Snapshot;
  #addresses: readonly Address[] = [];
  /** Of the ports that are not to be shared, by their places among the settings' entrances. */
  #claims = new Map<number, Claim>();
  #started = 0;
  #closing = false;
  #failed = false;
  #cut = 0;
  #deaths: number[] = [];

  constructor(settings: Snapshot, options: WorkerPoolOptions) {
    this.#settings = settings;
    this.#options = options;
    this.over = this.#over.promise;
  }

  /**
   * Starts all workers, or none.
   * @throws StartError
   */
  async listen(): Promise<Address[]> {
    const { workers } = this.#options.ledger.memory.shape;
    try {
      // Workers share their ports among themselves, so that another process on the same port would go unnoticed.
      for (const [i, { listener }] of this.#unshared()) {
        if (listener.address.port === 0) continue;
        this.#claims.set(i, await claimPort(listener.address));
        await probePort(listener.address);
      }
      if (this.#closing) throw new StartError("closed before it was open");
      // The first one's ports are the others', where the system picks them.
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
      const members = [...this.#members.values()];
      this.#members.clear();
      for (const member of members) {
        this.#tell(member, { kind: "close" });
        this.#tell(member, { kind: "cut" });
      }
      // Another attempt has other workers with the same numbers.
      await Promise.all(members.map(({ gone }) => gone.promise));
      throw error;
    }
    return [...this.#addresses];
  }

  /** Tells all workers, and waits until each has changed. One that dies over it is replaced by one that has. */
  async apply(settings: Snapshot): Promise<void> {
    this.#settings = settings;
    await Promise.all(
      Array.from(this.#members.values(), (member) => {
        const applied = Promise.withResolvers<void>();
        member.applied.push(applied);
        this.#tell(member, { kind: "apply", settings });
        return applied.promise;
      }),
    );
    settings.entrances.forEach((entrance, i) => {
      if (entrance !== undefined) return;
      this.#claims.get(i)?.release();
      this.#claims.delete(i);
    });
  }

  async close(): Promise<void> {
    this.#closing = true;
    const members = [...this.#members.values()];
    for (const member of members) this.#tell(member, { kind: "close" });
    this.#endIfOver();
    await Promise.all(members.map(({ closed }) => closed.promise));
    this.#release();
  }

  cut(): void {
    for (const member of this.#members.values()) this.#tell(member, { kind: "cut" });
  }

  /** Entrances whose ports this process has for itself. */
  #unshared(): [number, ListenerSnapshot][] {
    return [...this.#settings.entrances.entries()].filter(
      (entry): entry is [number, ListenerSnapshot] => entry[1]?.listener.reusePort === false,
    );
  }

  #release(): void {
    for (const claim of this.#claims.values()) claim.release();
    this.#claims.clear();
  }

  #tell({ thread }: WorkerThread, order: Command): void {
    thread.postMessage(order);
  }

  async #start(number: number): Promise<readonly Address[]> {
    const { module, fleet } = this.#options;
    const column = takeColumn();
    if (column === undefined) throw new StartError("too many worker threads in this process");
    const thread = new Worker(module.href);
    const member: WorkerThread = {
      thread,
      column,
      fleet: fleet && new FleetLink(fleet, (reply) => thread.postMessage({ kind: "fleet", reply })),
      listening: Promise.withResolvers(),
      applied: [],
      closed: Promise.withResolvers(),
      gone: Promise.withResolvers(),
    };
    this.#members.set(number, member);
    thread.addEventListener("message", ({ data }: MessageEvent<WorkerEvent>) =>
      this.#heard(number, member, data),
    );
    thread.addEventListener("error", ({ message }) => {
      const error = message.replace(EXCERPT, "").trimEnd();
      this.#options.log.error("worker failed", { worker: number, error });
    });
    thread.addEventListener("close", () => this.#died(number, member));
    return member.listening.promise;
  }

  #startCommand(worker: number, { column }: WorkerThread): Command {
    const { ledger, budget, prefix } = this.#options;
    return {
      kind: "start",
      now: monotonic(),
      settings: this.#settings,
      ledger: ledger.memory,
      worker,
      descriptors: budget.memory,
      column,
      prefix: `${prefix}-${(this.#started++).toString(36)}`,
      ports: this.#addresses.map(({ port }) => port),
    };
  }

  #heard(number: number, member: WorkerThread, report: WorkerEvent): void {
    const { log } = this.#options;
    switch (report.kind) {
      case "ready":
        if (this.#members.get(number) === member && !this.#closing) {
          return this.#tell(member, this.#startCommand(number, member));
        }
        // Closed before it had begun.
        if (this.#members.get(number) === member) this.#members.delete(number);
        member.listening.reject(new StartError("closed before it was open"));
        member.thread.terminate();
        return this.#endIfOver();
      case "log":
        return log[report.level](report.message, report.fields);
      case "fleet":
        return member.fleet?.heard(report.request);
      case "listening":
        return member.listening.resolve(report.addresses);
      case "failed":
        return member.listening.reject(new StartError(report.message));
      case "applied":
        return member.applied.shift()?.resolve();
      case "closed":
        return member.closed.resolve();
      case "over":
        this.#cut += report.cut;
        member.closed.resolve();
        if (this.#members.get(number) === member) this.#members.delete(number);
        // It has nothing left to do: nothing is torn out of its hands.
        member.thread.terminate();
        return this.#endIfOver();
    }
  }

  /** Its sockets are closed by now. What it had counted is given back, and another one takes its place. */
  #died(number: number, member: WorkerThread): void {
    const { ledger, budget, log } = this.#options;
    budget.forget(member.column);
    member.fleet?.close();
    returnColumn(member.column);
    for (const applied of member.applied) applied.resolve();
    member.closed.resolve();
    member.gone.resolve();
    // One of those that were ended below may hold the lock of the ledger: no thread asks for it any more.
    if (this.#failed) return;
    ledger.forget(number);
    // One that was told to go has been taken off the list.
    if (this.#members.get(number) !== member) return;
    this.#members.delete(number);
    log.error("worker died", { worker: number });
    member.listening.reject(new StartError("a worker thread died while it was starting"));
    if (this.#closing) return this.#endIfOver();
    const now = performance.now();
    this.#deaths = [...this.#deaths.filter((at) => now - at < DEATHS_WINDOW_MS), now];
    if (this.#addresses.length === 0) return;
    if (this.#deaths.length < MAX_DEATHS) {
      this.#start(number).then(
        () => log.info("worker replaced", { worker: number }),
        (error: unknown) => {
          log.error("worker not replaced", { worker: number, error: String(error) });
          this.#members.get(number)?.thread.terminate();
        },
      );
      return;
    }
    this.#failed = true;
    const members = [...this.#members.values()];
    this.#members.clear();
    for (const { thread } of members) thread.terminate();
    const gone = Promise.all(members.map((each) => each.gone.promise));
    void Promise.race([gone, Bun.sleep(EXIT_WAIT_MS)]).then(() => {
      this.#release();
      this.#over.reject(
        new StartError(`worker threads keep dying: ${MAX_DEATHS} within ${DEATHS_WINDOW_MS / 1_000} s`),
      );
    });
  }

  #endIfOver(): void {
    if (this.#closing && !this.#failed && this.#members.size === 0) this.#over.resolve({ cut: this.#cut });
  }
}
