// Lines for a reader that may stall. Nothing waits for it: what it does not take is kept, in bounded memory and in order;
// beyond that, lines are dropped and counted, and one line says so when it reads again. Pure.

/** The most bytes that are kept. */
const MAX_BYTES = 1024 * 1024;

export class Backlog {
  readonly #take: (line: string) => boolean;
  readonly #report: (dropped: number) => string;
  readonly #most: number;
  #lines: string[] = [];
  #bytes = 0;
  #dropped = 0;
  #droppedBefore = 0;
  #stalled = false;

  /**
   * @param take takes a line, always, and answers whether it could take another one before {@link drained} is called
   * @param report the line that says how many were dropped
   */
  constructor(take: (line: string) => boolean, report: (dropped: number) => string, most = MAX_BYTES) {
    this.#take = take;
    this.#report = report;
    this.#most = most;
  }

  /** Whether all lines have been taken, and what was taken last has gone. */
  get empty(): boolean {
    return !this.#stalled;
  }

  /** Lines dropped so far. */
  get dropped(): number {
    return this.#droppedBefore + this.#dropped;
  }

  write(line: string): void {
    if (!this.#stalled) {
      this.#stalled = !this.#take(line);
      return;
    }
    const bytes = Buffer.byteLength(line);
    // Once a line is dropped so are those after it: shorter ones must not slip in before the line that says so.
    if (this.#dropped > 0 || this.#bytes + bytes > this.#most) {
      this.#dropped++;
      return;
    }
    this.#lines.push(line);
    this.#bytes += bytes;
  }

  /** The reader has taken what it was given. */
  drained(): void {
    this.#stalled = false;
    let taken = 0;
    while (taken < this.#lines.length && !this.#stalled) {
      const line = this.#lines[taken++] as string;
      this.#bytes -= Buffer.byteLength(line);
      this.#stalled = !this.#take(line);
    }
    this.#lines.splice(0, taken);
    if (this.#stalled || this.#dropped === 0) return;
    const dropped = this.#dropped;
    this.#droppedBefore += dropped;
    this.#dropped = 0;
    this.write(this.#report(dropped));
  }
}
