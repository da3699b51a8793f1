// Connections that wait for the store, in the order in which their time is up, with one timer for all of them.

import type { Ask } from "./clients.ts";

export class AskDeadlines {
  readonly #now: () => number;
  readonly #expired: (ask: Ask) => void;
  #asks: Ask[] = [];
  #timer: Timer | undefined;

  /** @param expired called for each whose time is up without an answer */
  constructor(now: () => number, expired: (ask: Ask) => void) {
    this.#now = now;
    this.#expired = expired;
  }

  add(ask: Ask): void {
    this.#asks.push(ask);
    this.#timer ??= setTimeout(this.#look, ask.until - this.#now() + 1);
  }

  /** Takes all that have no answer. */
  takeAll(): Ask[] {
    const asks = this.#asks.filter(({ done }) => !done);
    this.#asks = [];
    clearTimeout(this.#timer);
    this.#timer = undefined;
    return asks;
  }

  /** What has come in already is read first: it may be us who were late. */
  readonly #look = (): void => {
    setImmediate(() => {
      this.#timer = undefined;
      const now = this.#now();
      const due = this.#asks.filter(({ done, until }) => !done && until <= now);
      this.#asks = this.#asks.filter(({ done, until }) => !done && until > now);
      const first = this.#asks[0];
      if (first !== undefined) this.#timer = setTimeout(this.#look, first.until - now + 1);
      for (const ask of due) this.#expired(ask);
    });
  };
}
