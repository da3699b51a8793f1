// Looks at every connection once in each round, a portion at a time: thousands of deadlines checked in one go would
// hold up what is ready meanwhile.

import type { Moment, Round } from "../connection/deadlines.ts";

/** The part of a connection that is needed. */
export interface Ticked {
  tick(moment: Moment, round: Round): void;
}

/** Connections that are looked at in one go: some tenths of a millisecond. */
export const PORTION = 256;

export interface RoundsOptions {
  /** In an order in which new ones come last. */
  readonly connections: ReadonlySet<Ticked>;
  /** Whole milliseconds of a monotonic clock. */
  now(): number;
  /** Called after each round. */
  ended(now: number): void;
  /** Calls back once after this many milliseconds, unless the returned function cancels it. Default: setTimeout. */
  schedule?(call: () => void, ms: number): () => void;
}

export class Rounds {
  readonly #options: Required<RoundsOptions>;
  /** Milliseconds from the beginning of one round to the next; 0 while there are none. */
  #every = 0;
  #cancel: (() => void) | undefined;
  #round: Round = { began: 0, before: 0 };
  /** What this round has to look at yet, and how long it waits between two portions. */
  #left: Iterator<Ticked> | undefined;
  #count = 0;
  #pause = 0;

  constructor(options: RoundsOptions) {
    const schedule = (call: () => void, ms: number) => {
      const timer = setTimeout(call, ms);
      return () => clearTimeout(timer);
    };
    this.#options = { schedule, ...options };
  }

  /** Goes on at this pace. @param every milliseconds for a round; 0 stops */
  run(every: number): void {
    if (every === this.#every) return;
    this.#every = every;
    this.#left = undefined;
    this.#cancel?.();
    if (every > 0) this.#wait(every);
  }

  #wait(ms: number): void {
    this.#cancel = this.#options.schedule(this.#look, ms);
  }

  readonly #look = (): void => {
    const { connections, now, ended } = this.#options;
    const moment = { now: now(), date: Date.now() };
    const every = this.#every;
    if (this.#left === undefined) {
      this.#round = { began: moment.now, before: this.#round.began };
      this.#left = connections.values();
      // Those that come during the round are left to the next one, so that it ends.
      this.#count = connections.size;
      this.#pause = every / Math.max(1, Math.ceil(connections.size / PORTION));
    }
    const left = this.#left;
    for (let i = 0; i < PORTION && this.#count > 0; i++, this.#count--) {
      const { value, done } = left.next();
      if (done === true) this.#count = 1;
      else (value as Ticked).tick(moment, this.#round);
    }
    const isOver = this.#count === 0;
    if (isOver) ended(moment.now);
    // What was called may have stopped the rounds, or begun them anew.
    if (this.#left !== left || this.#every === 0) return;
    if (isOver) this.#left = undefined;
    this.#wait(isOver ? Math.max(1, this.#round.began + every - now()) : this.#pause);
  };
}
