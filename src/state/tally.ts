// Counts how many of something are open, in total and per thread, so that a dead thread's share can be given back
// exactly.

import type { Layout } from "./memory.ts";

/** Counts for several things: the targets, the clients, or a single one. Changed under the ledger's lock only. */
export class Tally {
  /** In all threads together, per thing. Never negative. */
  readonly total: Int32Array;
  readonly #perThread: Int32Array;
  readonly #threads: number;
  readonly #own: number;

  /** @param own this thread's number among `threads`, from 0 */
  constructor(layout: Layout, things: number, threads: number, own: number) {
    this.total = layout.int32(things);
    this.#perThread = layout.int32(things * threads);
    this.#threads = threads;
    this.#own = own;
  }

  /** Adds to this thread's count; a negative amount gives back. */
  add(thing: number, amount: number): void {
    (this.#perThread[thing * this.#threads + this.#own] as number) += amount;
    (this.total[thing] as number) += amount;
  }

  /**
   * Gives back all that a thread had of the first `things`. The totals are summed again: the thread may have died
   * between its own count and the total.
   */
  forget(thread: number, things: number): void {
    for (let thing = 0; thing < things; thing++) {
      const from = thing * this.#threads;
      this.#perThread[from + thread] = 0;
      let total = 0;
      for (let i = 0; i < this.#threads; i++) total += this.#perThread[from + i] as number;
      this.total[thing] = total;
    }
  }
}
