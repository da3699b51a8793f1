// A call at a deadline that can only be brought forward, such as the end of a shutdown's patience.

import { monotonic } from "./clock.ts";

export class FinalCall {
  readonly #call: () => void;
  #timer: Timer | undefined;
  #at = Infinity;

  constructor(call: () => void) {
    this.#call = call;
  }

  /** Calls in so many milliseconds, unless the deadline is sooner already. */
  within(ms: number): void {
    const at = monotonic() + Math.max(0, ms);
    if (at >= this.#at) return;
    this.#at = at;
    this.cancel();
    this.#timer = setTimeout(this.#call, ms);
  }

  cancel(): void {
    clearTimeout(this.#timer);
  }
}
