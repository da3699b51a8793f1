// What a node decides by itself where the store does not: each client gets its share of the limits. Pure: time is an argument.
//
// A bucket is the number that state/token-bucket.ts keeps. The same number means the same share of missing tokens in a bucket that is N times
// as small and fills N times as slowly, so that a node takes over where the store has left off, and the store where the node has.

import type { ClientRule } from "../state/limits.ts";

/** What a node knows of a client. */
export interface Known {
  /** Connections that the node has. */
  readonly open: number;
  /** Connections that the store knew of when it answered last: the node keeps as many. */
  readonly agreed: number;
  /** When the bucket is full, by the node's clock; any time that has passed means now. */
  readonly fullAt: number;
}

/**
 * One connection more, without the store.
 * @param nodes among which the limits are shared, at least 1; with 1 the node gives the whole limit
 * @returns when the bucket is full from now on, or why the client is refused
 */
export function judge(
  { open, agreed, fullAt }: Known,
  { capacity, fillRate, maxConnections = Infinity }: ClientRule,
  nodes: number,
  now: number,
): number | "connection_limit" | "rate_limited" {
  const share = Math.max(1, Math.floor(maxConnections / nodes));
  if (open >= Math.max(share, agreed)) return "connection_limit";
  if (capacity === Infinity) return fullAt;
  // A token costs the time in which one comes back. At least one fits into a share.
  const cost = fillRate * nodes;
  const longest = Math.max(capacity * fillRate, cost);
  const next = Math.max(Math.min(fullAt, now + longest), now) + cost;
  return next - now <= longest ? next : "rate_limited";
}

/** How many nodes share, where some have not been heard of for a while: they are still counted for the time of a lease. */
export class Nodes {
  readonly #seen = new Map<string, number>();

  /** These are alive. */
  saw(names: Iterable<string>, now: number): void {
    for (const name of names) this.#seen.set(name, now);
  }

  /** At least 1. While the store is away nobody is heard of, and nobody is forgotten. */
  count(): number {
    return Math.max(1, this.#seen.size);
  }

  /** Forgets those that have been silent for longer than a lease. Call it while the store answers. */
  forget(lease: number, now: number): void {
    for (const [name, at] of this.#seen) if (now - at > lease) this.#seen.delete(name);
  }

  /** A node has left, or has another name. */
  clear(): void {
    this.#seen.clear();
  }

  get names(): string[] {
    return [...this.#seen.keys()].sort();
  }
}
