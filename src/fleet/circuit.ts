// When a store that does not answer is given up. Pure: time is an argument.

/** So many misses in a row, no two within a quarter of the time limit, are too many. */
export const MAX_MISSES = 3;

/** Counts answers that did not come in time. */
export class Circuit {
  #misses = 0;
  #lastAt = -Infinity;

  /** An answer has come in time. */
  answered(): void {
    this.#misses = 0;
    this.#lastAt = -Infinity;
  }

  /**
   * An answer did not come in time, or the store has refused to decide. Those that come at about the same time are one: a single
   * hiccup is no reason.
   * @param timeout the time limit of a question, in milliseconds
   * @returns whether the store is to be given up
   */
  missed(now: number, timeout: number): boolean {
    if (now - this.#lastAt >= timeout / 4) this.#misses++;
    this.#lastAt = now;
    return this.#misses >= MAX_MISSES;
  }
}
