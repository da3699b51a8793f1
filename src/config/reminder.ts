// Repeats in the log that the configuration on disk was refused. A single line is soon out of sight, and a proxy that
// runs on its previous configuration cannot start again with the refused one.

import type { Fault } from "../lib/errors.ts";

/** How often to repeat it, in milliseconds. */
const REMIND_INTERVAL_MS = 3_600_000;

/** A fault, or an error that has no key. */
type Trouble = { readonly [name in keyof Fault]: Fault[name] | undefined };

/** The log fields of a configuration that was refused and is still not in force. */
export interface StillRefused extends Trouble {
  /** When the first one was refused, ISO 8601. */
  readonly since: string;
  /** How many faults the last one has; the line names the first of them. */
  readonly faults: number;
}

/** Reminds of a refusal until another configuration is in force or it is stopped. */
export class Reminder {
  readonly #say: (what: StillRefused) => void;
  readonly #every: number;
  #since = "";
  #faults: readonly Trouble[] = [];
  #timer: Timer | undefined;

  constructor(say: (what: StillRefused) => void, every = REMIND_INTERVAL_MS) {
    this.#say = say;
    this.#every = every;
  }

  /** @param faults at least one */
  refused(faults: readonly Trouble[]): void {
    if (this.#timer === undefined) this.#since = new Date().toISOString();
    this.#faults = faults;
    clearInterval(this.#timer);
    this.#timer = setInterval(() => this.#remind(), this.#every);
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #remind(): void {
    const [first] = this.#faults;
    if (first !== undefined) this.#say({ since: this.#since, ...first, faults: this.#faults.length });
  }
}
