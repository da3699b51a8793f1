// How durations and addresses are parsed and formatted, and how values are shown in errors.

import { describe, expect, test } from "bun:test";
import { formatAddress, parseListenAddress, parseTarget } from "../../src/lib/address.ts";
import { MAX_DURATION_MS, formatDuration, parseDuration } from "../../src/lib/duration.ts";
import { escapeInvisible, quote } from "../../src/lib/errors.ts";
import { INVISIBLE } from "../support/invisible.ts";

describe("durations", () => {
  test.each([
    ["250ms", 250],
    ["1s", 1_000],
    ["1m30s", 90_000],
    ["1h", 3_600_000],
    ["1h1m1s1ms", 3_661_001],
    ["2h500ms", 7_200_500],
    ["90s", 90_000],
    [1, 1],
    [MAX_DURATION_MS, MAX_DURATION_MS],
  ])("the duration %p is %p ms", (input, ms) => {
    expect(parseDuration(input)).toBe(ms);
  });

  test.each([
    "",
    "5",
    "s",
    "1.5s",
    "-1s",
    "1 s",
    " 1s",
    "1s ",
    "1S",
    "1s1m",
    "1s1s",
    "1d",
    "0s",
    "1e3ms",
    "9999999999999999999h",
    "Infinity",
    0,
    -1,
    1.5,
    NaN,
    Infinity,
    MAX_DURATION_MS + 1,
    null,
    undefined,
    true,
    [[]],
    {},
    5n,
  ])("the duration %p is refused", (input) => {
    expect(parseDuration(input)).toBeUndefined();
  });

  test("a duration that was formatted can be parsed", () => {
    for (const ms of [1, 999, 1_000, 61_000, 3_600_000, 5_025_250, MAX_DURATION_MS])
      expect(parseDuration(formatDuration(ms))).toBe(ms);
  });
});

describe("addresses", () => {
  test.each([
    [":5000", "", 5000],
    ["0.0.0.0:5000", "0.0.0.0", 5000],
    ["127.0.0.1:0", "127.0.0.1", 0],
    ["[::1]:5000", "::1", 5000],
    ["[::]:65535", "::", 65535],
    ["localhost:1", "localhost", 1],
    ["db-1.internal.example.:5432", "db-1.internal.example.", 5432],
  ])("the listen address %p is parsed", (text, hostname, port) => {
    expect(parseListenAddress(text)).toEqual({ hostname, port });
    expect(formatAddress({ hostname, port })).toBe(text);
  });

  test.each([
    "",
    ":",
    "5000",
    ":65536",
    ":-1",
    ":5e3",
    ": 5000",
    "::1:5000",
    "[::1]",
    "[::1]5000",
    "[127.0.0.1]:1",
    "[]:1",
    "256.0.0.1:1",
    "10.0.0:1",
    "a b:1",
    "http://x:1",
    "-x:1",
    "x\n:1",
    "x:1\n",
    1,
    null,
    undefined,
    [[":1"]],
  ])("the listen address %p is refused", (text) => {
    expect(parseListenAddress(text)).toBeUndefined();
  });

  test("a target address needs a host and a port", () => {
    expect(parseTarget("[::1]:80")).toEqual({ hostname: "::1", port: 80 });
    for (const text of [":80", "10.0.0.1:0", "10.0.0.1", "10.0.0.1:"])
      expect(parseTarget(text)).toBeUndefined();
  });

  test("an IPv4 address of an IPv6 socket is written as IPv4", () => {
    expect(formatAddress({ hostname: "::ffff:10.0.0.1", port: 1 })).toBe("10.0.0.1:1");
    expect(formatAddress({ hostname: "::ffff:0:1", port: 1 })).toBe("[::ffff:0:1]:1");
  });
});

describe("values in errors", () => {
  test.each([
    ["x", '"x"'],
    [undefined, "nothing"],
    [null, "null"],
    [1.5, "1.5"],
    [[1], "a list"],
    [{}, "a table"],
    ["a\nb\x1b[31m\u202e", '"a\\nb\\u001b[31m\\u202e"'],
    ["x".repeat(100), `"${"x".repeat(79)}…`],
  ])("the value %p is shown as %p", (value, text) => {
    expect(quote(value)).toBe(text);
  });

  test("invisible characters are escaped, visible ones are not", () => {
    expect(escapeInvisible("a\x7f\x9b\u2028\u200b\ufeff\ud800é漢🙂")).toBe(
      "a\\u007f\\u009b\\u2028\\u200b\\ufeff\\ud800é漢🙂",
    );
  });

  test("of ASCII, control characters are escaped and nothing else", () => {
    for (let code = 0; code < 128; code++) {
      const char = String.fromCharCode(code);
      const escape = `\\u${code.toString(16).padStart(4, "0")}`;
      expect(escapeInvisible(char)).toBe(code < 32 || code === 127 ? escape : char);
    }
  });

  test.each(INVISIBLE)("the invisible character %j is escaped, and the space is not", (char) => {
    const escaped = escapeInvisible(`a ${char}b`);
    expect(escaped).toMatch(/^a (\\u[0-9a-f]{4}){1,2}b$/);
    expect(JSON.parse(`"${escaped}"`)).toBe(`a ${char}b`);
  });
});
