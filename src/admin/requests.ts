// How often operators asked for what, and how it went: a counter of the metrics. The labels are fixed.

/** What can be asked for; `unknown` is anything else. */
export const ACTIONS = [
  "page",
  "status",
  "connections",
  "clients",
  "targets",
  "events",
  "explain",
  "reload",
  "unknown",
] as const;
export type Action = (typeof ACTIONS)[number];

export const RESULTS = ["ok", "refused", "failed"] as const;
/** `refused`: by a rule, with a status from 400 to 499. `failed`: by the proxy itself. */
export type Result = (typeof RESULTS)[number];

/** A count since the start. */
export interface RequestCount {
  readonly action: Action;
  readonly result: Result;
  readonly count: number;
}

export class Requests {
  readonly #counts = new Map<Action, Record<Result, number>>();

  count(action: Action, result: Result): void {
    let counts = this.#counts.get(action);
    if (counts === undefined) this.#counts.set(action, (counts = { ok: 0, refused: 0, failed: 0 }));
    counts[result]++;
  }

  /** Those that there were. */
  read(): RequestCount[] {
    return Array.from(this.#counts, ([action, counts]) =>
      RESULTS.map((result) => ({ action, result, count: counts[result] })),
    )
      .flat()
      .filter(({ count }) => count > 0);
  }
}
