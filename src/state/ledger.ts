// The counts that all worker threads share, and the lock they share them under. The same code serves a single thread,
// whose memory is its own and whose lock does nothing. What the numbers mean is the business of limits.ts and balancer.ts.

import { ClientTable } from "./client-table.ts";
import { Counters, type Death } from "./counters.ts";
import { Lock } from "./lock.ts";
import { Layout } from "./memory.ts";
import { SourceTable } from "./source-table.ts";
import { Tally } from "./tally.ts";

/** How much there is room for. Memory that is not used costs nothing: be generous. */
export interface LedgerShape {
  /** Worker threads, at least 1. With one, the ledger belongs to the thread that made it, and nothing is locked. */
  readonly workers: number;
  /** The most targets, of all upstreams together, at least 1. */
  readonly targets: number;
  /** The most clients at a time that are not idle with a full bucket, 1 to 2^26. */
  readonly clients: number;
}

/** A ledger as it is sent to a worker thread, by structured clone. */
export interface LedgerMemory {
  readonly shape: LedgerShape;
  readonly buffer: ArrayBuffer | SharedArrayBuffer;
}

/** What is known of the targets, by slot. Changed under the lock only. */
export interface TargetFields {
  readonly open: Tally;
  /** Failures in a row. */
  readonly failures: Int32Array;
  /** 1 where the last active check failed. */
  readonly down: Int32Array;
  /** When it failed last, in milliseconds. */
  readonly failedAt: Float64Array;
  /** Until when one that failed is tried last, in milliseconds. */
  readonly lastUntil: Float64Array;
  /** When the slow start is over, in milliseconds. */
  readonly warmAt: Float64Array;
  /** When it was last picked, in picks of all targets. */
  readonly turn: Float64Array;
}

/** Numbers that there is one of, and their places. Changed under the lock only. */
export const WORD = {
  /** The rule that the clients' buckets are kept by: see limits.ts. `fillRate` is 0 until there is one. */
  capacity: 0,
  fillRate: 1,
  maxConnections: 2,
  /** Before then, a full table of clients is not swept again, in milliseconds. */
  sweepAt: 3,
  /** Picks so far. */
  turns: 4,
} as const;

/** One thread's view of the ledger. */
export class Ledger {
  readonly memory: LedgerMemory;
  /** The thread's number: 0 to `shape.workers` - 1, or -1 for the supervisor of several. */
  readonly worker: number;
  /** Where {@link WORD} says. */
  readonly words: Float64Array;
  readonly targets: TargetFields;
  readonly clients: ClientTable;
  readonly sources: SourceTable;
  /** For the metrics; not under the lock. */
  readonly counters: Counters;
  readonly #lock: Lock;
  readonly #connections: Tally;

  private constructor(shape: LedgerShape, worker: number, buffer?: ArrayBuffer | SharedArrayBuffer) {
    // The supervisor counts apart from the workers, where there is one.
    const threads = shape.workers === 1 ? 1 : shape.workers + 1;
    const own = shape.workers === 1 ? 0 : worker + 1;
    const cutter = new Layout(buffer);
    this.worker = worker;
    this.#lock = new Lock(cutter.int32(1), own);
    this.words = cutter.float64(Object.keys(WORD).length);
    this.#connections = new Tally(cutter, 1, threads, own);
    this.targets = {
      open: new Tally(cutter, shape.targets, threads, own),
      failures: cutter.int32(shape.targets),
      down: cutter.int32(shape.targets),
      failedAt: cutter.float64(shape.targets),
      lastUntil: cutter.float64(shape.targets),
      warmAt: cutter.float64(shape.targets),
      turn: cutter.float64(shape.targets),
    };
    this.clients = new ClientTable(cutter, shape.clients, threads, own);
    this.sources = new SourceTable(cutter, threads, own);
    this.counters = new Counters(cutter, threads, own);
    this.memory = {
      shape,
      buffer: buffer ?? new (shape.workers === 1 ? ArrayBuffer : SharedArrayBuffer)(cutter.bytes),
    };
  }

  /** Makes a ledger, and answers the maker's own view: the supervisor's or, with one worker only, that worker's. */
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
   * Waits for the lock and takes it. What follows is short and ends with {@link unlock}, whatever happens. Whoever ends a
   * worker thread takes no lock until the thread is gone and has been forgotten: it might wait for the dead.
   */
  lock(): void {
    this.#lock.take();
  }

  unlock(): void {
    this.#lock.free();
  }

  /** Counts one connection, or none and answers false where all threads together have `most`. */
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
   * A worker thread has died: frees its lock, if it holds it, gives back all that it had counted, and mends what it may
   * have left half done. To be called once it is certain that the thread runs no more, and before another takes its
   * number. Takes up to some 10 ms where there are very many clients.
   * @param death how the counters have its connections end
   */
  forget(worker: number, death: Death = { closed: 0, refused: 0, routes: [] }): void {
    const { workers, targets } = this.memory.shape;
    const thread = workers === 1 ? 0 : worker + 1;
    this.#lock.takeFrom(thread);
    try {
      this.#connections.forget(thread, 1);
      this.targets.open.forget(thread, targets);
      this.clients.forget(thread);
      this.sources.forget(thread);
      this.counters.forget(thread, death);
    } finally {
      this.unlock();
    }
  }
}
