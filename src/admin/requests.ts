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
  "kick",
  "blocks",
  "block",
  "unblock",
  "target",
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

/** Requests since the start. */
export class Requests {
  readonly #counts = new Map<string, number>();

  count(action: Action, result: Result): void {
    const key = `${action} ${result}`;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
  }

  /** Those that there were. */
  all(): RequestCount[] {
    return ACTIONS.flatMap((action) =>
      RESULTS.map((result) => ({ action, result, count: this.read(action, result) })),
    ).filter(({ count }) => count > 0);
  }

  read(action: Action, result: Result): number {
    return this.#counts.get(`${action} ${result}`) ?? 0;
  }
}
