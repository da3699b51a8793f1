// Small ledgers for tests.

import { Ledger, type LedgerShape } from "../../src/state/ledger.ts";

/** A ledger for a single thread, or for the supervisor of several. */
export function small(shape: Partial<LedgerShape> = {}): Ledger {
  return Ledger.make({ workers: 1, targets: 16, clients: 1_024, ...shape });
}
