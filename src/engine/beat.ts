// A thread's sign of life, for health checks and metrics: that its event loop turns, how late, and how many of its clients'
// certificates end soon. It ticks only where somebody can look.

import type { Connection } from "../connection/connection.ts";
import { monotonic } from "../lib/clock.ts";
import type { Counters } from "../state/counters.ts";

/** How often a thread says that it is alive, in milliseconds. */
export const BEAT_MS = 250;

/** How many beats there are from one count of certificates to the next. */
const BEATS_PER_COUNT = 40;

const HOUR_MS = 3_600_000;
const WITHIN_MS = [HOUR_MS, 24 * HOUR_MS, 7 * 24 * HOUR_MS] as const;

export class Beat {
  readonly #counters: Counters;
  readonly #connections: Iterable<Connection>;
  #timer: Timer | undefined;
  #due = 0;
  #beats = 0;

  /** @param connections of this thread, admitted or not */
  constructor(counters: Counters, connections: Iterable<Connection>) {
    this.#counters = counters;
    this.#connections = connections;
  }

  /** Starts or stops. */
  run(wanted: boolean): void {
    if (wanted === (this.#timer !== undefined)) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    if (!wanted) return this.#counters.rest();
    this.#due = monotonic();
    this.#beat();
    this.#timer = setInterval(() => this.#beat(), BEAT_MS);
    this.#timer.unref();
  }

  #beat(): void {
    const now = monotonic();
    this.#counters.beat(now, Math.max(0, now - this.#due));
    this.#due = now + BEAT_MS;
    if (this.#beats++ % BEATS_PER_COUNT === 0) this.#counters.expiring(this.#expiring(Date.now()));
  }

  #expiring(date: number): [number, number, number] {
    const counts: [number, number, number] = [0, 0, 0];
    for (const { expiresAt } of this.#connections) {
      const left = expiresAt - date;
      if (left > WITHIN_MS[2]) continue;
      WITHIN_MS.forEach((within, i) => {
        if (left <= within) (counts[i] as number)++;
      });
    }
    return counts;
  }
}
