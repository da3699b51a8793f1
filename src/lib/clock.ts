// The clock that everything but dates goes by. What the runtime offers counts from the start of each thread, so that no
// two threads would agree: a worker thread sets its clock by that of the thread that started it.

let ahead = 0;

/** Whole milliseconds of a clock that only goes forward. */
export function monotonic(): number {
  return Math.floor(performance.now() + ahead);
}

/**
 * Sets this thread's clock by another's, once, before it is used.
 * @param now what the other's has just said; that it was a moment ago makes this one late by that moment, never early
 */
export function setClock(now: number): void {
  ahead = now - performance.now();
}
