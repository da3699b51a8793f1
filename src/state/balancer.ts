// Chooses the target of a connection: the one with the fewest open connections for its weight, with ties broken in
// turn. Backups come after the others, and failing targets last. Pure: time is an argument. A target's open count is
// the number of its living leases, dialling ones included. The state of a target is in its slot of the ledger, for all
// threads and over reloads.

import * as health from "./health.ts";
import { WORD, type Ledger } from "./ledger.ts";
import { TargetLease, type LeaseOwner } from "./target-lease.ts";

export { PENALTY_MS, type HealthRule, type TargetHealth } from "./health.ts";
export { Slots } from "./slots.ts";

/** The configuration of one target. */
export interface TargetRule {
  /** Its place in the ledger, assigned by {@link Slots}. */
  readonly slot: number;
  /** More than 0. A target with twice the weight gets twice the connections. */
  readonly weight: number;
  /** Gets connections only while no other target is in good standing. */
  readonly backup: boolean;
  /** Connections that it may have at a time; undefined for no limit. At its limit it is passed over. */
  readonly maxConnections?: number | undefined;
}

/** What is counted of an upstream as a whole. */
export interface UpstreamRule extends health.HealthRule {
  /** Connections that it may have at a time; undefined for no limit. */
  readonly maxConnections?: number | undefined;
}

/** Why there is no target: the upstream has its `maxConnections`, or all targets that are left have theirs. */
export type Full = "upstream_full" | "targets_full";

/** The targets of one upstream, as one thread sees them. */
export class Balancer implements LeaseOwner {
  readonly #ledger: Ledger;
  #targets: readonly TargetRule[];
  #rule: UpstreamRule;
  readonly #row: number;
  #healthChange: boolean | undefined;
  #full: Full | undefined;

  /**
   * @param targets at least one; among targets that were never picked, the first comes first
   * @param row the upstream's in the ledger, where its connections are counted
   */
  constructor(ledger: Ledger, targets: readonly TargetRule[], rule: UpstreamRule, row = 0) {
    this.#ledger = ledger;
    this.#targets = targets;
    this.#rule = rule;
    this.#row = row;
  }

  /** Uses other targets or another rule from now on. Leases of removed targets stay valid. */
  update(targets: readonly TargetRule[], rule: UpstreamRule): void {
    this.#targets = targets;
    this.#rule = rule;
  }

  /**
   * Chooses a target and counts it at once, so that simultaneous choices see each other.
   * @param now whole milliseconds, never less than in an earlier call
   * @param tried slots that this connection has already tried
   * @returns undefined where all have been tried, or take no new connections, or a cap forbids it: see {@link full}
   */
  pick(now: number, tried?: ReadonlySet<number>): TargetLease | undefined {
    const { targets, upstreams, words } = this.#ledger;
    this.#ledger.lock();
    let best: number;
    try {
      best = this.#choose(now, tried);
      if (best === -1) return undefined;
      targets.turn[best] = ++(words[WORD.turns] as number);
      targets.open.add(best, 1);
      upstreams.add(this.#row, 1);
      health.picked(targets, best, this.#rule, now);
    } finally {
      this.#ledger.unlock();
    }
    return new TargetLease(best, this, now);
  }

  /** The slot that {@link pick} would choose at this moment, undefined if none. It takes nothing. */
  peek(now: number): number | undefined {
    this.#ledger.lock();
    try {
      const best = this.#choose(now);
      return best === -1 ? undefined : best;
    } finally {
      this.#ledger.unlock();
    }
  }

  /** Why this thread's last {@link pick} or {@link peek} found no target; undefined where it was not for a cap. */
  get full(): Full | undefined {
    return this.#full;
  }

  /** Called under the lock, as is the next. @returns -1 for none */
  #choose(now: number, tried?: ReadonlySet<number>): number {
    const { maxConnections } = this.#rule;
    const isFull = maxConnections !== undefined && this.openInAll >= maxConnections;
    const best = isFull ? -1 : this.#best(now, tried);
    if (isFull) this.#full = "upstream_full";
    else this.#full = best === -1 && this.#hasFull(tried) ? "targets_full" : undefined;
    return best;
  }

  #best(now: number, tried?: ReadonlySet<number>): number {
    const { targets } = this.#ledger;
    let best = -1;
    let bestTier = Infinity;
    let bestLoad = Infinity;
    for (const target of this.#targets) {
      const { slot } = target;
      if (!this.#isOffered(slot, tried) || this.#isAtCap(target)) continue;
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
    return best;
  }

  #isOffered(slot: number, tried: ReadonlySet<number> | undefined): boolean {
    return !tried?.has(slot) && this.#ledger.targets.draining[slot] === 0;
  }

  #isAtCap({ slot, maxConnections }: TargetRule): boolean {
    return maxConnections !== undefined && this.open(slot) >= maxConnections;
  }

  /** Whether any target was passed over only because it has its `maxConnections`. */
  #hasFull(tried?: ReadonlySet<number>): boolean {
    return this.#targets.some((each) => this.#isOffered(each.slot, tried) && this.#isAtCap(each));
  }

  /** Connections to all targets of the upstream, removed ones included, in all threads. */
  get openInAll(): number {
    return this.#ledger.upstreams.total[this.#row] as number;
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

  /** Called by {@link TargetLease}. */
  triedLast(slot: number, now: number): number {
    return Math.max(0, (this.#ledger.targets.lastUntil[slot] as number) - now);
  }

  /** Whether any target is neither ejected nor down. */
  get healthy(): boolean {
    return this.#targets.some(({ slot }) => this.#isHealthy(slot));
  }

  /**
   * Whether this thread's last change of a target left the upstream without a healthy one (false), or gave it the first
   * one again (true). Undefined if it did neither, and on a second call. Of all threads, only the one that made a
   * change sees it.
   */
  takeHealthChange(): boolean | undefined {
    const change = this.#healthChange;
    this.#healthChange = undefined;
    return change;
  }

  /** The health of a target, for people and their monitoring. */
  health(slot: number, now: number): health.TargetHealth {
    return health.healthOf(this.#ledger.targets, slot, this.#rule, now);
  }

  /**
   * Records an active check's verdict. A target that comes up starts its slow start and loses its failures. A target
   * that never went down cannot come up, and stays ejected while connections to it fail.
   * @returns whether the verdict has changed
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

  /** Called by {@link TargetLease}, as are the next two. */
  end(slot: number): void {
    this.#ledger.lock();
    try {
      this.#giveBack(slot);
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
      this.#giveBack(slot);
      const before = this.#isHealthy(slot);
      return this.#note(slot, before, health.failed(this.#ledger.targets, slot, this.#rule, pickedAt, now));
    } finally {
      this.#ledger.unlock();
    }
  }

  #giveBack(slot: number): void {
    this.#ledger.targets.open.add(slot, -1);
    this.#ledger.upstreams.add(this.#row, -1);
  }

  #isHealthy(slot: number): boolean {
    return health.isHealthy(this.#ledger.targets, slot, this.#rule);
  }

  /** Records whether a change of one target changes the health of the upstream. Called under the lock. */
  #note(slot: number, before: boolean, changed: boolean): boolean {
    const now = changed && this.#isHealthy(slot);
    if (now === before || !changed) return changed;
    const others = this.#targets.filter((target) => target.slot !== slot);
    const isOurs = others.length < this.#targets.length;
    if (isOurs && !others.some((other) => this.#isHealthy(other.slot))) this.#healthChange = now;
    return changed;
  }

  /** The target's tier: 0 in good standing, 1 in good standing and a backup, from 2 on failing, the worst last. */
  #tier({ slot, backup }: TargetRule, now: number): number {
    return 2 * health.failureRank(this.#ledger.targets, slot, now) + (backup ? 1 : 0);
  }

  /** Connections per unit of weight. Equal fractions give equal numbers. */
  #load({ slot, weight }: TargetRule, now: number): number {
    const { targets } = this.#ledger;
    const open = targets.open.total[slot] as number;
    return (
      open / (((targets.weight[slot] as number) || weight) * health.ramp(targets, slot, this.#rule, now))
    );
  }
}
