// Routing by server name, as tables. Clients may send any bytes.

import { describe, expect, test } from "bun:test";
import { parseServerName, restOf, Router } from "../../src/auth/server-name.ts";
import { Random } from "../support/random.ts";

describe("parseServerName", () => {
  test.each([
    ["db.example.com", "db.example.com"],
    ["DB.Example.COM.", "db.example.com"],
    ["*.example.com", "*.example.com"],
    ["*.COM", "*.com"],
    ["localhost", "localhost"],
    ["_postgres._tcp.example.com", "_postgres._tcp.example.com"],
    ["xn--bcher-kva.example", "xn--bcher-kva.example"],
    ["1and1.example", "1and1.example"],
    [`${"a".repeat(63)}.b`, `${"a".repeat(63)}.b`],
  ])("the configured server name %s is accepted", (text, name) => {
    expect(parseServerName(text)).toBe(name);
  });

  test.each([
    "",
    ".",
    "*",
    "*.",
    "*.*.com",
    "a.*.com",
    "a*.com",
    "**.com",
    ".example.com",
    "example..com",
    "example.com..",
    "*..com",
    "-a.com",
    "a-.com",
    "a b.com",
    "a.com\n",
    "a.com\0",
    "10.0.0.1",
    "*.0.0.1",
    "::1",
    "[::1]",
    "a.com:443",
    "https://a.com",
    "bücher.example",
    // Characters that become a k, an s or an i with a dot when their case is changed.
    "ban\u212a.com",
    "\u017ftate.com",
    "\u0130.com",
    `${"a".repeat(64)}.b`,
    `${"a.".repeat(127)}`.slice(0, -1) + "a",
    5,
    null,
    undefined,
    {},
  ])("the configured server name %p is refused", (text) => {
    expect(parseServerName(text)).toBeUndefined();
  });
});

describe("the router", () => {
  const router = new Router(
    [
      { name: "exact", serverNames: ["db.example.com", "example.com"] },
      { name: "wide", serverNames: ["*.example.com"] },
      { name: "narrow", serverNames: ["*.eu.example.com", "*.xn--bcher-kva.example"] },
      { name: "exact within narrow", serverNames: ["db.eu.example.com"] },
      { name: "others", serverNames: undefined },
    ],
    "others",
  );

  test.each([
    ["db.example.com", "exact"],
    ["DB.EXAMPLE.COM", "exact"],
    ["db.example.com.", "exact"],
    ["example.com", "exact"],
    ["www.example.com", "wide"],
    ["a.b.example.com", "wide"],
    ["eu.example.com", "wide"],
    ["x.eu.example.com", "narrow"],
    ["a.b.eu.example.com.", "narrow"],
    ["db.eu.example.com", "exact within narrow"],
    ["Db.Eu.example.com.", "exact within narrow"],
    ["a.db.eu.example.com", "narrow"],
    ["a.xn--bcher-kva.example", "narrow"],
    ["notexample.com", "others"],
    ["example.com.evil.org", "others"],
    ["com", "others"],
    [undefined, "others"],
    ["", "others"],
  ])("the router sends the server name %p to %p", (asked, upstream) => {
    expect(router.route(asked)).toBe(upstream);
  });

  test.each([
    ".",
    "..",
    ".example.com",
    "..example.com",
    "a..example.com",
    "*.example.com",
    "*.eu.example.com",
    "a.*.example.com",
    "db.example.com..",
    "db.example.com\0",
    "db.example.com\0.evil.org",
    "a\nb.example.com",
    " db.example.com",
    "\u202e.example.com",
    "\u212a.example.com",
    "e\u0301.example.com",
    "\ud800.example.com",
    "db\u3002example.com",
    "__proto__",
    "constructor",
    "a".repeat(100_000),
    "a.".repeat(50_000),
    "10.0.0.1",
  ])("the router sends what is not a host name to the fallback: %p", (asked) => {
    expect(router.route(asked)).toBe("others");
  });

  test("the router has no upstream for other names where there is no fallback", () => {
    const strict = new Router([{ name: "db", serverNames: ["*.example.com"] }], undefined);
    expect(strict.route("a.example.com")).toBe("db");
    for (const asked of [undefined, "", "example.com", "*.example.com", "constructor"]) {
      expect(strict.route(asked)).toBeUndefined();
    }
  });

  test("the router picks the exact name or the longest suffix, whatever the order in the configuration", () => {
    const random = new Random(7);
    const label = () => random.pick(["a", "b", "c"]);
    const name = () => Array.from({ length: random.int(1, 5) }, label).join(".");
    for (let round = 0; round < 300; round++) {
      const names = [...new Set(Array.from({ length: 8 }, () => (random.int(0, 1) ? "*." : "") + name()))];
      const some = new Router(
        names.map((each) => ({ name: each, serverNames: [each] })),
        undefined,
      );
      const asked = name();
      const fitting = names
        .filter((each) => (each.startsWith("*") ? asked.endsWith(each.slice(1)) : asked === each))
        .sort((x, y) => Number(x.startsWith("*")) - Number(y.startsWith("*")) || y.length - x.length);
      expect(some.route(asked)).toBe(fitting[0]);
    }
  });
});

describe("restOf", () => {
  const none = { serverNames: undefined };
  test.each<[string, Parameters<typeof restOf>[0], string[], ReturnType<typeof restOf>]>([
    [
      "is undefined where all upstreams have server names",
      [{ name: "a", serverNames: ["a.b"] }],
      [],
      undefined,
    ],
    [
      "is the upstream without server names",
      [
        { name: "a", serverNames: ["a.b"] },
        { name: "b", ...none },
      ],
      [],
      "b",
    ],
    ["is the only upstream, pinned or not", [{ name: "a", ...none }], ["a"], "a"],
    [
      "is the upstream that is not pinned",
      [
        { name: "a", ...none },
        { name: "b", ...none },
      ],
      ["a"],
      "b",
    ],
    [
      "is undefined where all of several are pinned",
      [
        { name: "a", ...none },
        { name: "b", ...none },
      ],
      ["a", "b"],
      undefined,
    ],
    [
      "is a conflict where there are two",
      [
        { name: "a", ...none },
        { name: "b", ...none },
        { name: "c", ...none },
      ],
      ["b"],
      ["a", "c"],
    ],
  ])("the fallback upstream %s", (_, routes, pinned, rest) => {
    expect(restOf(routes, new Set(pinned))).toEqual(rest);
  });
});
