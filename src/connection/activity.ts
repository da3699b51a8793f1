// Says whether live connections move bytes: then handshakes give way to them. Pure.

/** Live connections have priority for this long after they were seen to move bytes, in milliseconds. */
const LIVE_MS = 100;

export class Activity {
  /** Chunks from targets to clients, after each target's first one. */
  answers = 0;
  #seen = 0;
  #until = 0;

  /** @param now whole milliseconds of a monotonic clock */
  isLive(now: number): boolean {
    if (this.answers !== this.#seen) this.#until = now + LIVE_MS;
    this.#seen = this.answers;
    return now < this.#until;
  }
}
