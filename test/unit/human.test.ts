// Numbers, times and names as people read them.

import { describe, expect, test } from "bun:test";
import { bytes, count, cut, perSecond, shown, span, timeLeft, widthOf } from "../../src/cli/human.ts";
import { INVISIBLE } from "../support/invisible.ts";
import { Random } from "../support/random.ts";

const [SECOND, MINUTE, HOUR, DAY] = [1_000, 60_000, 3_600_000, 86_400_000];

test.each([
  [0, "0s"],
  [999, "0s"],
  [SECOND, "1s"],
  [59 * SECOND + 999, "59s"],
  [MINUTE, "1m"],
  [61 * SECOND, "1m1s"],
  [3 * HOUR + 12 * MINUTE + 59 * SECOND, "3h12m"],
  [DAY - 1, "23h59m"],
  [DAY, "1d"],
  [DAY + 30 * MINUTE, "1d"],
  [10 * DAY - 1, "9d23h"],
  [10 * DAY, "10d"],
  [89.9 * DAY, "89d"],
  [1_000 * DAY, "2y"],
  [-5, "0s"],
  [NaN, "-"],
  [Infinity, "-"],
])("a time of %p ms is shown as %p", (ms, text) => {
  expect(span(ms)).toBe(text);
});

test("a time of less than a thousand years takes six columns at most", () => {
  const random = new Random(1);
  for (let i = 0; i < 10_000; i++) {
    expect(span(2 ** (random.next() * 44.8)).length).toBeLessThanOrEqual(6);
  }
});

test.each([
  ["2026-01-01T00:00:00.000Z", "ended"],
  ["2026-01-02T00:00:00.000Z", "ended"],
  ["2026-01-02T00:00:01.000Z", "1s"],
  ["2026-04-02T00:00:00.000Z", "90d"],
  ["no date", "-"],
])("a certificate that is valid until %s has %s left", (date, text) => {
  expect(timeLeft(date, Date.parse("2026-01-02T00:00:00.000Z"))).toBe(text);
});

test.each([
  [0, "0 B"],
  [999, "999 B"],
  [1_000, "1.0 KiB"],
  [1_024, "1.0 KiB"],
  [1_258_291, "1.2 MiB"],
  [10_239, "10 KiB"],
  [10_188, "9.9 KiB"],
  [10_189, "10 KiB"],
  [999 * 1_024, "999 KiB"],
  [1_000 * 1_024, "1.0 MiB"],
  [2 ** 40, "1.0 TiB"],
  [-1, "0 B"],
])("%p bytes are shown as %p", (value, text) => {
  expect(bytes(value)).toBe(text);
});

test("any count of bytes below 999 PiB takes seven columns at most", () => {
  const random = new Random(2);
  for (let i = 0; i < 10_000; i++)
    expect(bytes(Math.floor(2 ** (random.next() * 59.9))).length).toBeLessThan(8);
});

test.each([
  [0, "0"],
  [999, "999"],
  [1_000, "1,000"],
  [1_234_567, "1,234,567"],
])("the count %p is shown as %p", (value, text) => {
  expect(count(value)).toBe(text);
});

test.each([
  [0, "0/s"],
  [0.25, "0.3/s"],
  [9.94, "9.9/s"],
  [9.96, "10/s"],
  [1_234.5, "1,235/s"],
])("%p a second are shown as %p", (value, text) => {
  expect(perSecond(value)).toBe(text);
});

describe("a text that is too long", () => {
  test.each([
    ["alice@dba", 9, "end", "alice@dba"],
    ["alice@dba", 8, "end", "alice@d…"],
    ["alice@dba", 8, "middle", "alic…dba"],
    ["alice@dba", 7, "middle", "ali…dba"],
    ["alice@dba", 1, "middle", "…"],
    ["alice@dba", 0, "end", ""],
    ["漢字漢字", 8, "end", "漢字漢字"],
    ["漢字漢字", 7, "end", "漢字漢…"],
    ["漢字漢字", 6, "end", "漢字…"],
    ["漢字漢字", 6, "middle", "漢…字"],
    ["e\u0301e\u0301e\u0301", 2, "end", "e\u0301…"],
  ] as const)("%p in %i columns, cut in the %s, is %p", (text, width, where, expected) => {
    expect(cut(text, width, where)).toBe(expected);
  });

  test("never takes more columns than it has", () => {
    const random = new Random(3);
    const parts = ["a", "@", "漢", "e\u0301", "🙂", "…", "é"];
    for (let i = 0; i < 3_000; i++) {
      const text = Array.from({ length: random.int(0, 20) }, () => random.pick(parts)).join("");
      const width = random.int(0, 25);
      const where = random.pick(["end", "middle"] as const);
      expect(widthOf(cut(text, width, where))).toBeLessThanOrEqual(width);
    }
  });
});

describe("a hostile name", () => {
  test.each([
    ["\x1b[2J@x", "\\u001b[2J@x"],
    ["a\nb\rc\td", "a\\u000ab\\u000dc\\u0009d"],
    ["\u202eevil", "\\u202eevil"],
    ["\x9b31m", "\\u009b31m"],
    [undefined, "-"],
    [5, "5"],
  ])("%p is shown as %p", (text, expected) => {
    expect(shown(text)).toBe(expected);
  });

  test.each(INVISIBLE)("%j is shown as text", (char) => {
    expect(shown(`a${char}b`)).toMatch(/^a(\\u[0-9a-f]{4})+b$/);
  });
});
