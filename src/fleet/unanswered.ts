// Commands to the store without an answer, the oldest first, with one timer for all of them: what comes too late, or never, is
// missed.

export interface Command {
  /** When it was sent. */
  readonly at: number;
  /** It has counted as missed. */
  missed: boolean;
}

export interface UnansweredOptions {
  /** The time limit of an answer, in milliseconds. */
  readonly timeout: number;
  now(): number;
  missed(why: string): void;
}

export class Unanswered {
  readonly #options: UnansweredOptions;
  readonly #sent: Command[] = [];
  #watching: Timer | undefined;

  constructor(options: UnansweredOptions) {
    this.#options = options;
  }

  /** A command is being sent. */
  add(): Command {
    const { timeout, now } = this.#options;
    const command = { at: now(), missed: false };
    this.#sent.push(command);
    this.#watching ??= setTimeout(this.#watch, timeout + 1);
    return command;
  }

  /**
   * The oldest has its answer.
   * @returns whether it came in time
   */
  answered({ at, missed }: Command): boolean {
    this.#sent.shift();
    const { timeout, now } = this.#options;
    if (missed) return false;
    if (now() - at <= timeout) return true;
    this.#options.missed("answers come too late");
    return false;
  }

  /** None of them is waited for any more. */
  clear(): void {
    clearTimeout(this.#watching);
    this.#watching = undefined;
    this.#sent.length = 0;
  }

  /** Looks at the oldest command without an answer. What has come in already is read first: it may be us who were late. */
  readonly #watch = (): void => {
    setImmediate(() => {
      const { timeout, now } = this.#options;
      this.#watching = undefined;
      const oldest = this.#sent[0];
      if (oldest === undefined) return;
      const age = now() - oldest.at;
      if (age > timeout) {
        oldest.missed = true;
        this.#options.missed("no answer");
      }
      if (this.#sent.length > 0) {
        const wait = age > timeout ? timeout : timeout - age;
        this.#watching = setTimeout(this.#watch, wait + 1);
      }
    });
  };
}
