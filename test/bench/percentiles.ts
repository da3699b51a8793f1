// Percentiles of round trips over several rounds, and how many samples one of them wants before it is a figure and not
// noise. Pure.

/** So many samples have to be slower than a percentile: a p99.99 wants 200,000 in all. */
export const SLOWER = 20;

/** A share of samples is faster than the answer; they are sorted. */
export function percentile(sorted: ArrayLike<number>, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!;
}

/**
 * A percentile of several rounds, whose samples are sorted: one for each round where each has enough of them, so that
 * the median leaves out a round that was disturbed; one of all rounds together where only all have enough; else none.
 */
export function percentileOfRounds(rounds: readonly Float64Array[], share: number): number[] {
  // Rounding of the share must not take one sample away.
  const isEnough = (count: number) => count * (1 - share) >= SLOWER - 1e-6;
  if (rounds.every(({ length }) => isEnough(length))) return rounds.map((each) => percentile(each, share));
  const all = together(rounds);
  return isEnough(all.length) ? [percentile(all, share)] : [];
}

/** How many samples there are in all. */
export function countOf(rounds: readonly Float64Array[]): number {
  return rounds.reduce((total, { length }) => total + length, 0);
}

/** All samples, sorted. */
export function together(rounds: readonly Float64Array[]): Float64Array {
  const all = new Float64Array(countOf(rounds));
  let at = 0;
  for (const each of rounds) {
    all.set(each, at);
    at += each.length;
  }
  return all.sort();
}
