// What is counted about the store, for a status and for metrics.

import { StoreFault } from "./resp.ts";
import { Unfit } from "./greeting.ts";

/** Upper bounds of the histogram, in seconds; one more bucket takes the rest. */
export const DURATION_BOUNDS = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
] as const;

/**
 * - `timeout` an answer did not come in time
 * - `connection` the connection failed or ended
 * - `refused` the store refused the password, the user's rights, or is not fit
 * - `full` the store has no memory left
 * - `wrong_type` a key holds something else
 * - `other` any other error of the store
 */
export const STORE_ERRORS = ["timeout", "connection", "refused", "full", "wrong_type", "other"] as const;
export type StoreErrorKind = (typeof STORE_ERRORS)[number];

export class Measures {
  readonly errors: Record<StoreErrorKind, number> = {
    timeout: 0,
    connection: 0,
    refused: 0,
    full: 0,
    wrong_type: 0,
    other: 0,
  };
  /** As {@link DURATION_BOUNDS}, and the rest. Not added up. */
  readonly counts: number[] = Array<number>(DURATION_BOUNDS.length + 1).fill(0);
  /** Seconds, of all answers together. */
  sum = 0;
  lastMs: number | undefined;

  /** The store has decided. */
  took(ms: number): void {
    const seconds = ms / 1_000;
    this.lastMs = ms;
    this.sum += seconds;
    let i = 0;
    while (i < DURATION_BOUNDS.length && seconds > DURATION_BOUNDS[i]!) i++;
    this.counts[i]!++;
  }

  failed(kind: StoreErrorKind): void {
    this.errors[kind]++;
  }
}

/** Which kind of error it is. */
export function kindOf(error: unknown): StoreErrorKind {
  if (error instanceof Unfit) return "refused";
  if (!(error instanceof StoreFault)) return "connection";
  const code = error.message.split(" ", 1)[0];
  if (code === "OOM") return "full";
  if (code === "WRONGTYPE") return "wrong_type";
  if (code === "NOPERM" || code === "NOAUTH" || code === "WRONGPASS") return "refused";
  // What a script may not do is told in the script's name.
  if (/\bOOM\b/.test(error.message)) return "full";
  return /\bNOPERM\b|can't run this command|No permissions/i.test(error.message) ? "refused" : "other";
}
