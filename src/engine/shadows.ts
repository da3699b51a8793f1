// Keeps a thread's shadow over reloads: the one in force, if any, and the clients that it counts.

import type { ListenerState } from "../connection/admission.ts";
import type { Connection } from "../connection/connection.ts";
import { Shadow, type ShadowOptions, type ShadowSnapshot } from "../connection/shadow.ts";
import { inPortions } from "../lib/portions.ts";
import { Ledger } from "../state/ledger.ts";
import { Limits } from "../state/limits.ts";

export class Shadows {
  readonly #options: Omit<ShadowOptions, "limits">;
  readonly #worker: number;
  /** Made when a configuration first has one. */
  #shadow: Shadow | undefined;
  /** Counts the changes: what judges for an older one stops. */
  #changes = 0;

  /** @param worker the thread's number in the ledger */
  constructor(options: Omit<ShadowOptions, "limits">, worker: number) {
    this.#options = options;
    this.#worker = worker;
  }

  /**
   * @param states the listeners in force, by row
   * @returns the shadow from now on, if there is one
   */
  follow(
    snapshot: ShadowSnapshot | undefined,
    states: readonly (ListenerState | undefined)[],
  ): Shadow | undefined {
    this.#changes++;
    if (snapshot === undefined) {
      this.flush();
      return undefined;
    }
    const { ledger, config } = snapshot;
    this.#shadow ??= new Shadow({
      ...this.#options,
      limits: new Limits(Ledger.attach(ledger, this.#worker), config.rateLimit, config.limits),
    });
    this.#shadow.follow(snapshot, states, this.#options.now());
    return this.#shadow;
  }

  /** Has the shadow judge what is open. */
  async judge(shadow: Shadow, connections: Iterable<Connection>): Promise<void> {
    const change = this.#changes;
    const all = [...connections];
    const isCurrent = () => change === this.#changes;
    await inPortions(
      (function* () {
        for (const connection of all) {
          if (!isCurrent()) return;
          connection.judgeBy(shadow);
          yield;
        }
      })(),
    );
  }

  /** Forgets the shadow's clients that have nothing open and a full bucket. */
  sweep(now: number): void {
    this.#shadow?.limits.sweep(now);
  }

  flush(): void {
    this.#shadow?.flush();
  }
}
