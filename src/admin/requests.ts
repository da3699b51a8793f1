// Counts what operators ask for, by fixed lists: nothing that comes with a request becomes a label.

/** What can be asked for, through the doors for operators. */
export const ACTIONS = [
  "status",
  "connections",
  "clients",
  "targets",
  "events",
  "page",
  "kick",
  "blocks",
  "block",
  "unblock",
  "target",
  "explain",
  "reload",
  "other",
] as const;
export type Action = (typeof ACTIONS)[number];

/** `refused`: it was understood, and not allowed or not possible. `failed`: it was not understood, or an error kept it from being done. */
export const RESULTS = ["success", "refused", "failed"] as const;
export type Result = (typeof RESULTS)[number];

/** Requests so far. */
export class AdminRequests {
  readonly #counts = new Map<string, number>();

  count(action: Action, result: Result): void {
    const key = `${action} ${result}`;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
  }

  read(action: Action, result: Result): number {
    return this.#counts.get(`${action} ${result}`) ?? 0;
  }
}
