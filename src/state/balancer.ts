// Which target a connection goes to: the one with the fewest open for its weight, ties broken in turn, backups after the
// others, failing ones last. Pure: time is an argument. A target's open count is the number of its living leases,
// dialling ones included. What is known of a target is in its slot of the ledger, for all threads and over reloads.

import * as health from "./health.ts";
import { WORD, type Ledger } from "./ledger.ts";

export { PENALTY, type HealthRule, type TargetHealth } from "./health.ts";
export { Slots } from "./slots.ts";

/** What the configuration says of one target. */
export interface TargetRule {
  /** Its place in the ledger, which {@link Slots} gives. */
  readonly slot: number;
  /** More than 0. Twice the weight is worth twice the connections. */
  readonly weight: number;
  /** Gets connections only while no other target is in good standing. */
  readonly backup: boolean;
}

/** One connection to a target, from the choice until it is over. */
export class TargetLease {
  /** The target's slot. */
  readonly slot: number;
  readonly #balancer: Balancer;
  readonly #pickedAt: number;
  #held = true;
  #answered = false;

  constructor(slot: number, balancer: Balancer, pickedAt: number) {
    this.slot = slot;
    this.#balancer = balancer;
    this.#pickedAt = pickedAt;
  }

  /** The connection is over. Releasing again does nothing. */
  release(): void {
    if (!this.#held) return;
    this.#held = false;
    this.#balancer.end(this.slot);
  }

  /**
   * The target answered: it is in good standing again. Said again, or after the release, it does nothing.
   * @returns whether the target was out and is so no more
   */
  succeeded(now: number): boolean {
    if (!this.#held || this.#answered) return false;
    this.#answered = true;
    return this.#balancer.succeeded(this.slot, now);
  }

  /**
   * The target refused, broke off or did not answer: it is tried last for a while. Releases the lease.
   * @returns whether the target ejected from now on, and was not before
   */
  failed(now: number): boolean {
    if (!this.#held) return false;
    this.#held = false;
    return this.#balancer.failed(this.slot, this.#pickedAt, now);
  }

  /** For how many milliseconds from now on the target is tried last. */
  triedLast(now: number): number {
    return this.#balancer.triedLast(this.slot, now);
  }
}

/** The targets of one upstream, as one thread sees them. */
export class Balancer {
  readonly #ledger: Ledger;
  #targets: readonly TargetRule[];
  #rule: health.HealthRule;
  #turn: boolean | undefined;

  /** @param targets at least one; of those that were never picked, the first comes first */
  constructor(ledger: Ledger, targets: readonly TargetRule[], rule: health.HealthRule) {
    this.#ledger = ledger;
    this.#targets = targets;
    this.#rule = rule;
  }

  /** Other targets or rules from now on. Leases of targets that are gone stay good. */
  update(targets: readonly TargetRule[], rule: health.HealthRule): void {
    this.#targets = targets;
    this.#rule = rule;
  }

  /**
   * Chooses a target and counts it at once, so that simultaneous choices see each other.
   * @param now whole milliseconds, never less than in an earlier call
   * @param tried slots that this connection has tried already
   * @returns undefined where all have been tried, or take no new connections
   */
  pick(now: number, tried?: ReadonlySet<number>): TargetLease | undefined {
    const { targets, words } = this.#ledger;
    let best = -1;
    let bestTier = Infinity;
    let bestLoad = Infinity;
    this.#ledger.lock();
    try {
      for (const target of this.#targets) {
        const { slot } = target;
        if (tried?.has(slot) || targets.draining[slot] !== 0) continue;
        const tier = this.#tier(target, now);
        if (tier > bestTier) continue;
        const load = this.#load(target, now);
        if (tier === bestTier) {
          if (load > bestLoad) continue;
          if (load === bestLoad && (targets.turn[slot] as number) >= (targets.turn[best] as number)) continue;
        }
        best = slot;
        bestTier = tier;
        bestLoad = load;
      }
      if (best === -1) return undefined;
      targets.turn[best] = ++(words[WORD.turns] as number);
      targets.open.add(best, 1);
      health.picked(targets, best, this.#rule, now);
    } finally {
      this.#ledger.unlock();
    }
    return new TargetLease(best, this, now);
  }

  /** Connections open to a target, in all threads. */
  open(slot: number): number {
    return this.#ledger.targets.open.total[slot] as number;
  }

  /** What an operator has set for a target: over the configuration, for all threads. */
  override(slot: number): { draining: boolean; weight: number | undefined } {
    const { draining, weight } = this.#ledger.targets;
    return { draining: draining[slot] !== 0, weight: (weight[slot] as number) || undefined };
  }

  /** @param weight undefined for the configuration's */
  setOverride(slot: number, draining: boolean, weight: number | undefined): void {
    const { targets } = this.#ledger;
    this.#ledger.lock();
    try {
      targets.draining[slot] = draining ? 1 : 0;
      targets.weight[slot] = weight ?? 0;
    } finally {
      this.#ledger.unlock();
    }
  }

  /** For {@link TargetLease}. */
  triedLast(slot: number, now: number): number {
    return Math.max(0, (this.#ledger.targets.lastUntil[slot] as number) - now);
  }

  /** Whether any target is neither out nor down. */
  get healthy(): boolean {
    return this.#targets.some(({ slot }) => this.#isHealthy(slot));
  }

  /**
   * Whether this thread's last change of a target left the upstream without a healthy one (false), or gave it the first
   * one again (true). Asked again, and where it did neither: undefined. Over all threads, each such change is seen by the
   * one that made it.
   */
  takeTurn(): boolean | undefined {
    const turn = this.#turn;
    this.#turn = undefined;
    return turn;
  }

  /** How a target does, for people and their monitoring. */
  health(slot: number, now: number): health.TargetHealth {
    return health.healthOf(this.#ledger.targets, slot, this.#rule, now);
  }

  /**
   * An active check's verdict. Coming up begins the slow start and forgets failures; a target that never went down has
   * nothing to come up from, and stays out where connections to it fail.
   * @returns whether the verdict is a new one
   */
  mark(slot: number, up: boolean, now: number): boolean {
    this.#ledger.lock();
    try {
      const before = this.#isHealthy(slot);
      return this.#note(slot, before, health.checked(this.#ledger.targets, slot, up, this.#rule, now));
    } finally {
      this.#ledger.unlock();
    }
  }

  /** For {@link TargetLease}, as are the next two. */
  end(slot: number): void {
    this.#ledger.lock();
    try {
      this.#ledger.targets.open.add(slot, -1);
    } finally {
      this.#ledger.unlock();
    }
  }

  succeeded(slot: number, now: number): boolean {
    this.#ledger.lock();
    try {
      const before = this.#isHealthy(slot);
      return this.#note(slot, before, health.succeeded(this.#ledger.targets, slot, this.#rule, now));
    } finally {
      this.#ledger.unlock();
    }
  }

  failed(slot: number, pickedAt: number, now: number): boolean {
    this.#ledger.lock();
    try {
      this.#ledger.targets.open.add(slot, -1);
      const before = this.#isHealthy(slot);
      return this.#note(slot, before, health.failed(this.#ledger.targets, slot, this.#rule, pickedAt, now));
    } finally {
      this.#ledger.unlock();
    }
  }

  #isHealthy(slot: number): boolean {
    return health.isHealthy(this.#ledger.targets, slot, this.#rule);
  }

  /** Notes whether what has changed for one target is a change for all of them together. Under the lock. */
  #note(slot: number, before: boolean, changed: boolean): boolean {
    const now = changed && this.#isHealthy(slot);
    if (now === before || !changed) return changed;
    const others = this.#targets.filter((target) => target.slot !== slot);
    const isOurs = others.length < this.#targets.length;
    if (isOurs && !others.some((other) => this.#isHealthy(other.slot))) this.#turn = now;
    return changed;
  }

  /** How far back a target stands: 0 in good standing, 1 so and a backup, from 2 on those that fail, the worst last. */
  #tier({ slot, backup }: TargetRule, now: number): number {
    return 2 * health.failureRank(this.#ledger.targets, slot, now) + (backup ? 1 : 0);
  }

  /** Connections per unit of weight. Equal fractions are equal numbers. */
  #load({ slot, weight }: TargetRule, now: number): number {
    const { targets } = this.#ledger;
    const open = targets.open.total[slot] as number;
    return (
      open / (((targets.weight[slot] as number) || weight) * health.ramp(targets, slot, this.#rule, now))
    );
  }
}
