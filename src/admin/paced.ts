// Work that is done for each who asks, but only for a part of the time: those who ask while it rests share the next
// answer. Each answer is made after its question.

/** It rests for so many times as long as it took. */
const REST = 10;

/** The longest that it rests, in milliseconds. */
const MAX_REST_MS = 250;

export class Paced<T> {
  readonly #work: () => Promise<T>;
  #next: Promise<T> | undefined;
  /** Fulfilled when the work may be done again. */
  #rested: Promise<unknown> = Promise.resolve();

  constructor(work: () => Promise<T>) {
    this.#work = work;
  }

  /** The answer of the next time that the work is done. */
  next(): Promise<T> {
    return (this.#next ??= this.#begin());
  }

  async #begin(): Promise<T> {
    await this.#rested;
    // A later question may be about what happens from now on.
    this.#next = undefined;
    const startedAt = performance.now();
    const done = this.#work();
    const rest = () => Bun.sleep(Math.min(MAX_REST_MS, REST * (performance.now() - startedAt)));
    this.#rested = done.then(rest, rest);
    return done;
  }
}
