// The counts that all worker threads share, and the lock that guards them. The same code serves a single thread: its
// memory is its own, and its lock does nothing. limits.ts and balancer.ts define what the numbers mean.

import { ClientTable } from "./client-table.ts";
import { Counters, ROOM, type Death } from "./counters.ts";
import { Lock } from "./lock.ts";
import { Layout } from "./memory.ts";
import { RuleTable } from "./rule-book.ts";
import { SourceTable } from "./source-table.ts";
import { Tally } from "./tally.ts";

/** The sizes of the ledger's tables. Unused memory costs nothing: be generous. */
export interface LedgerShape {
  /** Worker threads, at least 1. With one, the ledger belongs to the thread that made it, and nothing is locked. */
  readonly workers: number;
  /** The largest number of targets, of all upstreams together, at least 1. */
  readonly targets: number;
  /** The largest number of clients at a time that are not idle with a full bucket, 1 to 2^26. */
  readonly clients: number;
}

/** A ledger in the form in which a worker thread receives it, by structured clone. */
export interface LedgerMemory {
  readonly shape: LedgerShape;
  readonly buffer: ArrayBuffer | SharedArrayBuffer;
}

/** The state of the targets, by slot. Changed under the lock only. */
export interface TargetFields {
  readonly open: Tally;
  /** Failures in a row. */
  readonly failures: Int32Array;
  /** 1 if the last active check failed. */
  readonly down: Int32Array;
  /** When the target failed last, in milliseconds. */
  readonly failedAt: Float64Array;
  /** Until when a target that failed is tried last, in milliseconds. */
  readonly lastUntil: Float64Array;
  /** When the slow start ends, in milliseconds. */
  readonly warmAt: Float64Array;
  /** When the target was last picked, in picks of all targets. */
  readonly turn: Float64Array;
  /** 1 where an operator has it take no new connections. */
  readonly draining: Int32Array;
  /** The weight that an operator gave it; 0 for the configuration's. */
  readonly weight: Float64Array;
}

/** Single numbers of the ledger, and their places. Changed under the lock only. */
export const WORD = {
  /** Before this time, in milliseconds, a full table of clients is not swept again. */
  sweepAt: 0,
  /** Picks so far. */
  turns: 1,
} as const;

/** One thread's view of the ledger. */
export class Ledger {
  readonly memory: LedgerMemory;
  /** The thread's number: 0 to `shape.workers` - 1, or -1 for the supervisor of several. */
  readonly worker: number;
  /** Indexed by {@link WORD}. */
  readonly words: Float64Array;
  readonly targets: TargetFields;
  /** Connections of each upstream, those being made included, by its row in the counters. Changed under the lock only. */
  readonly upstreams: Tally;
  readonly clients: ClientTable;
  readonly rules: RuleTable;
  readonly sources: SourceTable;
  /** For the metrics; not under the lock. */
  readonly counters: Counters;
  readonly #lock: Lock;
  readonly #connections: Tally;

  private constructor(shape: LedgerShape, worker: number, buffer?: ArrayBuffer | SharedArrayBuffer) {
    // If there is a supervisor, it counts apart from the workers.
    const threads = shape.workers === 1 ? 1 : shape.workers + 1;
    const own = shape.workers === 1 ? 0 : worker + 1;
    const layout = new Layout(buffer);
    this.worker = worker;
    this.#lock = new Lock(layout.int32(1), own);
    this.words = layout.float64(Object.keys(WORD).length);
    this.#connections = new Tally(layout, 1, threads, own);
    this.targets = {
      open: new Tally(layout, shape.targets, threads, own),
      failures: layout.int32(shape.targets),
      down: layout.int32(shape.targets),
      failedAt: layout.float64(shape.targets),
      lastUntil: layout.float64(shape.targets),
      warmAt: layout.float64(shape.targets),
      turn: layout.float64(shape.targets),
      draining: layout.int32(shape.targets),
      weight: layout.float64(shape.targets),
    };
    this.upstreams = new Tally(layout, ROOM.upstreams, threads, own);
    this.clients = new ClientTable(layout, shape.clients, threads, own);
    this.rules = new RuleTable(layout);
    this.sources = new SourceTable(layout, threads, own);
    this.counters = new Counters(layout, threads, own);
    this.memory = {
      shape,
      buffer: buffer ?? new (shape.workers === 1 ? ArrayBuffer : SharedArrayBuffer)(layout.bytes),
    };
  }

  /** Makes a ledger and returns the maker's view: the supervisor's or, with a single worker, that worker's. */
  static make(shape: LedgerShape): Ledger {
    const { buffer } = new Ledger(shape, -1).memory;
    const ledger = new Ledger(shape, shape.workers === 1 ? 0 : -1, buffer);
    const [first = 0, second = 0] = crypto.getRandomValues(new Int32Array(2));
    ledger.sources.setSeed(first, second);
    return ledger;
  }

  /** A worker's view of a ledger made elsewhere. */
  static attach({ shape, buffer }: LedgerMemory, worker: number): Ledger {
    return new Ledger(shape, worker, buffer);
  }

  /**
   * Waits for the lock and takes it. The code that follows is short and always ends with {@link unlock}. A thread that
   * terminates a worker takes no lock until the worker is gone and {@link forget} was called: it could wait for a dead
   * owner.
   */
  lock(): void {
    this.#lock.take();
  }

  unlock(): void {
    this.#lock.free();
  }

  /** Counts one connection. If all threads together have `most`, counts none and returns false. */
  takeConnection(most: number): boolean {
    this.lock();
    try {
      if (this.connections() >= most) return false;
      this.#connections.add(0, 1);
      return true;
    } finally {
      this.unlock();
    }
  }

  giveBackConnection(): void {
    this.lock();
    try {
      this.#connections.add(0, -1);
    } finally {
      this.unlock();
    }
  }

  /** Connections of all threads together. */
  connections(): number {
    return this.#connections.total[0] as number;
  }

  /**
   * A worker thread has died: frees its lock if it holds it, gives back all that it had counted, and repairs what it
   * may have left unfinished. Call it once the thread certainly runs no more, and before another takes its number.
   * Takes up to some 10 ms with very many clients.
   * @param death how the counters have its connections end
   */
  forget(worker: number, death: Death = { closed: 0, refused: 0, routes: [] }): void {
    const { workers, targets } = this.memory.shape;
    const thread = workers === 1 ? 0 : worker + 1;
    this.#lock.takeFrom(thread);
    try {
      this.#connections.forget(thread, 1);
      this.targets.open.forget(thread, targets);
      this.upstreams.forget(thread, ROOM.upstreams);
      this.clients.forget(thread);
      this.sources.forget(thread);
      this.counters.forget(thread, death);
    } finally {
      this.unlock();
    }
  }
}
