// The end of a proxy: its ports close, its connections get time to end, and those that are left are cut.

import { FinalCall } from "../lib/final-call.ts";
import type { Logger } from "../lib/log.ts";
import type { Ledger } from "../state/ledger.ts";
import type { Runner } from "./runner.ts";

export class Shutdown {
  readonly #runner: Pick<Runner, "close" | "cut">;
  readonly #ledger: Ledger;
  readonly #log: Logger;
  readonly #deadline = new FinalCall(() => this.#cut());

  constructor(runner: Pick<Runner, "close" | "cut">, ledger: Ledger, log: Logger) {
    this.#runner = runner;
    this.#ledger = ledger;
    this.#log = log;
  }

  /** Closes the ports. */
  begin(): void {
    void this.#runner.close().then(() => {
      const connections = this.#ledger.connections();
      if (connections > 0) this.#log.info("draining", { connections });
    });
  }

  /** Cuts what is left in so many milliseconds, unless the deadline is sooner already. */
  within(ms: number): void {
    this.#deadline.within(ms);
  }

  cancel(): void {
    this.#deadline.cancel();
  }

  #cut(): void {
    const connections = this.#ledger.connections();
    if (connections > 0) this.#log.warn("closing remaining connections", { connections });
    this.#runner.cut();
  }
}
