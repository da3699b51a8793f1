// Which target has which slot of the ledger: over reloads a target keeps its slot, and with it its open count and its health.

import { reset } from "./health.ts";
import type { Ledger } from "./ledger.ts";
import { Rows } from "./rows.ts";

/** The directory of slots. A target that is new starts in perfect health; the slot of one that is gone stays until no connection to it is open. */
export class Slots extends Rows {
  constructor(ledger: Ledger) {
    super({
      size: ledger.memory.shape.targets,
      isBusy: (slot) => ledger.targets.open.total[slot] !== 0,
      reset(slot) {
        ledger.counters.resetTarget(slot);
        ledger.lock();
        try {
          reset(ledger.targets, slot);
          ledger.targets.draining[slot] = ledger.targets.weight[slot] = 0;
        } finally {
          ledger.unlock();
        }
      },
    });
  }
}
