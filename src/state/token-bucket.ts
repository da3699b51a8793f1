// The token bucket, as arithmetic on one number per client: the time at which the bucket would be full again.
// This is the generic cell rate algorithm (ITU-T I.371, "virtual scheduling"): no timer refills anything. A bucket
// whose time has passed is full and need not be stored. All times are whole milliseconds of one monotonic clock; sums
// of whole numbers are exact.

/** The size of a bucket and how fast it fills. */
export interface BucketRule {
  /** Tokens in a full bucket, at least 1; Infinity for no limit: nothing is ever taken. */
  readonly capacity: number;
  /** Milliseconds until one token comes back, at least 1. */
  readonly fillRate: number;
}

/**
 * Takes one token.
 * @param fullAt when the bucket is full; any time that has passed means full now
 * @returns the new `fullAt`, or undefined if no whole token is left
 */
export function takeToken(fullAt: number, now: number, rule: BucketRule): number | undefined {
  if (rule.capacity === Infinity) return fullAt;
  const next = Math.max(fullAt, now) + rule.fillRate;
  return next - now <= rule.capacity * rule.fillRate ? next : undefined;
}

/** Whole tokens that are left. */
export function tokensLeft(fullAt: number, now: number, { capacity, fillRate }: BucketRule): number {
  if (capacity === Infinity) return Infinity;
  return Math.max(0, Math.floor(capacity - Math.max(0, fullAt - now) / fillRate));
}

/** Gives back a token that was taken. */
export function returnToken(fullAt: number, rule: BucketRule): number {
  return rule.capacity === Infinity ? fullAt : fullAt - rule.fillRate;
}

/**
 * Converts a bucket to another rule: as many tokens are missing as before, but never more than the new capacity.
 * @returns the new `fullAt`, rounded up to a whole millisecond
 */
export function changeRule(fullAt: number, now: number, from: BucketRule, to: BucketRule): number {
  if (fullAt <= now) return fullAt;
  if (to.capacity === Infinity) return now;
  const wait = Math.ceil(((fullAt - now) * to.fillRate) / from.fillRate);
  return now + Math.min(wait, to.capacity * to.fillRate);
}
