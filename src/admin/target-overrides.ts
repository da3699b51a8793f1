// What operators change of targets over the configuration: which of them drain, and with what weight the others take
// connections.

import { formatAddress } from "../lib/address.ts";
import { quote } from "../lib/errors.ts";
import { OperationError } from "./operation-error.ts";
import type { Override } from "./state-file.ts";
import type { Subject } from "./subject.ts";

/** What is not given stays; a weight of null is the configuration's. */
export interface TargetChange {
  readonly draining?: boolean;
  readonly weight?: number | null;
}

/** Changes of targets that hold now. */
export class TargetOverrides {
  readonly #subject: Pick<Subject, "pools" | "log">;
  #overrides: readonly Override[];

  constructor(subject: Pick<Subject, "pools" | "log">, kept: readonly Override[]) {
    this.#subject = subject;
    this.#overrides = kept;
  }

  get overrides(): readonly Override[] {
    return this.#overrides;
  }

  /**
   * Changes a target over the configuration.
   * @param save records all changes, before this one is in force
   * @throws OperationError if there is no such target
   */
  async set(
    upstream: string,
    target: string,
    { draining, weight }: TargetChange,
    save: (overrides: readonly Override[]) => Promise<void>,
  ): Promise<Override> {
    const found = this.#find(upstream, target);
    if (found === undefined) {
      const names = [...this.#subject.pools.keys()];
      const why = names.includes(upstream)
        ? `${upstream} has no target ${quote(target)}`
        : `there is no upstream ${quote(upstream)}; there are ${names.map((name) => quote(name)).join(", ")}`;
      throw new OperationError("unknown", why);
    }
    const before = found.balancer.override(found.slot);
    const override: Override = {
      upstream,
      target,
      draining: draining ?? before.draining,
      weight: weight === undefined ? before.weight : (weight ?? undefined),
      configured: found.weight,
    };
    const others = this.#overrides.filter((each) => each.upstream !== upstream || each.target !== target);
    const isPlain = !override.draining && override.weight === undefined;
    const overrides = isPlain ? others : [...others, override];
    await save(overrides);
    this.#overrides = overrides;
    found.balancer.setOverride(found.slot, override.draining, override.weight);
    return override;
  }

  /** Where the configuration has another weight for a target than before, it wins. */
  follow(): void {
    const left: Override[] = [];
    let changed = false;
    for (const override of this.#overrides) {
      const { upstream, target, draining, weight, configured } = override;
      const found = this.#find(upstream, target);
      const isGone = found === undefined;
      if (isGone || (weight !== undefined && found.weight !== configured)) {
        changed = true;
        const why = isGone ? "the target is gone" : "the configuration has another weight";
        this.#subject.log.warn("override dropped", { upstream, target, weight, draining, why });
        if (isGone || !draining) {
          found?.balancer.setOverride(found.slot, false, undefined);
          continue;
        }
        left.push({ ...override, weight: undefined, configured: found.weight });
        found.balancer.setOverride(found.slot, true, undefined);
        continue;
      }
      left.push(override);
      found.balancer.setOverride(found.slot, draining, weight);
    }
    if (changed) this.#overrides = left;
  }

  #find(upstream: string, target: string) {
    const pool = this.#subject.pools.get(upstream);
    for (const [slot, { address, weight }] of pool?.targets ?? []) {
      if (formatAddress(address) === target) return { balancer: pool!.balancer, slot, weight };
    }
    return undefined;
  }
}
