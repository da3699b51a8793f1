// One connection's hold on a target: it counts as open there until the connection is over, and its outcome is reported once.

/** What a lease reports to: the balancer that gave it. Each method takes the target's slot. */
export interface LeaseOwner {
  /** The connection is over. */
  end(slot: number): void;
  /** The target answered. @returns whether it was ejected and is no longer */
  succeeded(slot: number, now: number): boolean;
  /** The target failed, and the connection to it is over. @returns whether this ejected it */
  failed(slot: number, pickedAt: number, now: number): boolean;
  /** For how many milliseconds from now on the target is tried last. */
  triedLast(slot: number, now: number): number;
}

/** One connection to a target, from the choice until the connection is over. */
export class TargetLease {
  /** The target's slot. */
  readonly slot: number;
  readonly #owner: LeaseOwner;
  readonly #pickedAt: number;
  #held = true;
  #answered = false;

  constructor(slot: number, owner: LeaseOwner, pickedAt: number) {
    this.slot = slot;
    this.#owner = owner;
    this.#pickedAt = pickedAt;
  }

  /** Ends the lease. Releasing again does nothing. */
  release(): void {
    if (!this.#held) return;
    this.#held = false;
    this.#owner.end(this.slot);
  }

  /**
   * The target answered: it is in good standing again. A second call, or one after the release, does nothing.
   * @returns whether the target was ejected and is no longer
   */
  succeeded(now: number): boolean {
    if (!this.#held || this.#answered) return false;
    this.#answered = true;
    return this.#owner.succeeded(this.slot, now);
  }

  /**
   * The target refused, broke off or did not answer: it is tried last for a while. Releases the lease.
   * @returns whether this failure ejected the target
   */
  failed(now: number): boolean {
    if (!this.#held) return false;
    this.#held = false;
    return this.#owner.failed(this.slot, this.#pickedAt, now);
  }

  /** For how many milliseconds from now on the target is tried last. */
  triedLast(now: number): number {
    return this.#owner.triedLast(this.slot, now);
  }
}
