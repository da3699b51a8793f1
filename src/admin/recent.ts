// The refusals of late, by id, so that an operator can ask about one that a client complains of. Bounded: the oldest is
// forgotten first. A line that stands for several refusals has the id of the first one.

import type { EventHub, LogEvent } from "../lib/events.ts";

/** How many are kept: some 5 MB. */
const MAX_REFUSALS = 10_000;

export class RecentRefusals {
  readonly #most: number;
  readonly #byId = new Map<string, LogEvent>();

  constructor(most = MAX_REFUSALS) {
    this.#most = most;
  }

  /** @returns stops it */
  listen(events: EventHub): () => void {
    return events.subscribe((event) => this.add(event));
  }

  /** Keeps it, if it is a refusal. */
  add(event: LogEvent): void {
    const { id } = event.fields;
    if (event.msg !== "refused" || typeof id !== "string") return;
    this.#byId.delete(id);
    this.#byId.set(id, event);
    if (this.#byId.size <= this.#most) return;
    const [oldest] = this.#byId.keys();
    if (oldest !== undefined) this.#byId.delete(oldest);
  }

  find(id: string): LogEvent | undefined {
    return this.#byId.get(id);
  }

  get size(): number {
    return this.#byId.size;
  }
}
