// The clock for everything but dates. The runtime's clock counts from the start of each thread, so that threads would
// disagree: a worker thread sets its clock by that of the thread that started it.

let ahead = 0;

/** Whole milliseconds of a monotonic clock. */
export function monotonic(): number {
  return Math.floor(performance.now() + ahead);
}

/**
 * Sets this thread's clock by another's, once, before its first use.
 * @param now the other clock's latest value; its age makes this clock late by that time, never early
 */
export function setClock(now: number): void {
  ahead = now - performance.now();
}
