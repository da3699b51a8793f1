// Buffers lines for a reader that may stall. Nothing waits for the reader: lines that it does not take are kept, in
// order and in limited memory. Beyond the limit, lines are dropped and counted, and one line reports it when the reader
// continues. Pure.

/** The largest number of bytes that are kept. */
const MAX_KEPT_BYTES = 1024 * 1024;

export class Backlog {
  readonly #take: (line: string) => boolean;
  readonly #report: (dropped: number) => string;
  readonly #most: number;
  #lines: string[] = [];
  #bytes = 0;
  #dropped = 0;
  #stalled = false;

  /**
   * @param take always takes the line, and returns whether it could take another one before {@link drained} is called
   * @param report returns the line that says how many lines were dropped
   */
  constructor(take: (line: string) => boolean, report: (dropped: number) => string, most = MAX_KEPT_BYTES) {
    this.#take = take;
    this.#report = report;
    this.#most = most;
  }

  /** Whether all lines have been taken, and the last one was delivered. */
  get empty(): boolean {
    return !this.#stalled;
  }

  write(line: string): void {
    if (!this.#stalled) {
      this.#stalled = !this.#take(line);
      return;
    }
    const bytes = Buffer.byteLength(line);
    // After one dropped line, the following ones are dropped too: shorter ones must not come before the line that
    // reports it.
    if (this.#dropped > 0 || this.#bytes + bytes > this.#most) {
      this.#dropped++;
      return;
    }
    this.#lines.push(line);
    this.#bytes += bytes;
  }

  /** The reader has consumed what it had taken. */
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
    this.#dropped = 0;
    this.write(this.#report(dropped));
  }
}
