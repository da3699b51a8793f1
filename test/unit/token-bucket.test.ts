import { expect, test } from "bun:test";
import { changeRule, returnToken, takeToken, tokensLeft } from "../../src/state/token-bucket.ts";
import { Random } from "../support/random.ts";

const rule = { capacity: 3, fillRate: 1_000 };

/** Takes at each of the times; what is left is the list of times at which it was refused. */
function refusedAt(times: number[], { capacity, fillRate } = rule): number[] {
  let fullAt = 0;
  return times.filter((now) => {
    const next = takeToken(fullAt, now, { capacity, fillRate });
    if (next !== undefined) fullAt = next;
    return next === undefined;
  });
}

test.each([
  ["a full bucket gives its capacity at once", [0, 0, 0, 0], [0]],
  ["one token comes back after the fill rate", [0, 0, 0, 999, 1_000, 1_000], [999, 1_000]],
  ["tokens come back one by one", [0, 0, 0, 2_500, 2_500, 2_500, 3_000], [2_500]],
  ["after a long rest it is full, and not more", [0, 0, 0, 1e9, 1e9, 1e9, 1e9], [1e9]],
  ["a refusal costs nothing", [0, 0, 0, 1, 2, 3, 1_000], [1, 2, 3]],
])("%s", (_, times, refused) => {
  expect(refusedAt(times)).toEqual(refused);
});

test("a returned token can be taken again, at once and only once", () => {
  let fullAt = 0;
  for (let i = 0; i < 3; i++) fullAt = takeToken(fullAt, 0, rule)!;
  expect(takeToken(fullAt, 0, rule)).toBeUndefined();
  fullAt = takeToken(returnToken(fullAt, rule), 0, rule)!;
  expect(fullAt).toBeDefined();
  expect(takeToken(fullAt, 0, rule)).toBeUndefined();
});

test("the tokens that are left are as many as can be taken at once", () => {
  const random = new Random(7);
  for (let i = 0; i < 2_000; i++) {
    const each = { capacity: random.int(1, 6), fillRate: random.int(1, 50) };
    const now = random.int(0, 1_000);
    let fullAt = now + random.int(-100, each.capacity * each.fillRate);
    const left = tokensLeft(fullAt, now, each);
    let taken = 0;
    for (let next = takeToken(fullAt, now, each); next !== undefined; next = takeToken(fullAt, now, each)) {
      fullAt = next;
      taken++;
    }
    expect(left).toBe(taken);
  }
  expect(tokensLeft(5, 0, { capacity: Infinity, fillRate: 1 })).toBe(Infinity);
});

test("over any schedule it admits exactly what a bucket that is refilled by hand admits", () => {
  for (let seed = 1; seed <= 200; seed++) {
    const random = new Random(seed);
    const { capacity, fillRate } = { capacity: random.int(1, 5), fillRate: random.int(1, 50) };
    let now = random.int(0, 1_000);
    let fullAt = 0;
    // The same bucket, told as it is in books: tokens and the time up to which they have been added.
    let tokens = capacity;
    let filledUpTo = now;
    for (let step = 0; step < 300; step++) {
      now += random.pick([0, 0, 1, fillRate - 1, fillRate, random.int(0, 4 * fillRate)]);
      while (filledUpTo + fillRate <= now && tokens < capacity) {
        tokens++;
        filledUpTo += fillRate;
      }
      if (tokens === capacity) filledUpTo = now;
      const next = takeToken(fullAt, now, { capacity, fillRate });
      expect({ seed, step, admitted: next !== undefined }).toEqual({ seed, step, admitted: tokens >= 1 });
      if (next !== undefined) {
        fullAt = next;
        tokens--;
      }
    }
  }
});

test.each([
  ["full stays full", 1_000, { capacity: 9, fillRate: 7 }, 1_000],
  ["half a token missing stays half a token", 2_500, { capacity: 3, fillRate: 10 }, 2_005],
  ["what is no whole millisecond is rounded up", 2_001, { capacity: 3, fillRate: 1_500 }, 2_002],
  ["no more is missing than there is room for", 5_000, { capacity: 2, fillRate: 10 }, 2_020],
])("under another rule as many tokens are missing: %s", (_, fullAt, to, expected) => {
  expect(changeRule(fullAt, 2_000, rule, to)).toBe(expected);
});

test("an unlimited bucket gives without end, and owes nothing when it becomes a limited one", () => {
  const unlimited = { capacity: Infinity, fillRate: 1_000 };
  let fullAt = takeToken(0, 5_000, rule)!;
  fullAt = changeRule(fullAt, 5_000, rule, unlimited);
  for (let i = 0; i < 1_000; i++) fullAt = takeToken(fullAt, 5_000, unlimited)!;
  fullAt = returnToken(fullAt, unlimited);
  fullAt = changeRule(fullAt, 5_000, unlimited, rule);
  expect(Number.isInteger(fullAt)).toBe(true);
  for (let i = 0; i < 3; i++) fullAt = takeToken(fullAt, 5_000, rule)!;
  expect(takeToken(fullAt, 5_000, rule)).toBeUndefined();
});
