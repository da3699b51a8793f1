// The threads that carry connections: which there are, whether each one is alive, and what to do when one does not answer.

import { monotonic } from "../lib/clock.ts";
import type { Subject } from "./subject.ts";

/** How long a thread may take for an answer, in milliseconds. */
const ANSWER_WAIT_MS = 5_000;

/** A thread whose last sign of life is older, in milliseconds, hangs. It gives one four times a second. */
const ALIVE_WITHIN_MS = 2_000;

/** Their numbers. */
export function threadsOf({ ledger }: Pick<Subject, "ledger">): number[] {
  return [...Array(ledger.memory.shape.workers).keys()];
}

/** The columns of these threads in the counters, in their order. With several workers, the first one is the supervisor's. */
export function columnsOf(subject: Pick<Subject, "ledger">): number[] {
  const threads = threadsOf(subject);
  return threads.length === 1 ? [0] : threads.map((thread) => thread + 1);
}

/** Whether a thread's event loop turns. */
export function isAlive({ ledger }: Pick<Subject, "ledger">, thread: number): boolean {
  // This is the thread.
  if (ledger.memory.shape.workers === 1) return true;
  return monotonic() - ledger.counters.readThread(thread + 1).beat < ALIVE_WITHIN_MS;
}

/** An answer, or "late" where it does not come in time. */
export async function answered<T>(answer: Promise<T>): Promise<T | "late"> {
  let timer: Timer | undefined;
  const late = new Promise<"late">((resolve) => {
    timer = setTimeout(() => resolve("late"), ANSWER_WAIT_MS);
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
