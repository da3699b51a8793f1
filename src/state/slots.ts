// Assigns slots of the ledger to targets. The thread that reads the configuration keeps the one directory: a target
// that remains after a reload keeps its slot, and with it its open count and its health.

import { reset } from "./health.ts";
import type { Ledger } from "./ledger.ts";

/** The directory of slots. */
export class Slots {
  readonly #ledger: Ledger;
  #slots = new Map<string, number>();
  /**
   * Where the search for a free slot continues: a slot that has just become free is used last, because not every thread
   * may know.
   */
  #next = 0;

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
  }

  /**
   * Gives each target of a new configuration its slot: the one that it has or a free one, in perfect health. The slot
   * of a removed target becomes free once no connection to it is open.
   * @param keys identify the targets by upstream and address; the same key twice is one target
   * @returns slots by key; undefined if there are too many, and then nothing has changed
   */
  assign(keys: readonly string[]): ReadonlyMap<string, number> | undefined {
    const { open } = this.#ledger.targets;
    const most = this.#ledger.memory.shape.targets;
    const wanted = new Set(keys);
    const kept = [...this.#slots].filter(([key, slot]) => wanted.has(key) || open.total[slot] !== 0);
    const slots = new Map(kept);
    const fresh = [...wanted].filter((key) => !slots.has(key));
    if (slots.size + fresh.length > most) return undefined;
    const taken = new Set(slots.values());
    for (const key of fresh) {
      while (taken.has(this.#next)) this.#next = (this.#next + 1) % most;
      slots.set(key, this.#next);
      this.#reset(this.#next);
      this.#next = (this.#next + 1) % most;
    }
    this.#slots = slots;
    return new Map([...wanted].map((key) => [key, slots.get(key) as number]));
  }

  #reset(slot: number): void {
    this.#ledger.lock();
    try {
      reset(this.#ledger.targets, slot);
    } finally {
      this.#ledger.unlock();
    }
  }
}
