// The token bucket as one number. Time is an argument.

import { expect, test } from "bun:test";
import { changeRule, returnToken, takeToken } from "../../src/state/token-bucket.ts";
import { Random } from "../support/random.ts";

const rule = { capacity: 3, fillRate: 1_000 };

/** Takes a token at each of the times, and returns the times at which it was refused. */
function refusedAt(times: number[], { capacity, fillRate } = rule): number[] {
  let fullAt = 0;
  return times.filter((now) => {
    const next = takeToken(fullAt, now, { capacity, fillRate });
    if (next !== undefined) fullAt = next;
    return next === undefined;
  });
}

test.each([
  ["a full token bucket gives its capacity at once", [0, 0, 0, 0], [0]],
  ["a token bucket gets one token back after the fill rate", [0, 0, 0, 999, 1_000, 1_000], [999, 1_000]],
  ["a token bucket gets tokens back one by one", [0, 0, 0, 2_500, 2_500, 2_500, 3_000], [2_500]],
  ["a token bucket never holds more than its capacity", [0, 0, 0, 1e9, 1e9, 1e9, 1e9], [1e9]],
  ["a token bucket takes no token for a refusal", [0, 0, 0, 1, 2, 3, 1_000], [1, 2, 3]],
])("%s", (_, times, refused) => {
  expect(refusedAt(times)).toEqual(refused);
});

test("a token that is returned can be taken again, at once and only once", () => {
  let fullAt = 0;
  for (let i = 0; i < 3; i++) fullAt = takeToken(fullAt, 0, rule)!;
  expect(takeToken(fullAt, 0, rule)).toBeUndefined();
  fullAt = takeToken(returnToken(fullAt, rule), 0, rule)!;
  expect(fullAt).toBeDefined();
  expect(takeToken(fullAt, 0, rule)).toBeUndefined();
});

test("a token bucket admits exactly what a textbook bucket admits over random schedules", () => {
  for (let seed = 1; seed <= 200; seed++) {
    const random = new Random(seed);
    const { capacity, fillRate } = { capacity: random.int(1, 5), fillRate: random.int(1, 50) };
    let now = random.int(0, 1_000);
    let fullAt = 0;
    // The textbook bucket: a number of tokens, and the time up to which they have been added.
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
  ["a full bucket stays full", 1_000, { capacity: 9, fillRate: 7 }, 1_000],
  ["half a token missing stays half a token", 2_500, { capacity: 3, fillRate: 10 }, 2_005],
  ["a fraction of a millisecond is rounded up", 2_001, { capacity: 3, fillRate: 1_500 }, 2_002],
  ["no more is missing than there is room for", 5_000, { capacity: 2, fillRate: 10 }, 2_020],
  // The second number is the moment at which the bucket is full: 2,000 is now, 500 ms are half a token.
])("a token bucket keeps its missing tokens under a new rule: %s", (_, fullAt, to, expected) => {
  expect(changeRule(fullAt, 2_000, rule, to)).toBe(expected);
});

test("an unlimited token bucket never refuses, and is full when it becomes limited", () => {
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
