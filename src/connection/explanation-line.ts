// A line of an explanation: one step of a decision, in words.

import { quote } from "../lib/errors.ts";

/** One step, in words. */
export interface Line {
  readonly step: string;
  /** Undefined if the step was not checked. */
  readonly ok: boolean | undefined;
  readonly text: string;
  /** The configuration key that decided. */
  readonly key?: string | undefined;
  /** What would change the answer; given only if it is not `ok`. */
  readonly remedy?: string | undefined;
}

/** Quoted, and short enough for a column of a terminal. */
export function short(text: string | undefined): string {
  const quoted = quote(text);
  return quoted.length > MAX_NAME_LENGTH ? `${quoted.slice(0, MAX_NAME_LENGTH)}…` : quoted;
}
const MAX_NAME_LENGTH = 56;
