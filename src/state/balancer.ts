// Which target a connection goes to: the one with the fewest open, ties broken in turn, failing ones last.
// Pure: time is an argument. A target's open count is the number of its living leases, dialling ones included.

/** How long a target that failed is tried last, in milliseconds. */
export const PENALTY = 2_000;

interface Target {
  open: number;
  /** Failed last time it was tried. */
  suspect: boolean;
  /** Until then a suspect is tried last. */
  lastUntil: number;
}

/** One connection to a target, from the choice until it is over. */
export class TargetLease {
  /** The target's place in the list. */
  readonly index: number;
  readonly #target: Target;
  #held = true;

  constructor(index: number, target: Target) {
    this.index = index;
    this.#target = target;
    target.open++;
  }

  /** The connection is over. Releasing again does nothing. */
  release(): void {
    if (!this.#held) return;
    this.#held = false;
    this.#target.open--;
  }

  /** The target answered: it is in good standing again. */
  succeeded(): void {
    this.#target.suspect = false;
  }

  /** The target refused, broke off or did not answer: it is tried last for a while. Releases the lease. */
  failed(now: number): void {
    this.#target.suspect = true;
    this.#target.lastUntil = now + PENALTY;
    this.release();
  }
}

/** The targets of one upstream. */
export class Balancer {
  readonly #targets: Target[];
  #turn = 0;

  /** @param count number of targets, at least 1 */
  constructor(count: number) {
    this.#targets = Array.from({ length: count }, () => ({ open: 0, suspect: false, lastUntil: 0 }));
  }

  /**
   * Chooses a target and counts it at once, so that simultaneous choices see each other.
   * @param tried places in the list that this connection has tried already
   * @returns undefined where all have been tried
   */
  pick(now: number, tried?: ReadonlySet<number>): TargetLease | undefined {
    const { length } = this.#targets;
    let best: Target | undefined;
    let bestIndex = 0;
    for (let i = 0; i < length; i++) {
      const index = (this.#turn + i) % length;
      const target = this.#targets[index] as Target;
      if (tried?.has(index) || (best !== undefined && !precedes(target, best, now))) continue;
      best = target;
      bestIndex = index;
    }
    if (best === undefined) return undefined;
    this.#turn = (bestIndex + 1) % length;
    // One connection finds out whether a suspect is back; until it has, the others keep trying it last.
    if (best.suspect) best.lastUntil = now + PENALTY;
    return new TargetLease(bestIndex, best);
  }

  /** Connections open to each target, in the order of the list. */
  open(): number[] {
    return this.#targets.map((target) => target.open);
  }
}

function precedes(a: Target, b: Target, now: number): boolean {
  const aLast = a.suspect && now < a.lastUntil;
  const bLast = b.suspect && now < b.lastUntil;
  return aLast === bLast ? a.open < b.open : bLast;
}
