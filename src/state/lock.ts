// One lock for all threads that share a ledger. Work under it takes about a microsecond, so that a thread first spins
// and only then sleeps. The lock records its owner: a thread can die anywhere, and the thread that cleans up after it
// must know whether it held the lock.

/** Set beside the owner when a thread may be asleep. Owner numbers are below it. */
const SLEEPERS = 0x40000000;

/** How often a thread checks a taken lock before it sleeps; some microseconds. */
const MAX_SPINS = 200;

/** The longest sleep in milliseconds: a thread that was woken may die before it takes the lock. */
const MAX_SLEEP_MS = 10;

/** One thread's handle of the lock. The same thread must not take it twice. */
export class Lock {
  readonly #word: Int32Array;
  readonly #me: number;
  readonly #shared: boolean;

  /**
   * @param word one number: 0 if the lock is free, otherwise its owner
   * @param thread this thread's number, from 0
   */
  constructor(word: Int32Array, thread: number) {
    this.#word = word;
    this.#me = thread + 1;
    this.#shared = word.buffer instanceof SharedArrayBuffer;
  }

  /** Waits until the lock is free and takes it. Does nothing if no memory is shared. */
  take(): void {
    if (this.#shared && Atomics.compareExchange(this.#word, 0, 0, this.#me) !== 0) this.#wait();
  }

  /** Frees the lock, which this thread holds. */
  free(): void {
    if (this.#shared && Atomics.exchange(this.#word, 0, 0) & SLEEPERS) Atomics.notify(this.#word, 0, 1);
  }

  /** Takes the lock from a dead thread, or as usual if that thread does not hold it. */
  takeFrom(thread: number): void {
    if (!this.#shared) return;
    const dead = thread + 1;
    const owner = Atomics.load(this.#word, 0);
    // No other thread frees the lock, but a sleeper may still set its mark.
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
        // Other threads may be asleep too: a thread that has slept sets the mark. The cost is at most one needless
        // wake-up.
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
