// What the shadow's decisions are counted by, and how many there were.

import { REFUSAL_REASONS } from "../lib/reasons.ts";
import type { Counters } from "../state/counters.ts";
import type { RevokedFor } from "./admission.ts";

/** What a configuration says of a client. */
export type Outcome = "allowed" | "refused";

/** What the counters know a decision by: its reason, or "" where both allow the same. */
export const SHADOW_REASONS: readonly (RevokedFor | "")[] = [
  ...(Object.keys(REFUSAL_REASONS) as (keyof typeof REFUSAL_REASONS)[]),
  "upstream_changed",
  "upstream_removed",
  "listener_removed",
  "identity_changed",
  "",
];
export const SHADOW_CODES: ReadonlyMap<string, number> = new Map(
  SHADOW_REASONS.map((reason, i) => [reason, i]),
);

/** The code of what the one in force and the shadow say. */
export function outcomeOf(enforced: Outcome, shadow: Outcome): number {
  return (enforced === "allowed" ? 2 : 0) + (shadow === "allowed" ? 1 : 0);
}

/** So many decisions. */
export interface ShadowCount {
  /** "" where it is unknown. */
  readonly upstream: string;
  readonly enforced: Outcome;
  readonly shadow: Outcome;
  readonly reason: string;
  readonly count: number;
}

/** The decisions of all threads since the start, those that there were. @param upstreams their rows, by name */
export function shadowCounts(counters: Counters, upstreams: ReadonlyMap<string, number>): ShadowCount[] {
  const outcomes: readonly Outcome[] = ["refused", "allowed"];
  return [["", undefined] as const, ...upstreams].flatMap(([upstream, row]) =>
    outcomes.flatMap((enforced) =>
      outcomes.flatMap((shadow) =>
        counters
          .readJudged(row, outcomeOf(enforced, shadow), SHADOW_REASONS.length)
          .map((count, i) => ({ upstream, enforced, shadow, reason: SHADOW_REASONS[i] as string, count }))
          .filter(({ count }) => count > 0),
      ),
    ),
  );
}
