// One lock for all threads that share a ledger. What is done under it takes about a microsecond, so that a thread first
// spins and only then sleeps. The lock knows its owner: a thread can be ended anywhere, and whoever cleans up after it
// has to know whether it held the lock.

/** Set beside the owner when somebody may be asleep. Owners are below. */
const SLEEPERS = 0x40000000;

/** Looks at a taken lock before a thread goes to sleep; some microseconds. */
const MAX_SPINS = 200;

/** The longest sleep in milliseconds: a thread that was woken may be ended before it takes the lock. */
const MAX_SLEEP_MS = 10;

/** One thread's handle of the lock. Not to be taken twice by the same thread. */
export class Lock {
  readonly #word: Int32Array;
  readonly #me: number;
  readonly #shared: boolean;

  /**
   * @param word one number: 0 where the lock is free, else its owner
   * @param thread this thread's number, from 0
   */
  constructor(word: Int32Array, thread: number) {
    this.#word = word;
    this.#me = thread + 1;
    this.#shared = word.buffer instanceof SharedArrayBuffer;
  }

  /** Waits until the lock is free and takes it. Nothing to do where no memory is shared. */
  take(): void {
    if (this.#shared && Atomics.compareExchange(this.#word, 0, 0, this.#me) !== 0) this.#wait();
  }

  /** Frees the lock, which this thread holds. */
  free(): void {
    if (this.#shared && Atomics.exchange(this.#word, 0, 0) & SLEEPERS) Atomics.notify(this.#word, 0, 1);
  }

  /** Takes the lock from a thread that has died, or as usual where that thread does not hold it. */
  takeFrom(thread: number): void {
    if (!this.#shared) return;
    const dead = thread + 1;
    const owner = Atomics.load(this.#word, 0);
    // No other thread frees it, but a sleeper may still leave its mark.
    if ((owner & ~SLEEPERS) === dead) Atomics.store(this.#word, 0, this.#me | SLEEPERS);
    else this.take();
  }

  #wait(): void {
    const word = this.#word;
    for (let i = 0; i < MAX_SPINS; i++) {
      if (Atomics.load(word, 0) === 0 && Atomics.compareExchange(word, 0, 0, this.#me) === 0) return;
    }
    for (;;) {
      const owner = Atomics.load(word, 0);
      if (owner === 0) {
        // Others may be asleep too: a thread that has slept leaves the mark, at worst for one wake-up in vain.
        if (Atomics.compareExchange(word, 0, 0, this.#me | SLEEPERS) === 0) return;
      } else if (
        (owner & SLEEPERS) !== 0 ||
        Atomics.compareExchange(word, 0, owner, owner | SLEEPERS) === owner
      ) {
        Atomics.wait(word, 0, owner | SLEEPERS, MAX_SLEEP_MS);
      }
    }
  }
}
